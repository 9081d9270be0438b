//! What the fuzz targets reach of the controller: what is checked and made of a request before anything is done, and
//! what recovery reads of a container's files. No engine is around them.

use std::path::Path;

use davit_proto::container::{Container, ContainerSpec, CreateRequest, EndpointSpec, UpdateRequest};
use davit_proto::id::ContainerId;
use davit_proto::journal::entries;
use davit_proto::store::ContainerRecord;
use davit_proto::types;
use davit_proto::volume::Volume;
use prost::Message as _;

use super::bundle::{self, Bundle};
use super::commit::config;
use super::spec::{
    Devices, Held, Host, ImageConfig, Input, build, capability, held, mounts, resolve, resource,
};
use super::{journal, mount, publish, top, validate};
use crate::store::record;

/// A wish for a container and an image's configuration: as far as the runtime spec. Answers with the container that it
/// would be.
#[must_use]
pub fn create(request: &CreateRequest, image: &[u8]) -> Option<Container> {
    validate::create(request).ok()?;
    let spec = request.spec.as_ref()?;
    let config = ImageConfig::parse(image).ok()?;
    let host = host();
    let resolved = resolve(spec, &config, &id(), &host).ok()?;
    let wanted = mounts::plan(spec, &config).ok()?;
    let held = answers(&wanted);
    let made = build(&Input {
        spec,
        resolved: &resolved,
        rootfs: &overlay(),
        wanted: &wanted,
        held: &held,
        devices: &Devices::default(),
        bundle: Path::new("/bundle"),
        cgroup_path: "/davit/x",
        host: &host,
        linked: &[],
        ids: None,
    });
    let statuses = held::statuses(&wanted, &held);
    assert_eq!(statuses.len(), wanted.len());
    if let Ok(made) = made {
        let text = serde_json::to_vec(&made).expect("a runtime spec can be written");
        assert_eq!(serde_json::from_slice::<oci_spec::runtime::Spec>(&text).ok().as_ref(), Some(&made));
    }
    let container = Container {
        id: id().into(),
        name: request.name.clone(),
        spec: Some(spec.clone()),
        labels: resolved.labels.into_iter().collect(),
        status: Some(davit_proto::container::ContainerStatus { mounts: statuses, ..Default::default() }),
        ..Container::default()
    };
    let _ = config::merged(&container, image);
    keep(&container);
    Some(container)
}

/// What is to be made can be written down, and read again.
fn keep(container: &Container) {
    let record = ContainerRecord {
        version: record::VERSION,
        container: Some(container.clone()),
        ..ContainerRecord::default()
    };
    let text = bundle::spec_json(&record).expect("what was accepted can be written down");
    assert_eq!(bundle::record_of(&text).expect("what was written can be read"), record);
    let stored = record.encode_to_vec();
    assert_eq!(record::decode(&stored).expect("what was written can be read"), record);
}

/// A wish to change a container.
pub fn update(container: &Container, request: &UpdateRequest) {
    let _ = mount::check(container, &request.mount_add, &request.mount_remove);
    let wanted = publish::Wanted { add: request.publish_add.clone(), remove: request.publish_remove.clone() };
    if let Ok(spec) = publish::check(container, &wanted) {
        validate::ports(&spec).expect("what was checked is right");
    }
    let _ = request.resources.as_ref().map(resource::check);
    let spec = ContainerSpec { restart: request.restart, ..ContainerSpec::default() };
    let _ = validate::restart(&spec);
}

/// A wish to join a network.
pub fn connect(endpoint: &EndpointSpec, links: Vec<String>) {
    if validate::endpoint(endpoint).is_ok() {
        let networks = vec![endpoint.clone()];
        let _ = validate::joins(&ContainerSpec { networks, links, ..ContainerSpec::default() });
    }
}

/// Options of ps(1).
pub fn top(options: &[String]) {
    if let Ok(columns) = top::column::chosen(options) {
        assert!(!columns.is_empty(), "there is something to be shown");
    }
}

/// A record as the store keeps it, with the files that recovery reads of its container's folder: the journal `life` and
/// the record `exit`. What was read of it can be written as `spec.json`, and read again.
pub fn record(stored: &[u8], bundle: &Bundle) {
    let Ok(mut known) = record::decode(stored) else { return };
    // A time that is none can be in no document.
    if bundle.write_spec(&known).is_ok() {
        assert_eq!(bundle.read_spec().expect("what was written can be read").as_ref(), Some(&known));
    }
    replay(&mut known, bundle);
}

/// All that recovery reads of a container's folder.
pub fn bundle(bundle: &Bundle) {
    if let Ok(Some(wanted)) = bundle.read_wanted() {
        bundle.write_wanted(&wanted).expect("what was read can be written");
        assert_eq!(bundle.read_wanted().expect("what was written can be read"), Some(wanted));
    }
    let _ = (bundle.read_config(), bundle.last_start());
    if let Ok(Some(mut known)) = bundle.read_spec() {
        let _ = crate::store::record_id(&known);
        replay(&mut known, bundle);
    }
}

/// What a journal says, entered twice: the second time nothing is news.
fn replay(known: &mut ContainerRecord, bundle: &Bundle) {
    let exit = bundle.read_exit().ok().flatten();
    let life = bundle.read_life().expect("it is short").unwrap_or_default();
    let all: Vec<_> = entries(&life).collect();
    for (place, entry) in all.iter().enumerate() {
        let born = journal::is_born(entry, &all[place + 1..], 0);
        let exit = exit.as_ref().filter(|exit| exit.life == entry.life);
        let facts = journal::Facts { exit, born: born.unwrap_or(true) };
        let _ = journal::enter(known, entry, &facts);
        assert!(journal::enter(known, entry, &facts).is_none(), "an entry is told once");
    }
}

/// What the services might answer.
fn answers(wanted: &[mounts::Wanted]) -> Held {
    let mut held = Held::default();
    for (place, wish) in held::uses(wanted).into_iter().enumerate() {
        let source = format!("/volume/{place}/data");
        let options = vec!["rbind".to_owned()];
        let (name, driver) = (format!("v{place}"), wish.driver);
        held.volumes.mounts.push(types::Mount {
            r#type: "bind".to_owned(),
            source,
            target: wish.target,
            options,
        });
        held.volumes.volumes.push(Volume { name, driver, ..Volume::default() });
    }
    for _ in held::images(wanted) {
        held.images.push(davit_proto::image::MountedImage {
            rootfs: Some(overlay()),
            ..davit_proto::image::MountedImage::default()
        });
    }
    held
}

fn overlay() -> types::Mount {
    types::Mount {
        r#type: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: "/".to_owned(),
        options: vec!["lowerdir=/l/2".to_owned(), "lowerdir=/l/1".to_owned()],
    }
}

/// A host with every right.
fn host() -> Host {
    Host {
        capabilities: capability::from_mask(u64::MAX),
        oom_score_adj: 0,
        nofile: 1 << 20,
        core: u64::MAX,
        hostname: "host".to_owned(),
        platform: "linux/amd64".to_owned(),
        thermal: Vec::new(),
        cpus: 4,
        mqueue: false,
        online_cpus: vec![(0, 3)],
        online_mems: vec![(0, 0)],
        memory: 8 << 30,
        legacy_memory: true,
    }
}

fn id() -> ContainerId {
    "0123456789ab".repeat(6)[..64].parse().expect("64 hexadecimal digits")
}
