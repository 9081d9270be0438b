//! Disk space of all that the engine keeps: what the services say of theirs, and what the containers wrote.
//!
//! Read only: nothing waits for it, and it waits for nobody's operation. A part that does not answer is told of, and
//! does not hide the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use davit_proto::container::Container;
use davit_proto::id::ContainerId;
use davit_proto::image::{self, ImageUsage};
use davit_proto::status::{RemoteError, chain};
use davit_proto::system::{DiskUsageRequest, DiskUsageResponse, KindUsage};
use davit_proto::volume::{self, VolumeUsage};
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::container::live::{is_live, status_of};
use crate::container::size;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::within;

/// How long a service may take to count; its own walks end before.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long all containers together may take.
const CONTAINERS: Duration = Duration::from_secs(60);
/// Containers that are measured at the same time: more would only compete for the disk.
const WIDTH: usize = 4;
/// Objects of one frame.
const FRAME: usize = 100;

/// One kind of objects: its sums, its objects, and what could not be counted.
#[derive(Debug)]
struct Part<T> {
    kind: KindUsage,
    objects: Vec<T>,
    warnings: Vec<String>,
}

impl<T> Part<T> {
    fn new(kind: &str) -> Self {
        let kind = KindUsage { kind: kind.to_owned(), ..KindUsage::default() };
        Self { kind, objects: Vec::new(), warnings: Vec::new() }
    }

    fn failed(kind: &str, error: &Error) -> Self {
        let warning = format!("the disk space of {kind}s cannot be told: {}", chain(error));
        Self { warnings: vec![warning], ..Self::new(kind) }
    }
}

/// Disk space of everything, in frames.
pub async fn disk_usage(engine: &Arc<Engine>, request: DiskUsageRequest) -> Vec<DiskUsageResponse> {
    let verbose = request.verbose;
    let (images, containers, volumes) =
        tokio::join!(images(engine, verbose), containers(engine), volumes(engine));
    let (images, cache) =
        images.unwrap_or_else(|error| (Part::failed("image", &error), Part::<()>::new("build-cache")));
    let containers = containers.unwrap_or_else(|error| Part::failed("container", &error));
    let volumes = volumes.unwrap_or_else(|error| Part::failed("volume", &error));
    let mut frames = vec![DiskUsageResponse {
        kinds: vec![images.kind, containers.kind, volumes.kind, cache.kind],
        warnings: [images.warnings, containers.warnings, volumes.warnings].concat(),
        ..DiskUsageResponse::default()
    }];
    if verbose {
        let page = |fill: &dyn Fn(&mut DiskUsageResponse)| {
            let mut frame = DiskUsageResponse::default();
            fill(&mut frame);
            frame
        };
        frames.extend(images.objects.chunks(FRAME).map(|some| page(&|frame| frame.images = some.to_vec())));
        frames.extend(
            containers.objects.chunks(FRAME).map(|some| page(&|frame| frame.containers = some.to_vec())),
        );
        frames.extend(volumes.objects.chunks(FRAME).map(|some| page(&|frame| frame.volumes = some.to_vec())));
    }
    frames
}

/// The images, and what only steps of builds need of what lies with them.
async fn images(engine: &Arc<Engine>, verbose: bool) -> Result<(Part<ImageUsage>, Part<()>), Error> {
    let mut part = Part::new("image");
    let mut cache = Part::new("build-cache");
    let mut client = engine.images();
    let request = image::DiskUsageRequest { verbose };
    let mut frames = within(PATIENCE, "measure the images", client.disk_usage(request)).await?;
    let mut partial = false;
    let read = async {
        while let Some(frame) = frames.message().await? {
            let kind = &mut part.kind;
            kind.total += frame.images;
            kind.active += frame.active;
            kind.bytes += frame.layer_bytes + frame.blob_bytes + frame.other_bytes;
            kind.reclaimable_bytes += frame.reclaimable_bytes;
            partial |= frame.partial;
            cache.kind.total += frame.steps;
            cache.kind.active += frame.active_steps;
            cache.kind.bytes += frame.step_bytes;
            cache.kind.reclaimable_bytes += frame.step_reclaimable_bytes;
            part.objects.extend(frame.usages);
        }
        Ok::<_, RemoteError>(tonic::Response::new(()))
    };
    within(PATIENCE, "measure the images", read).await?;
    if partial {
        part.warnings.push("not all layers could be counted in time: images take more".to_owned());
    }
    part.kind.bytes = part.kind.bytes.saturating_sub(cache.kind.bytes);
    Ok((part, cache))
}

async fn containers(engine: &Arc<Engine>) -> Result<Part<Container>, Error> {
    let until = Instant::now() + CONTAINERS;
    let mut part = Part::new("container");
    let measured = stream::iter(engine.containers().0.into_iter().map(|container| async move {
        let id: ContainerId = container.id.parse()?;
        Ok::<_, Error>((size::of(engine, &id, until).await, container))
    }));
    let mut measured = std::pin::pin!(measured.buffered(WIDTH));
    let mut partial = 0_u64;
    while let Some(answer) = measured.next().await {
        let (size, mut container) = answer?;
        let size = size.unwrap_or_else(|error| {
            part.warnings.push(chain(&error));
            size::Size::default()
        });
        partial += u64::from(size.layer.partial || size.logs.partial);
        let status = container.status.get_or_insert_default();
        (status.size_rw, status.size_disk) = (size.layer.bytes, size.disk());
        let active = is_live(status_of(&container).phase());
        part.kind.total += 1;
        part.kind.active += u64::from(active);
        part.kind.bytes += size.disk();
        part.kind.reclaimable_bytes += if active { 0 } else { size.disk() };
        part.objects.push(container);
    }
    if partial > 0 {
        part.warnings.push(format!("not all files of {partial} containers could be counted: they take more"));
    }
    Ok(part)
}

async fn volumes(engine: &Arc<Engine>) -> Result<Part<VolumeUsage>, Error> {
    let mut part = Part::new("volume");
    let mut client = engine.volumes();
    let request = volume::DiskUsageRequest::default();
    let mut frames = within(PATIENCE, "measure the volumes", client.disk_usage(request)).await?;
    let read = async {
        while let Some(frame) = frames.message().await? {
            part.objects.extend(frame.usages);
        }
        Ok::<_, RemoteError>(tonic::Response::new(()))
    };
    within(PATIENCE, "measure the volumes", read).await?;
    for usage in &part.objects {
        let used = usage.volume.as_ref().is_some_and(|volume| !volume.container_ids.is_empty());
        // What lies on a server is not this host's to know or to give back.
        let bytes = usage.size_bytes.unwrap_or(0);
        part.kind.total += 1;
        part.kind.active += u64::from(used);
        part.kind.bytes += bytes;
        part.kind.reclaimable_bytes += if used { 0 } else { bytes };
    }
    Ok(part)
}
