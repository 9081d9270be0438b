//! The shim's side of an init in a user namespace: the stage that makes it, its maps, and what only the host's root
//! can do for it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use davit_sys::file::{self, FileType};
use davit_sys::mount::{self, TreeDepth};
use davit_sys::process::{self, Child, NewNamespaces, Spawn};
use davit_sys::{namespace, privilege};

use super::child::CHANNEL;
use super::enter::{Answer, Order, STAGE};
use super::error::{Failure, Step};
use super::message::Channel;
use super::parent::PATIENCE;
use super::shape::{IdMap, Shape};
use crate::cgroup::ContainerCgroup;

/// An init that was cloned in a user namespace.
#[derive(Debug)]
pub struct Entered {
    /// The process.
    pub child: Child,
    /// The namespace.
    pub user: OwnedFd,
}

/// Clones init in a user namespace: in `kept`, or in a new one.
pub fn clone(
    shape: &Shape,
    ids: &IdMap,
    cgroup: &ContainerCgroup,
    kept: Option<&OwnedFd>,
    socket: BorrowedFd<'_>,
) -> Result<Entered, Failure> {
    let (stage, theirs) = Channel::pair().step("talk to the stage")?;
    stage.set_timeout(PATIENCE).step("talk to the stage")?;
    let shape = Box::new(shape.clone());
    let order = Order::Enter { shape, kept: kept.is_some(), tasks: cgroup.tasks_files() };
    let joined: Vec<_> = kept.iter().map(AsFd::as_fd).collect();
    stage.send(&order, &joined).step("talk to the stage")?;
    let between =
        start(cgroup, socket, theirs.as_fd()).step("start the stage that makes a user namespace")?;
    drop(theirs);
    let entered = follow(&stage, &between, ids, kept);
    if entered.is_err() {
        // One that failed has ended already; one that hangs must not stay.
        let _ = process::signal(&between.pidfd, process::SIGKILL);
    }
    process::wait(&between.pidfd).step("wait for the stage that makes a user namespace")?;
    entered
}

fn start(cgroup: &ContainerCgroup, socket: BorrowedFd<'_>, stage: BorrowedFd<'_>) -> io::Result<Child> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    let null = null.as_fd();
    let args = [c"davit-shim", c"enter"].map(CString::from);
    process::spawn(&Spawn {
        program: c"/proc/self/exe",
        args: &args,
        env: &[],
        fds: &[(null, 0), (null, 1), (null, 2), (socket, CHANNEL), (stage, STAGE)],
        namespaces: NewNamespaces::NONE,
        cgroup: Some(cgroup.unified()),
        session: true,
    })
}

fn follow(stage: &Channel, between: &Child, ids: &IdMap, kept: Option<&OwnedFd>) -> Result<Entered, Failure> {
    let user = match kept {
        Some(user) => user.try_clone().step("keep a user namespace")?,
        None => {
            let (Answer::Unshared, user) = answer(stage)? else { return Err(nonsense()) };
            let pid = process::host_pid(&between.pidfd).step("find the stage's pid")?;
            namespace::map_ids(pid, ids.uid, ids.gid, ids.count)
                .step(format_args!("map ids {}:{}:{}", ids.uid, ids.gid, ids.count))?;
            stage.send(&Order::Mapped, &[]).step("talk to the stage")?;
            user
        }
    };
    let (Answer::Cloned { pid }, pidfd) = answer(stage)? else { return Err(nonsense()) };
    Ok(Entered { child: Child { pid, pidfd }, user })
}

/// Every good answer brings one descriptor.
fn answer(stage: &Channel) -> Result<(Answer, OwnedFd), Failure> {
    match stage.receive().step("hear from the stage that makes a user namespace")? {
        Some((Answer::Failed(failure), _)) => Err(failure),
        Some((answer, mut fds)) => Ok((answer, fds.pop().ok_or_else(nonsense)?)),
        None => Err(Failure::invalid("the stage that makes a user namespace ended")),
    }
}

fn nonsense() -> Failure {
    Failure::invalid("the stage that makes a user namespace answered out of turn")
}

/// Shows the owners of a detached tree as a user namespace maps them.
pub fn map_tree(tree: &OwnedFd, depth: TreeDepth, user: BorrowedFd<'_>, path: &Path) -> Result<(), Failure> {
    match mount::set_id_map(tree, depth, user) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Err(Failure::invalid(format!(
            "show {} with the container's ids: its file system or this kernel has no id-mapped mounts",
            path.display()
        ))),
        other => other.step(format_args!("show {} with the container's ids", path.display())),
    }
}

/// Gives the pipes of a container to its root, who may then give them to its user.
pub fn give_streams(streams: &[OwnedFd], ids: &IdMap) -> Result<(), Failure> {
    for stream in streams {
        let give = || -> io::Result<()> {
            let pipe = FileType::from_raw_mode(file::stat(stream)?.st_mode) == FileType::Fifo;
            if pipe { file::chown(stream, ids.uid, ids.gid) } else { Ok(()) }
        };
        give().step("give the standard streams to the container")?;
    }
    Ok(())
}

/// Raises the hard limits of init as far as its container wants: only the host's root may.
pub fn raise_limits(child: &Child, limits: &[(String, u64, u64)]) -> Result<(), Failure> {
    for (name, _, hard) in limits {
        match privilege::raise_limit_of(child.pid, name, *hard) {
            // Init sets the highest one that this host gives, and says so.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            other => other.step(format_args!("raise {name}"))?,
        }
    }
    Ok(())
}
