//! Advisory locks that belong to an open file, so that they go with the process, or move with the descriptor.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::entry;

/// An exclusive `flock`, held until this value (and every copy of its descriptor) is gone.
#[derive(Debug)]
pub struct Flock {
    fd: OwnedFd,
}

impl Flock {
    /// Takes the lock of the file at `path` (made when missing), or `None` when somebody else holds it.
    pub fn try_lock(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Self::take(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?)
    }

    /// As [`Flock::try_lock`], for an entry of an open directory.
    pub fn try_lock_at(dir: impl AsFd, name: &OsStr) -> io::Result<Option<Self>> {
        Self::take(entry::open_at(dir, name, OFlags::RDWR | OFlags::CREATE, 0o600)?)
    }

    /// Takes the lock of a file that is open already; a directory will do.
    pub fn take(fd: OwnedFd) -> io::Result<Option<Self>> {
        loop {
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { fd })),
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits for the lock of the file at `path` (made when missing), for as long as it takes.
    pub fn lock(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?;
        loop {
            match rustix::fs::flock(&fd, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self { fd }),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for Flock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Flock::try_lock(&path).unwrap().unwrap();
        assert!(Flock::try_lock(&path).unwrap().is_none());
        drop(first);
        assert!(Flock::try_lock(&path).unwrap().is_some());
        Flock::lock(&path).unwrap();
    }
}
