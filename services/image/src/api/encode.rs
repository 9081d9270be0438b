//! Between the wire's words and ours.

use std::path::PathBuf;
use std::time::SystemTime;

use davit_proto::id::Digest;
use davit_proto::image as wire;
use davit_proto::time::timestamp;
use davit_proto::types::{Filter, Mount};
use prost::Message as _;

use crate::archive::Format;
use crate::commit;
use crate::document::Platform;
use crate::error::Error;
use crate::filter::Condition;
use crate::gc::Collector;
use crate::list::{HistoryStep, Summary};
use crate::manifest::Part;
use crate::mounted::PreparedImage;
use crate::prepare::Prepared;
use crate::pull::{LayerProgress, LayerState, Progress, Pulled, Request};
use crate::reference::ImageRef;
use crate::registry::{Credential, Found, Secret};
use crate::remove::Removed;
use crate::search;
use crate::store::{StoreError, not_reserved};
use crate::usage::{DiskUsage, StepUsage};

/// Most images of one frame, and about how many bytes.
const PAGE: usize = 100;
/// Characters that are told of a step.
const DESCRIPTION: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;

pub(super) fn pull_request(request: wire::PullRequest) -> Result<Request, Error> {
    let credential = credential(request.credential);
    let reference = match request.all_tags {
        true => ImageRef::parse_bare(&request.reference)?,
        false => request.reference.parse()?,
    };
    not_reserved(&reference)?;
    let step = match request.step.as_str() {
        "" => None,
        step => Some(step_name(step)?),
    };
    Ok(Request { reference, platform: platform(request.platform), credential, step })
}

/// The name of a step, and nothing else.
fn step_name(text: &str) -> Result<ImageRef, Error> {
    let reference: ImageRef = text.parse()?;
    if !davit_proto::step::is_step(&reference.to_string()) {
        return Err(Error::Invalid { field: "step", rule: "must be the name of a step" });
    }
    Ok(reference)
}

pub(super) fn search_request(request: wire::SearchRequest) -> search::Request {
    search::Request {
        registry: request.registry,
        term: request.term,
        limit: request.limit as usize,
        conditions: conditions(request.filters),
        credential: credential(request.credential),
    }
}

pub(super) fn found(found: Found) -> wire::FoundImage {
    let Found { name, description, stars, official, automated } = found;
    wire::FoundImage { name, description, stars, official, automated }
}

pub(super) fn part(part: Part) -> wire::InspectManifestResponse {
    wire::InspectManifestResponse {
        reference: part.reference,
        digest: part.manifest.digest.into(),
        media_type: part.manifest.media_type,
        content: part.manifest.bytes,
        platform: part.platform.map(wire_platform),
    }
}

fn wire_platform(Platform { os, architecture, variant }: Platform) -> wire::Platform {
    wire::Platform { os, architecture, variant }
}

/// An empty credential is none.
pub(super) fn credential(credential: Option<wire::Credential>) -> Option<Credential> {
    let wire::Credential { username, password, identity_token } = credential?;
    if !identity_token.is_empty() {
        return Some(Credential::IdentityToken(Secret::new(identity_token)));
    }
    let is_some = !username.is_empty() || !password.is_empty();
    is_some.then(|| Credential::Password { username, password: Secret::new(password) })
}

/// An empty platform is none.
pub(super) fn platform(platform: Option<wire::Platform>) -> Option<Platform> {
    let wire::Platform { os, architecture, variant } = platform?;
    if os.is_empty() && architecture.is_empty() {
        return None;
    }
    let os = if os.is_empty() { "linux".to_owned() } else { os };
    Some(Platform { os, architecture, variant })
}

pub(super) fn commit_request(open: wire::CommitOpen) -> Result<commit::Request, Error> {
    let reference = match open.reference.as_str() {
        "" => None,
        text => Some(text.parse::<ImageRef>()?),
    };
    if let Some(reference) = reference.as_ref().filter(|reference| reference.digest().is_some()) {
        return Err(StoreError::TagDigest(reference.to_string()).into());
    }
    let created = match open.created_at {
        None => jiff::Timestamp::now(),
        Some(time) => jiff::Timestamp::new(time.seconds, time.nanos).map_err(|_| Error::Invalid {
            field: "created_at",
            rule: "must be in the years -9999 to 9999",
        })?,
    };
    let words = commit::Words {
        author: open.author,
        comment: open.comment,
        created_by: open.created_by,
        earlier: open.earlier,
        created: created.to_string(),
    };
    Ok(commit::Request {
        base: open.base,
        config: open.config.to_vec(),
        changes: open.changes.join("\n"),
        words,
        history: open.history.to_vec(),
        reference,
        platform: platform(open.platform),
        empty_layer: open.empty_layer,
        compressed: open.compressed,
    })
}

pub(super) fn committed(committed: commit::Committed) -> wire::CommitResponse {
    wire::CommitResponse {
        image_id: committed.image_id.into(),
        digest: committed.digest.into(),
        reference: committed.reference.map(|reference| reference.to_string()).unwrap_or_default(),
        diff_id: committed.diff_id.map(String::from).unwrap_or_default(),
    }
}

pub(super) fn conditions(filters: Vec<Filter>) -> Vec<Condition> {
    filters.into_iter().map(|filter| (filter.key, filter.value)).collect()
}

pub(super) fn format(format: wire::ArchiveFormat) -> Result<Format, Error> {
    match format {
        wire::ArchiveFormat::Unspecified | wire::ArchiveFormat::Docker => Ok(Format::Docker),
        wire::ArchiveFormat::Oci => Ok(Format::Oci),
    }
}

pub(super) fn progress_of_pull(progress: Progress) -> wire::PullResponse {
    use wire::pull_response::Event;
    let event = match progress {
        Progress::Resolved { reference, digest, layers } => {
            Event::Resolved(resolved(reference, digest, layers))
        }
        Progress::Layer(progress) => Event::Layer(layer(progress)),
        Progress::Pulled(one) => return pulled(one),
        Progress::PassedOver { reference, reason } => {
            Event::PassedOver(wire::PassedOver { reference, reason })
        }
        Progress::Pushed(_) => return wire::PullResponse { event: None },
    };
    wire::PullResponse { event: Some(event) }
}

pub(super) fn push_request(request: wire::PushRequest) -> Result<crate::push::Request, Error> {
    let credential = credential(request.credential);
    let reference = ImageRef::parse_bare(&request.reference)?;
    let steps = request.steps.iter().map(|step| step_name(step)).collect::<Result<_, _>>()?;
    Ok(crate::push::Request { reference, all_tags: request.all_tags, credential, steps })
}

pub(super) fn progress_of_push(progress: Progress) -> wire::PushResponse {
    use wire::push_response::Event;
    let event = match progress {
        Progress::Resolved { reference, digest, layers } => {
            Event::Resolved(resolved(reference, digest, layers))
        }
        Progress::Layer(progress) => Event::Layer(layer(progress)),
        Progress::Pushed(pushed) => Event::Pushed(wire::Pushed {
            reference: pushed.reference,
            digest: pushed.digest.into(),
            size: pushed.size,
            part_of: pushed.part_of.map(String::from).unwrap_or_default(),
        }),
        Progress::Pulled(_) | Progress::PassedOver { .. } => return wire::PushResponse { event: None },
    };
    wire::PushResponse { event: Some(event) }
}

fn resolved(reference: String, digest: Digest, layers: Vec<Digest>) -> wire::Resolved {
    let layers = layers.into_iter().map(String::from).collect();
    wire::Resolved { reference, digest: digest.into(), layers }
}

pub(super) fn pulled(pulled: Pulled) -> wire::PullResponse {
    let pulled = wire::Pulled {
        reference: pulled.reference,
        digest: pulled.digest.into(),
        image_id: pulled.image_id.into(),
        up_to_date: pulled.up_to_date,
    };
    wire::PullResponse { event: Some(wire::pull_response::Event::Pulled(pulled)) }
}

/// A load resolves no reference, so only layers move on.
pub(super) fn progress_of_load(progress: Progress) -> wire::LoadResponse {
    let event = match progress {
        Progress::Resolved { .. }
        | Progress::Pushed(_)
        | Progress::Pulled(_)
        | Progress::PassedOver { .. } => None,
        Progress::Layer(progress) => Some(wire::load_response::Event::Layer(layer(progress))),
    };
    wire::LoadResponse { event }
}

pub(super) fn loaded(name: String) -> wire::LoadResponse {
    wire::LoadResponse { event: Some(wire::load_response::Event::Loaded(name)) }
}

fn layer(progress: LayerProgress) -> wire::LayerProgress {
    let state = match progress.state {
        LayerState::Waiting => wire::LayerState::Waiting,
        LayerState::Downloading => wire::LayerState::Downloading,
        LayerState::Unpacking => wire::LayerState::Unpacking,
        LayerState::Complete => wire::LayerState::Complete,
        LayerState::Exists => wire::LayerState::Exists,
        LayerState::Pushing => wire::LayerState::Pushing,
        LayerState::Pushed => wire::LayerState::Pushed,
        LayerState::Mounted => wire::LayerState::Mounted,
        LayerState::Skipped => wire::LayerState::Skipped,
    };
    wire::LayerProgress {
        digest: progress.digest.into(),
        state: state.into(),
        current: progress.current,
        total: progress.total,
        mounted_from: progress.from,
    }
}

pub(super) fn image(summary: Summary) -> wire::Image {
    wire::Image {
        id: summary.image.id().to_string(),
        references: summary.references,
        digests: summary.digests,
        created_at: summary.image.created().map(timestamp),
        size: summary.size,
        labels: summary.image.config.config.labels.clone().into_iter().collect(),
        platform: Some(wire_platform(summary.image.config.platform.clone())),
        container_ids: summary.container_ids.into_iter().map(String::from).collect(),
    }
}

/// As lists show it: without the names by which builds find their steps, unless everything is to be shown; none when it
/// has no other name.
pub(super) fn shown(mut summary: Summary, all: bool) -> Option<wire::Image> {
    let listed = summary.listed;
    if all {
        summary.references.append(&mut summary.steps);
    }
    (all || listed).then(|| image(summary))
}

/// Labels may be long, so a frame is full by bytes too.
pub(super) fn pages(images: Vec<wire::Image>) -> impl Iterator<Item = wire::ListResponse> + Send {
    let mut images = images.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut page = wire::ListResponse::default();
        let mut bytes = 0;
        while let Some(next) = images.next_if(|_| page.images.len() < PAGE && bytes < PAGE_BYTES) {
            bytes += next.encoded_len();
            page.images.push(next);
        }
        (!page.images.is_empty()).then_some(page)
    })
}

/// What is collected by itself, and how it went.
pub(super) fn collection(collector: &Collector) -> wire::GetCollectionResponse {
    let last = collector.last().map(|run| wire::CollectionRun {
        at: Some(timestamp(run.at)),
        images: run.images,
        loose: run.loose,
        freed_bytes: run.freed,
        trouble: run.trouble,
    });
    wire::GetCollectionResponse { policy: collector.policy().sentences(), last }
}

/// The sums, and then the images where they are wanted.
pub(super) fn disk_usage(
    usage: DiskUsage,
    verbose: bool,
) -> impl Iterator<Item = wire::DiskUsageResponse> + Send {
    let sums = wire::DiskUsageResponse {
        images: usage.images.len() as u64,
        active: usage.active,
        layer_bytes: usage.layer_bytes,
        blob_bytes: usage.blob_bytes,
        other_bytes: usage.other_bytes,
        reclaimable_bytes: usage.reclaimable_bytes,
        partial: usage.partial,
        steps: usage.steps.len() as u64,
        active_steps: usage.steps.iter().filter(|step| step.in_use).count() as u64,
        step_bytes: usage.step_bytes,
        step_reclaimable_bytes: usage.step_reclaimable_bytes,
        ..wire::DiskUsageResponse::default()
    };
    let (images, steps) = if verbose { (usage.images, usage.steps) } else { Default::default() };
    let mut steps = steps.into_iter().map(step_usage).peekable();
    let steps = std::iter::from_fn(move || {
        steps.peek()?;
        let step_usages = steps.by_ref().take(PAGE).collect();
        Some(wire::DiskUsageResponse { step_usages, ..wire::DiskUsageResponse::default() })
    });
    let mut usages = images.into_iter().map(|usage| wire::ImageUsage {
        image: Some(image(usage.summary)),
        bytes: usage.bytes,
        shared_bytes: usage.shared_bytes,
    });
    let pages = std::iter::from_fn(move || {
        let mut page = wire::DiskUsageResponse::default();
        let mut bytes = 0;
        while page.usages.len() < PAGE && bytes < PAGE_BYTES {
            let Some(usage) = usages.next() else { break };
            bytes += usage.encoded_len();
            page.usages.push(usage);
        }
        (!page.usages.is_empty()).then_some(page)
    });
    std::iter::once(sums).chain(pages).chain(steps)
}

fn step_usage(usage: StepUsage) -> wire::StepUsage {
    let step = usage.image.config.history.last();
    let description: String =
        step.map(|step| step.created_by.chars().take(DESCRIPTION).collect()).unwrap_or_default();
    wire::StepUsage {
        reference: usage.reference,
        image_id: usage.image.id().to_string(),
        description,
        bytes: usage.bytes,
        shared_bytes: usage.shared_bytes,
        in_use: usage.in_use,
        layers: u32::try_from(usage.image.diff_ids().len()).unwrap_or(u32::MAX),
        created_at: usage.image.created().map(timestamp),
        used_at: Some(timestamp(usage.used_at)),
    }
}

pub(super) fn inspected(summary: Summary, paths: Vec<PathBuf>) -> wire::InspectResponse {
    wire::InspectResponse {
        config: summary.image.config_bytes.clone(),
        manifest: summary.image.manifest_bytes.clone(),
        layer_paths: paths.iter().rev().map(|path| path.display().to_string()).collect(),
        diff_ids: summary.image.diff_ids().iter().map(ToString::to_string).collect(),
        image: shown(summary.clone(), false).or_else(|| shown(summary, true)),
    }
}

pub(super) fn step(step: HistoryStep) -> wire::HistoryStep {
    wire::HistoryStep {
        image_id: step.image_id.map(String::from).unwrap_or_default(),
        created_at: step.created.map(|time: SystemTime| timestamp(time)),
        created_by: step.created_by,
        size: step.size,
        comment: step.comment,
        references: step.references,
    }
}

pub(super) fn removed(removed: Removed) -> wire::Removed {
    use wire::removed::What;
    let what = match removed {
        Removed::Untagged(reference) => What::Untagged(reference),
        Removed::Deleted(digest) => What::Deleted(digest.into()),
    };
    wire::Removed { what: Some(what) }
}

fn layers(rootfs: crate::snapshot::Mount) -> Mount {
    Mount {
        r#type: rootfs.kind.to_owned(),
        source: rootfs.source,
        target: "/".to_owned(),
        options: rootfs.options,
    }
}

pub(super) fn prepared(prepared: Prepared, further: Vec<PreparedImage>) -> wire::PrepareResponse {
    let mounted = further.into_iter().map(|mounted| wire::MountedImage {
        image_id: mounted.image.id().to_string(),
        reference: mounted.reference,
        rootfs: Some(layers(mounted.rootfs)),
    });
    wire::PrepareResponse {
        mounted: mounted.collect(),
        image_id: prepared.image.id().to_string(),
        reference: prepared.reference,
        rootfs: Some(layers(prepared.rootfs)),
        config: prepared.image.config_bytes.clone(),
    }
}
