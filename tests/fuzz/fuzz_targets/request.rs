//! What clients send: every public request is decoded, and what is decoded is checked as far as nothing is done yet. What
//! passes the checks can be made into what follows: a runtime spec, a plan, a record.
//!
//! The input is a request's bytes, or its JSON, which is easier to change in a meaningful way.
#![no_main]

use std::fmt::Debug;
use std::sync::OnceLock;

use davit_controller::container::{fuzz, signal};
use davit_proto::{build, container, image, network, system, types, volume};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

const CONFIG: &[u8] =
    br#"{"os":"linux","architecture":"amd64","config":{"Cmd":["sh"],"Volumes":{"/data":{}}}}"#;

// Which request, and the request; behind a line of `%` an image's configuration.
fuzz_target!(|input: &[u8]| {
    let Some((kind, input)) = input.split_first() else { return };
    let end = input.windows(3).position(|bytes| bytes == b"\n%\n");
    let (wire, config) = end.map_or((input, CONFIG), |end| (&input[..end], &input[end + 3..]));
    match kind % 16 {
        0..=2 => {
            drop(read::<container::CreateRequest>(wire).and_then(|request| fuzz::create(&request, config)))
        }
        3 => update(wire, config),
        4 => {
            if let Some(container::ConnectRequest { endpoint, links, .. }) = read(wire) {
                fuzz::connect(&endpoint.unwrap_or_default(), links);
            }
        }
        5 => {
            if let Some(container::TopRequest { columns, .. }) = read(wire) {
                fuzz::top(&columns);
            }
            if let Some(container::KillRequest { signal: text, .. }) = read(wire) {
                assert!(signal::parse(&text).is_none_or(|number| (1..=64).contains(&number)), "a signal");
            }
        }
        6 => read(wire).into_iter().for_each(davit_network::fuzz::create),
        7 => read(wire).into_iter().for_each(davit_network::fuzz::attach),
        8 => read(wire).into_iter().for_each(davit_network::fuzz::detach),
        9 => read(wire).into_iter().for_each(davit_volume::fuzz::create),
        10 => {
            if let Some(volume::PrepareRequest { uses, .. }) = read(wire) {
                davit_volume::fuzz::prepare(uses);
            }
        }
        11 => read(wire).into_iter().for_each(davit_build::fuzz::open),
        12 => read(wire).into_iter().for_each(davit_build::fuzz::prune),
        13 => {
            if let Some(container::ListRequest { filters, .. }) = read(wire) {
                conditions(filters);
            }
        }
        _ => decode_each(wire),
    }
});

/// A change of a container: the first message is the container's wish, the second one the change's.
fn update(wire: &[u8], change: &[u8]) {
    let Some(spec) = read::<container::ContainerSpec>(wire) else { return };
    let request = container::CreateRequest { spec: Some(spec), ..container::CreateRequest::default() };
    if let (Some(made), Some(change)) = (fuzz::create(&request, CONFIG), read(change)) {
        fuzz::update(&made, &change);
    }
}

fn conditions(filters: Vec<types::Filter>) {
    for filter in &filters {
        let _ = davit_controller::filter::matches(&filter.value, &filter.key);
    }
    let pairs: Vec<_> = filters.iter().map(|filter| (filter.key.clone(), filter.value.clone())).collect();
    let _ =
        (davit_image::filter::Filter::parse_prune(&pairs), davit_image::filter::Filter::parse_keep(&pairs));
    davit_network::fuzz::filter(filters.clone());
    davit_volume::fuzz::filter(filters);
}

/// A message of its bytes, or of its JSON. What is read is the same when it is written and read again.
fn read<M: Message + Name + Default + PartialEq + Debug>(wire: &[u8]) -> Option<M> {
    if wire.first() != Some(&b'{') {
        return decode(wire);
    }
    let descriptor = pool().get_message_by_name(M::NAME).expect("it is one of ours");
    let message =
        DynamicMessage::deserialize(descriptor, &mut serde_json::Deserializer::from_slice(wire)).ok()?;
    Some(decode(&message.encode_to_vec()).expect("what was encoded can be decoded"))
}

fn decode<M: Message + Default + PartialEq + Debug>(wire: &[u8]) -> Option<M> {
    let message = M::decode(wire).ok()?;
    assert_eq!(M::decode(message.encode_to_vec().as_slice()).as_ref(), Ok(&message));
    Some(message)
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(davit_proto::DESCRIPTORS).expect("our own"))
}

/// A message's full name.
trait Name {
    const NAME: &'static str;
}

impl Name for container::CreateRequest {
    const NAME: &'static str = "davit.container.v1.CreateRequest";
}
impl Name for container::ContainerSpec {
    const NAME: &'static str = "davit.container.v1.ContainerSpec";
}
impl Name for container::UpdateRequest {
    const NAME: &'static str = "davit.container.v1.UpdateRequest";
}
impl Name for container::ConnectRequest {
    const NAME: &'static str = "davit.container.v1.ConnectRequest";
}
impl Name for container::TopRequest {
    const NAME: &'static str = "davit.container.v1.TopRequest";
}
impl Name for container::KillRequest {
    const NAME: &'static str = "davit.container.v1.KillRequest";
}
impl Name for container::ListRequest {
    const NAME: &'static str = "davit.container.v1.ListRequest";
}
impl Name for network::CreateRequest {
    const NAME: &'static str = "davit.network.v1.CreateRequest";
}
impl Name for network::AttachRequest {
    const NAME: &'static str = "davit.network.v1.AttachRequest";
}
impl Name for network::DetachRequest {
    const NAME: &'static str = "davit.network.v1.DetachRequest";
}
impl Name for volume::CreateRequest {
    const NAME: &'static str = "davit.volume.v1.CreateRequest";
}
impl Name for volume::PrepareRequest {
    const NAME: &'static str = "davit.volume.v1.PrepareRequest";
}
impl Name for build::BuildOpen {
    const NAME: &'static str = "davit.build.v1.BuildOpen";
}
impl Name for build::PruneRequest {
    const NAME: &'static str = "davit.build.v1.PruneRequest";
}

/// Bytes as each request in turn.
fn decode_each(wire: &[u8]) {
    let _ = decode::<container::AttachRequest>(wire);
    let _ = decode::<container::CommitRequest>(wire);
    let _ = decode::<container::ConnectRequest>(wire);
    let _ = decode::<container::CopyInRequest>(wire);
    let _ = decode::<container::CopyOutRequest>(wire);
    let _ = decode::<container::CopyStatRequest>(wire);
    let _ = decode::<container::CreateRequest>(wire);
    let _ = decode::<container::DiffRequest>(wire);
    let _ = decode::<container::DisconnectRequest>(wire);
    let _ = decode::<container::ExecRequest>(wire);
    let _ = decode::<container::ExportRequest>(wire);
    let _ = decode::<container::InspectRequest>(wire);
    let _ = decode::<container::KillRequest>(wire);
    let _ = decode::<container::ListRequest>(wire);
    let _ = decode::<container::LogsRequest>(wire);
    let _ = decode::<container::PauseRequest>(wire);
    let _ = decode::<container::PruneRequest>(wire);
    let _ = decode::<container::RemoveRequest>(wire);
    let _ = decode::<container::RenameRequest>(wire);
    let _ = decode::<container::ResizeRequest>(wire);
    let _ = decode::<container::RestartRequest>(wire);
    let _ = decode::<container::ResumeRequest>(wire);
    let _ = decode::<container::RunRequest>(wire);
    let _ = decode::<container::SeenRequest>(wire);
    let _ = decode::<container::StartRequest>(wire);
    let _ = decode::<container::StatsRequest>(wire);
    let _ = decode::<container::StopRequest>(wire);
    let _ = decode::<container::TopRequest>(wire);
    let _ = decode::<container::UpdateRequest>(wire);
    let _ = decode::<container::WaitRequest>(wire);
    let _ = decode::<container::WhyRequest>(wire);
    let _ = decode::<image::CommitRequest>(wire);
    let _ = decode::<image::DiskUsageRequest>(wire);
    let _ = decode::<image::GetCollectionRequest>(wire);
    let _ = decode::<image::HistoryRequest>(wire);
    let _ = decode::<image::InspectManifestRequest>(wire);
    let _ = decode::<image::InspectRequest>(wire);
    let _ = decode::<image::ListHoldersRequest>(wire);
    let _ = decode::<image::ListRequest>(wire);
    let _ = decode::<image::LoadRequest>(wire);
    let _ = decode::<image::LoginRequest>(wire);
    let _ = decode::<image::PrepareRequest>(wire);
    let _ = decode::<image::PruneRequest>(wire);
    let _ = decode::<image::PullRequest>(wire);
    let _ = decode::<image::PushRequest>(wire);
    let _ = decode::<image::ReleaseRequest>(wire);
    let _ = decode::<image::RemoveRequest>(wire);
    let _ = decode::<image::SaveRequest>(wire);
    let _ = decode::<image::SearchRequest>(wire);
    let _ = decode::<image::TagRequest>(wire);
    let _ = decode::<volume::CloneVolumeRequest>(wire);
    let _ = decode::<volume::CreateRequest>(wire);
    let _ = decode::<volume::DiskUsageRequest>(wire);
    let _ = decode::<volume::ExportRequest>(wire);
    let _ = decode::<volume::ImportRequest>(wire);
    let _ = decode::<volume::InspectRequest>(wire);
    let _ = decode::<volume::ListDriversRequest>(wire);
    let _ = decode::<volume::ListHoldersRequest>(wire);
    let _ = decode::<volume::ListRequest>(wire);
    let _ = decode::<volume::PrepareRequest>(wire);
    let _ = decode::<volume::PruneRequest>(wire);
    let _ = decode::<volume::ReleaseRequest>(wire);
    let _ = decode::<volume::RemoveRequest>(wire);
    let _ = decode::<network::AttachRequest>(wire);
    let _ = decode::<network::CheckRequest>(wire);
    let _ = decode::<network::CreateRequest>(wire);
    let _ = decode::<network::DetachRequest>(wire);
    let _ = decode::<network::InspectRequest>(wire);
    let _ = decode::<network::ListHoldersRequest>(wire);
    let _ = decode::<network::ListRequest>(wire);
    let _ = decode::<network::PruneRequest>(wire);
    let _ = decode::<network::PublishRequest>(wire);
    let _ = decode::<network::ReleaseRequest>(wire);
    let _ = decode::<network::RemoveRequest>(wire);
    let _ = decode::<network::RenameRequest>(wire);
    let _ = decode::<system::DiskUsageRequest>(wire);
    let _ = decode::<system::InfoRequest>(wire);
    let _ = decode::<system::VersionRequest>(wire);
    let _ = decode::<system::WatchRequest>(wire);
    let _ = decode::<build::BuildRequest>(wire);
    let _ = decode::<build::DiskUsageRequest>(wire);
    let _ = decode::<build::PruneRequest>(wire);
}
