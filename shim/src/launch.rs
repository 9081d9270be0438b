//! `davit-shim launch`: the stage between the controller and a shim that is nobody's child.
//!
//! It has one thread. It joins the engine's cgroup for shims, starts the shim as pid 1 of a pid namespace of its own,
//! in a session of its own, and ends. The kernel then takes a container down with its shim, whatever else is dead and
//! whatever the container's program did.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;

use davit_sys::fd;
use davit_sys::process::{self, NewNamespaces, Spawn};

use crate::cgroup::{self, CgroupError};
use crate::options::Options;

/// Where the controller leaves the socket, bound and listening already, so that it may dial at once.
const LISTENER: RawFd = 3;

/// Why no shim was started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The engine's cgroup for shims.
    #[error("join the cgroup of shims")]
    Cgroup(#[from] CgroupError),
    /// A descriptor that the controller should have left.
    #[error("take over descriptor {number}")]
    Descriptor {
        /// Which one.
        number: RawFd,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The shim itself.
    #[error("start the shim")]
    Spawn(#[source] io::Error),
}

/// Starts the shim, and returns when it runs.
pub fn run(options: &Options) -> Result<(), LaunchError> {
    let unified = cgroup::enter_shims(&options.cgroup_parent)?;
    let mut kept: Vec<(OwnedFd, RawFd)> = Vec::new();
    for number in [Some(LISTENER), options.unconfigured_fd].into_iter().flatten() {
        let fd = fd::inherited(number).map_err(|source| LaunchError::Descriptor { number, source })?;
        kept.push((fd, number));
    }
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let mut fds = vec![(stdin.as_fd(), 0), (stdout.as_fd(), 1), (stderr.as_fd(), 2)];
    fds.extend(kept.iter().map(|(fd, number)| (fd.as_fd(), *number)));
    let words = [OsString::from("davit-shim"), OsString::from("serve")].into_iter();
    let args = words.chain(options.to_words()).map(c_string).collect::<Result<Vec<_>, _>>()?;
    let namespaces = if options.shared_pid { NewNamespaces::NONE } else { NewNamespaces::PID };
    // The shim must not hold the folder that the controller was started in.
    std::env::set_current_dir(OsStr::new("/")).map_err(LaunchError::Spawn)?;
    let spawn = Spawn {
        program: c"/proc/self/exe",
        args: &args,
        env: &[],
        fds: &fds,
        namespaces,
        cgroup: Some(unified.as_fd()),
        session: true,
    };
    process::spawn(&spawn).map_err(LaunchError::Spawn)?;
    Ok(())
}

fn c_string(word: OsString) -> Result<CString, LaunchError> {
    CString::new(word.into_vec()).map_err(|e| LaunchError::Spawn(e.into()))
}
