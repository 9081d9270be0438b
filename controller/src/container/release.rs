//! Releases all that a container has, in the reverse order of its making. A create that failed, `rm` and recovery
//! after a crash are this function; it may be cut off anywhere and called again.
//!
//! Moving the bundle to the trash is the moment at which a container no longer exists. Everything after it is found
//! again at the next start: by the record without a bundle, and by the services' lists of holders.

pub mod early;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::Phase;
use davit_proto::id::ContainerId;
use davit_proto::task::DeleteRequest;
use davit_proto::{image, network, volume};
use davit_sys::file::{open_dir, remove_tree, sync_dir};
use davit_sys::process;

use super::bundle::Bundle;
use super::copy::Which;
use super::{cgroup, live};
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::shim::{self, LONG, Process, SHORT, within};
use crate::store::Change;
use crate::{events, supervise};

/// How long a shim that was told to end may take.
const POLITE: Duration = Duration::from_secs(5);
/// How long a shim whose last life is over may go on serving its readers.
const DRAIN: Duration = Duration::from_secs(3);
/// How long the kernel may take with a shim that was killed.
const FORCED: Duration = Duration::from_secs(10);
/// Between two looks at something that is ending, at first and at last.
const SOON: Duration = Duration::from_micros(500);
const TICK: Duration = Duration::from_millis(10);
/// Marks trash whose volumes without a name go too.
pub const VOLUMES: &str = ".volumes";

/// How a container is released.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Its volumes without a name go too.
    pub volumes: bool,
    /// The removal survives a power cut when the call returns.
    pub durable: bool,
    /// The world knew the container, and is told.
    pub told: bool,
}

/// How a container goes that was never made.
pub const UNDO: How = How { volumes: true, durable: false, told: false };

/// Releases everything. The caller holds the container's turn.
///
/// # Errors
/// When its shim will not end, or a service fails. What was released stays so.
pub async fn release(engine: &Arc<Engine>, id: &ContainerId, how: How) -> Result<(), Error> {
    engine.copies.end(id, Which::All).await;
    end_shim(engine, id, Duration::ZERO).await?;
    pass(failpoint::RELEASE_SHIM).await?;
    supervise::record_end(engine, id);

    discard(engine, id, how).await?;
    pass(failpoint::RELEASE_TRASH).await?;

    services(engine, id, how.volumes).await?;
    pass(failpoint::RELEASE_SERVICES).await?;
    sweep_cgroups(engine, id).await?;
    pass(failpoint::RELEASE_CGROUP).await?;

    forget(engine, id, how);
    engine.settled(id, true);
    pass(failpoint::RELEASE_RECORD).await?;
    if how.durable
        && let Err(error) = engine.store.sync().await
    {
        // The trash is what counts, and it is durable.
        tracing::debug!(%error, container_id = %id, "removed by its files only");
    }
    let trash = engine.config.trash();
    let id = id.clone();
    tokio::task::spawn_blocking(move || empty_of(&trash, &id));
    Ok(())
}

/// The record goes, and with it the name.
fn forget(engine: &Engine, id: &ContainerId, how: How) {
    let container = engine.store.get(id).and_then(|record| record.container.clone());
    let told = container.filter(|_| how.told).and_then(|container| {
        let goes = container.spec.as_ref().is_some_and(|spec| spec.auto_remove);
        let by_itself = goes && live::status_of(&container).phase() != Phase::Removing;
        let cause = if by_itself { "it was to go with its end (--rm)" } else { "" };
        let told = Change::told(events::of_container(&container, "destroy", []));
        told.map(|change| change.explained("was removed", cause))
    });
    engine.store.remove(id, told);
}

/// Clears what a dead or ending shim leaves, and keeps the container: process, cgroups, addresses. The caller holds
/// the container's turn.
///
/// # Errors
/// When the shim will not end, or the network service fails.
pub async fn settle(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let over = engine.store.get(id).and_then(|record| record.container.clone());
    let over = over.is_some_and(|container| !live::is_live(live::status_of(&container).phase()));
    end_shim(engine, id, if over { DRAIN } else { Duration::ZERO }).await?;
    supervise::record_end(engine, id);
    sweep_cgroups(engine, id).await?;
    release_network(engine, id).await?;
    engine.settled(id, true);
    Ok(())
}

/// Ends the shim and makes sure that it ended: nobody else may have the container's file system mounted after this.
/// `drain` is how long it may go on by itself first.
async fn end_shim(engine: &Arc<Engine>, id: &ContainerId, drain: Duration) -> Result<(), Error> {
    let folder = engine.config.shim_dir(id);
    let unreachable = |why: String| Error::Unreachable { id: id.clone(), why };
    let found = shim::find(&folder, &engine.facts.boot_id);
    match found.map_err(Error::io(format!("find the shim of container {id}")))? {
        Process::Alive(_, pidfd) => {
            let ended = || async {
                let copy = pidfd.try_clone().map_err(Error::io("copy a descriptor"))?;
                shim::ended(copy).await.map_err(Error::io("wait for a shim"))
            };
            if drain.is_zero() || tokio::time::timeout(drain, ended()).await.is_err() {
                let asked = ask_to_end(engine, id).await;
                if !asked || tokio::time::timeout(POLITE, ended()).await.is_err() {
                    // The kernel takes all of the container with it.
                    process::kill(&pidfd).map_err(Error::io("kill a shim"))?;
                    let gone = tokio::time::timeout(FORCED, ended()).await;
                    gone.map_err(|_| unreachable("it was killed and does not end".to_owned()))??;
                }
            }
        }
        // One that never said its name ends with the pipe of whoever launched it.
        Process::Gone | Process::Unnamed => {
            ask_to_end(engine, id).await;
        }
    }
    // Not only when its folder is gone too, which the disk may refuse: nobody is to talk to it any more.
    engine.shim_gone(id);
    // What still looks at the mounts of a dead shim would keep them.
    engine.copies.end(id, Which::Live).await;
    let bundle = Bundle::new(engine.config.bundle(id));
    let deadline = tokio::time::Instant::now() + POLITE;
    let mut pause = SOON;
    while !bundle.is_free().map_err(Error::io(format!("look at {}", bundle.path().display())))? {
        if tokio::time::Instant::now() > deadline {
            if engine.copies.any(id) {
                let container = engine.container(id).map_or_else(|_| id.to_string(), |c| c.name);
                let phase = "stopped, and its files are being copied: try again after that";
                return Err(Error::Phase { verb: "start", container, phase });
            }
            return Err(unreachable("somebody still holds the lock of its folder".to_owned()));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(TICK);
    }
    shim::remove_folder(&folder).map_err(Error::io(format!("remove {}", folder.display())))
}

/// Whether the shim agreed to end.
async fn ask_to_end(engine: &Arc<Engine>, id: &ContainerId) -> bool {
    let Ok(shim) = engine.shim(id) else { return false };
    let request = DeleteRequest { force: true };
    match within(SHORT, "end the shim", shim.tasks().delete(request)).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(container_id = %id, error = %davit_proto::status::chain(&error), "shim did not agree to end");
            false
        }
    }
}

/// The commit point: the bundle goes to the trash.
async fn discard(engine: &Arc<Engine>, id: &ContainerId, how: How) -> Result<(), Error> {
    let (bundle, trash, id) = (engine.config.bundle(id), engine.config.trash(), id.clone());
    let doing = format!("move {} to the trash", bundle.display());
    let moved = tokio::task::spawn_blocking(move || -> io::Result<()> {
        let mark = if how.volumes { VOLUMES } else { "" };
        for n in 0_u32.. {
            let number = if n == 0 { String::new() } else { format!(".{n}") };
            let target = trash.join(format!("{id}{mark}{number}"));
            match std::fs::rename(&bundle, &target) {
                Ok(()) => {
                    return if how.durable { sync_both(bundle.parent(), &trash) } else { Ok(()) };
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    });
    moved
        .await
        .map_err(|error| Error::Task { doing: "empty a folder", why: error.to_string() })?
        .map_err(Error::io(doing))
}

/// Makes both ends of a rename durable, at the same time: each waits for the disk.
fn sync_both(from: Option<&Path>, to: &Path) -> io::Result<()> {
    let sync = |folder: &Path| open_dir(folder).and_then(sync_dir);
    std::thread::scope(|threads| {
        let other = from.map(|from| threads.spawn(move || sync(from)));
        let synced = sync(to);
        let other = other.map_or(Ok(()), |other| {
            other.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        });
        synced.and(other)
    })
}

/// Deletes what is in the trash. What cannot be deleted now is tried again at the next start.
pub fn empty(trash: &Path) {
    let (Some(parent), Some(name)) = (trash.parent(), trash.file_name()) else { return };
    if let Err(error) = open_dir(parent).and_then(|parent| remove_tree(&parent, name)) {
        tracing::warn!(%error, path = %trash.display(), "failed to delete from the trash");
    }
}

/// Deletes all that is in the trash of one container: an earlier release may have been cut off after it put it there.
fn empty_of(trash: &Path, id: &ContainerId) {
    let entries = match std::fs::read_dir(trash) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, path = %trash.display(), "failed to list the trash");
            return;
        }
    };
    let of_it = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(id.as_str());
    entries.flatten().filter(|entry| of_it(&entry.file_name())).for_each(|entry| empty(&entry.path()));
}

/// Each service is told, also when another one fails.
async fn services(engine: &Arc<Engine>, id: &ContainerId, volumes: bool) -> Result<(), Error> {
    let (network, volume, image) = tokio::join!(
        release_network(engine, id),
        release_volumes(engine, id, volumes),
        release_image(engine, id)
    );
    network.and(volume).and(image)
}

/// Frees addresses, names and rules. Only when the namespace is gone.
///
/// # Errors
/// When the service fails.
pub async fn release_network(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let request = network::ReleaseRequest { container_id: id.to_string() };
    within(LONG, "release the network", engine.networks().release(request)).await.map(drop)
}

/// Ends the use of volumes.
///
/// # Errors
/// When the service fails.
pub async fn release_volumes(engine: &Arc<Engine>, id: &ContainerId, anonymous: bool) -> Result<(), Error> {
    let request = volume::ReleaseRequest {
        container_id: id.to_string(),
        remove_anonymous: anonymous,
        targets: Vec::new(),
    };
    within(LONG, "release the volumes", engine.volumes().release(request)).await.map(drop)
}

/// Ends the use of the image.
///
/// # Errors
/// When the service fails.
pub async fn release_image(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let request = image::ReleaseRequest { container_id: id.to_string() };
    within(LONG, "release the image", engine.images().release(request)).await.map(drop)
}

async fn sweep_cgroups(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let record = engine.store.get(id);
    let spec = record.and_then(|record| record.container.clone()?.spec).unwrap_or_default();
    let path = engine.config.cgroup_path(id, &spec.cgroup_parent);
    cgroup::sweep(&path).await.map_err(Error::io(format!("remove the cgroup {path}")))
}
