//! `davit-shim guard`: what ends a container with its shim where the pid namespace cannot.
//!
//! A container that shares the host's process ids, or another container's, is not nested in its shim's pid namespace.
//! So one more process waits for the shim's end and then kills the container's cgroup, which takes everything.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use davit_sys::process::{self, Child, NewNamespaces, SIGKILL, Spawn};
use davit_sys::{fd, privilege};

use crate::cgroup;

/// Where the guard finds the shim's pidfd and the container's cgroup.
const SHIM: i32 = 3;
const CGROUP: i32 = 4;

/// A guard at work; it ends with this value.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

impl Guard {
    /// Starts a guard over a cgroup, that acts when this process ends.
    pub fn start(cgroup: BorrowedFd<'_>) -> io::Result<Self> {
        let shim = process::own_pidfd()?;
        let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        let null = null.as_fd();
        let args = [c"davit-shim", c"guard"].map(CString::from);
        let child = process::spawn(&Spawn {
            program: c"/proc/self/exe",
            args: &args,
            env: &[],
            fds: &[(null, 0), (null, 1), (null, 2), (shim.as_fd(), SHIM), (cgroup, CGROUP)],
            namespaces: NewNamespaces::NONE,
            cgroup: None,
            session: true,
        })?;
        Ok(Self { child })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have been killed by somebody else; then there is nothing to do.
        let _ = process::signal(&self.child.pidfd, SIGKILL);
        let _ = process::wait(&self.child.pidfd);
    }
}

/// Waits for the shim's end.
pub fn run() -> ExitCode {
    match watch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("davit-shim guard: {e}");
            ExitCode::FAILURE
        }
    }
}

fn watch() -> io::Result<()> {
    privilege::set_dumpable(false)?;
    let shim: OwnedFd = fd::inherited(SHIM)?;
    let cgroup = fd::inherited(CGROUP)?;
    while !fd::wait_readable(&shim, None)? {}
    cgroup::kill_all(cgroup).map_err(io::Error::other)
}
