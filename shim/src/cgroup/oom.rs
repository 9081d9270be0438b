//! Hears that the kernel kills for want of memory, while the container runs on.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use davit_sys::fd;

use super::dir::Dir;
use super::{CgroupError, Doing, dir};

/// A descriptor that stirs when a process may have been killed. How many were is counted elsewhere.
#[derive(Debug)]
pub struct OomWatch {
    file: File,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An event counter that v1 raises: becomes readable.
    Counter,
    /// The events file of v2: becomes urgent.
    Events,
}

impl OomWatch {
    /// On a cgroup of v1's memory hierarchy.
    pub(super) fn legacy(dir: &Path) -> Result<Self, CgroupError> {
        let doing = || format!("watch {} for want of memory", dir.display());
        let counter = fd::event_counter().doing(doing)?;
        let control = File::open(dir.join("memory.oom_control")).doing(doing)?;
        let order = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
        let opened = std::fs::OpenOptions::new().write(true).open(dir.join("cgroup.event_control"));
        opened.and_then(|mut file| io::Write::write_all(&mut file, order.as_bytes())).doing(doing)?;
        Ok(Self { file: counter.into(), kind: Kind::Counter })
    }

    /// On a cgroup of v2.
    pub(super) fn unified(dir: &Dir) -> Result<Self, CgroupError> {
        Ok(Self { file: dir.open("memory.events")?, kind: Kind::Events })
    }

    /// Whether the descriptor becomes urgent rather than readable.
    pub fn is_urgent(&self) -> bool {
        self.kind == Kind::Events
    }

    /// Takes note of what stirred, so that the next time is seen.
    pub fn clear(&self) -> io::Result<()> {
        match self.kind {
            Kind::Counter => match (&self.file).read(&mut [0; 8]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
                other => other.map(drop),
            },
            Kind::Events => dir::read_again(&self.file).map(drop).map_err(io::Error::other),
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for OomWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl From<OomWatch> for OwnedFd {
    fn from(watch: OomWatch) -> Self {
        watch.file.into()
    }
}
