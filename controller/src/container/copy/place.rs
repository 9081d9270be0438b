//! Where a container's files are now.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use davit_proto::container::Phase;
use davit_proto::copy::{self, Ids};
use davit_proto::id::ContainerId;
use davit_proto::task::{Snapshot, StateRequest, TaskState};
use davit_sys::process;

use crate::container::live::status_of;
use crate::container::userns;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// A place, and what belongs to it.
#[derive(Debug)]
pub struct Found {
    /// For the helper.
    pub place: copy::Place,
    /// The container's ids, where it has its own.
    pub ids: Option<Ids>,
    /// Its mount namespace and its first process, when it lives.
    pub fds: Vec<OwnedFd>,
}

/// Finds a container's files; none while they are nowhere, between two states.
///
/// # Errors
/// When the container is not made yet or is being removed, or its shim does not answer.
pub async fn find(engine: &Arc<Engine>, id: &ContainerId) -> Result<Option<Found>, Error> {
    engine.heard_from(id).await;
    let container = engine.container(id)?;
    let status = status_of(&container);
    let refused = |phase| Error::Phase { verb: "copy files of", container: container.name.clone(), phase };
    match status.phase() {
        Phase::Creating | Phase::Unspecified => return Err(refused("not made yet")),
        Phase::Removing => return Err(refused("being removed")),
        Phase::Unknown => return Err(Error::Unreachable { id: id.clone(), why: status.error }),
        Phase::Created | Phase::Running | Phase::Paused | Phase::Restarting | Phase::Exited => {}
    }
    if !engine.has_shim(id) {
        let place = copy::Place::Stopped(engine.config.bundle(id));
        return Ok(Some(Found { place, ids: None, fds: Vec::new() }));
    }
    let Ok(shim) = engine.shim(id) else { return Ok(None) };
    let answer = within(SHORT, "ask the shim", shim.tasks().state(StateRequest {})).await;
    // One that has just gone is looked for again.
    let Some(snapshot) = answer.ok().and_then(|answer| answer.snapshot) else { return Ok(None) };
    if !matches!(snapshot.state(), TaskState::Created | TaskState::Running | TaskState::Paused) {
        return Ok(None);
    }
    let record = engine.record(id)?;
    let ids = userns::ids_of(&record);
    let ids = ids.map(|ids| Ids { uid: ids.host_uid, gid: ids.host_gid, count: ids.count });
    match open(&snapshot, ids.is_some()) {
        Ok(Some(fds)) => Ok(Some(Found { place: copy::Place::Live, ids, fds })),
        Ok(None) => Ok(None),
        Err(error) => Err(Error::io(format!("look into the mounts of container {id}"))(error)),
    }
}

/// The mount namespace of a container's first process, that process, and its user namespace where it has its own; none
/// when it has ended.
fn open(snapshot: &Snapshot, own_users: bool) -> io::Result<Option<Vec<OwnedFd>>> {
    let Some(held) = snapshot.namespaces.iter().find(|held| held.kind == "mnt") else { return Ok(None) };
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3);
    let opened = (|| -> io::Result<_> {
        // The process first, its namespace second: what the namespace proves is true of the process that is held.
        let process = process::pidfd_open(snapshot.pid)?;
        let mounts = File::open(format!("/proc/{}/ns/mnt", snapshot.pid))?;
        let mut fds = vec![OwnedFd::from(mounts.try_clone()?), process];
        if own_users {
            fds.push(File::open(format!("/proc/{}/ns/user", snapshot.pid))?.into());
        }
        Ok((mounts.metadata()?.ino(), fds))
    })();
    match opened {
        Ok((inode, fds)) if inode == held.inode => Ok(Some(fds)),
        Ok(_) => Ok(None),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
