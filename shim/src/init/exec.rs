//! The shim's side of a process that is added to a running container: clone it, hand it its plan, hear how it went.
//!
//! Only the clone is waited for at once. What the process then does depends on files of the container, which may be as
//! slow as they like, and the shim has output to read meanwhile.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use davit_sys::namespace::{self, Kind};
use davit_sys::process::{self, Child, NewNamespaces, SIGKILL, Spawn};

use super::child::CHANNEL;
use super::error::{InitError, Step};
use super::exec_plan::ExecPlan;
use super::message::{Channel, Request};
use super::shape::IdMap;
use super::userns;

/// What is to be added.
#[derive(Debug)]
pub struct Addition<'a> {
    /// The init process to join.
    pub init: BorrowedFd<'a>,
    /// The v2 cgroup to be born in.
    pub cgroup: BorrowedFd<'a>,
    /// What to do.
    pub plan: ExecPlan,
    /// Its streams, where it has no terminal.
    pub streams: Option<[OwnedFd; 3]>,
    /// The container's ids, where it has a user namespace of its own.
    pub ids: Option<IdMap>,
}

/// A process on its way into a container. Somebody else reaps it.
#[derive(Debug)]
pub struct Added {
    /// It.
    pub child: Child,
    /// Its number as the host counts.
    pub host_pid: u32,
    /// How its way goes on.
    pub joining: Joining,
}

/// The rest of the way, to be waited for by somebody who has more to do. Dropping it ends the process.
#[derive(Debug)]
pub struct Joining {
    /// The way to the process, which never blocks.
    pub channel: Channel,
    /// Its orders, in pieces that fit.
    pub packets: Vec<Vec<u8>>,
    /// What goes with the first of them.
    pub fds: Vec<OwnedFd>,
}

/// Clones the process.
pub fn begin(addition: Addition<'_>) -> Result<Added, InitError> {
    let Addition { init, cgroup, plan, streams, ids } = addition;
    if let (Some(ids), Some(streams)) = (&ids, &streams) {
        userns::give_streams(streams, ids)?;
    }
    let limits = if ids.is_some() { plan.process.limits.clone() } else { Vec::new() };
    let packets = Channel::packets(&Request::Exec(Box::new(plan))).map_err(InitError::Channel)?;
    let mut fds = vec![init.try_clone_to_owned().step("keep init's pidfd")?];
    fds.extend(streams.into_iter().flatten());
    let (channel, theirs) = Channel::pair().map_err(InitError::Channel)?;
    channel.set_nonblocking().map_err(InitError::Channel)?;
    let child = clone(init, cgroup, theirs.as_fd()).step("clone a process into the container")?;
    let joining = Joining { channel, packets, fds };
    let known = process::host_pid(&child.pidfd).step("find the process's pid");
    match known.and_then(|pid| userns::raise_limits(&child, &limits).map(|()| pid)) {
        Ok(host_pid) => Ok(Added { child, host_pid, joining }),
        Err(failure) => {
            // Its orders never come, so it would end by itself.
            let _ = process::signal(&child.pidfd, SIGKILL);
            Err(failure.into())
        }
    }
}

fn clone(init: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<Child> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    let null = null.as_fd();
    let args = [c"davit-shim", c"exec"].map(CString::from);
    let spawn = Spawn {
        program: c"/proc/self/exe",
        args: &args,
        env: &[],
        fds: &[(null, 0), (null, 1), (null, 2), (socket, CHANNEL)],
        namespaces: NewNamespaces::NONE,
        cgroup: Some(cgroup),
        session: true,
    };
    // Children made meanwhile have the container's process ids; the shim itself keeps its own.
    let home = namespace::open_own(Kind::Pid)?;
    namespace::enter_all(init, &[Kind::Pid])?;
    let child = process::spawn(&spawn);
    namespace::enter(home, Kind::Pid)?;
    child
}
