//! What a container is made of: its image's layers and configuration, its volumes, its bind sources. The services
//! answer with mounts as data; nothing is mounted here.

use std::sync::Arc;

use davit_proto::container::{Container, ContainerSpec, MountKind, MountStatus};
use davit_proto::id::ContainerId;
use davit_proto::status::{ErrorKind, RemoteError, chain};
use davit_proto::{image, types, volume};

use super::copy;
use super::spec::held::{self, Held};
use super::spec::{self, Devices, ImageConfig, Resolved, Wanted, mounts, source};
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint;
use crate::shim::{LONG, within};

/// All that the second half of a start is made from.
#[derive(Debug)]
pub struct Content {
    /// Image id.
    pub image_id: String,
    /// The layers.
    pub rootfs: types::Mount,
    /// Request and image together.
    pub resolved: Resolved,
    /// The plan of the mounts.
    pub wanted: Vec<Wanted>,
    /// The services' answers, in the order of the plan.
    pub held: Held,
    /// What each mount came to.
    pub mounts: Vec<MountStatus>,
    /// Devices found on the host.
    pub devices: Devices,
}

/// Has image and volumes held for a container, and finds what it wants of the host.
///
/// # Errors
/// When image, volume or bind source do not exist, or do not fit the request.
pub async fn hold(engine: &Arc<Engine>, id: &ContainerId, container: &Container) -> Result<Content, Error> {
    let wish = container.spec.clone().unwrap_or_default();
    // A tag may have moved since the container was made; the id has not.
    let name = if container.image_id.is_empty() { &wish.image } else { &container.image_id };
    let request = image::PrepareRequest {
        container_id: id.to_string(),
        image: name.clone(),
        ..image::PrepareRequest::default()
    };
    let image = engine.images().prepare(request).await;
    let image = image.map_err(|status| of_image_service(status.into()))?.into_inner();
    let config = ImageConfig::parse(&image.config)?;
    let resolved = spec::resolve(&wish, &config, id, &engine.facts.host)?;
    let wanted = mounts::plan(&wish, &config)?;

    let (volumes, images, found) = tokio::join!(
        volumes(engine, id, container, &wanted),
        images(engine, id, container, &wanted),
        of_host(wish, wanted.clone())
    );
    let (volumes, images, devices) = (volumes?, images?, found?);
    let rootfs = image.rootfs.unwrap_or_default();
    let candidates = held::candidates(&wanted, &volumes.mounts, container.image_id.is_empty());
    copy::populate(engine, id, &container.name, held::layers(&rootfs), candidates).await?;
    let held = Held { volumes, images };
    failpoint::pass(failpoint::CREATE_CONTENT).await?;
    Ok(Content {
        image_id: image.image_id,
        rootfs,
        mounts: held::statuses(&wanted, &held),
        held,
        resolved,
        wanted,
        devices,
    })
}

/// The service's own sentence is the best one, unless it is only that nobody answers.
fn of_image_service(error: RemoteError) -> Error {
    if error.kind == ErrorKind::Unavailable {
        return Error::peer("reach the image service")(error);
    }
    Error::Remote(error)
}

async fn volumes(
    engine: &Arc<Engine>,
    id: &ContainerId,
    container: &Container,
    wanted: &[Wanted],
) -> Result<volume::PrepareResponse, Error> {
    let mut uses = held::uses(wanted);
    if uses.is_empty() {
        return Ok(volume::PrepareResponse::default());
    }
    // A volume without a name is the same one in every life.
    let before = container.status.as_ref().map(|status| status.mounts.as_slice()).unwrap_or_default();
    for nameless in uses.iter_mut().filter(|wanted| wanted.name.is_empty()) {
        let same = |m: &&MountStatus| m.kind() == MountKind::Volume && m.target == nameless.target;
        if let Some(known) = before.iter().find(same) {
            nameless.name.clone_from(&known.name);
        }
    }
    let request = volume::PrepareRequest { container_id: id.to_string(), uses, again: false };
    within(LONG, "prepare the volumes", engine.volumes().prepare(request)).await
}

/// Has the volumes of a stopped container mounted, which a reboot may have taken away.
///
/// # Errors
/// When one of them cannot be mounted.
pub async fn remount(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let container = engine.container(id)?;
    let mounts = container.status.as_ref().map(|status| status.mounts.as_slice()).unwrap_or_default();
    if !mounts.iter().any(|mount| mount.kind() == MountKind::Volume) {
        return Ok(());
    }
    let request = volume::PrepareRequest { container_id: id.to_string(), again: true, ..Default::default() };
    within(LONG, "prepare the volumes", engine.volumes().prepare(request)).await.map(drop)
}

/// The images that the container mounts: known only when its own is held.
async fn images(
    engine: &Arc<Engine>,
    id: &ContainerId,
    container: &Container,
    wanted: &[Wanted],
) -> Result<Vec<image::MountedImage>, Error> {
    let mut mounted = held::images(wanted);
    if mounted.is_empty() {
        return Ok(Vec::new());
    }
    // A tag may have moved since the container was made; what it mounts has not.
    let status = container.status.clone().unwrap_or_default();
    let before: Vec<_> = status.mounts.iter().filter(|mount| mount.kind() == MountKind::Image).collect();
    for text in &mut mounted {
        if let Some(known) = before.iter().find(|mount| mount.source == *text && !mount.image_id.is_empty()) {
            text.clone_from(&known.image_id);
        }
    }
    let wish = container.spec.clone().unwrap_or_default();
    let request = image::PrepareRequest { container_id: id.to_string(), image: wish.image, mounted };
    let answer = engine.images().prepare(request).await;
    let failed = |status| match of_image_service(RemoteError::from(status)) {
        // Not as of the container's own image, which whoever asked would pull.
        Error::Remote(error) if error.kind == ErrorKind::NotFound => {
            let rule = format!("no such image; it is not pulled for a mount: {}", chain(&error));
            spec::Error::invalid("mounts.source", &held::images(wanted).join(" "), rule).into()
        }
        other => other,
    };
    Ok(answer.map_err(failed)?.into_inner().mounted)
}

async fn of_host(wish: ContainerSpec, wanted: Vec<Wanted>) -> Result<Devices, Error> {
    let found = tokio::task::spawn_blocking(move || -> Result<Devices, spec::Error> {
        source::ensure(&wanted)?;
        Devices::find(&wish)
    });
    Ok(found.await.map_err(|error| Error::Task { doing: "look at the host", why: error.to_string() })??)
}
