//! Files that are replaced whole or not at all, and reads that end.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

use super::entry;

/// What a write promises when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives a power cut: file and directory are synced.
    Synced,
    /// Survives the death of this process, in the page cache.
    Cached,
}

/// Replaces `name` in `dir` by a file of mode 0600 with `bytes`: a reader sees the old or the new, never a part.
///
/// The content goes through a temporary name that starts with `.` and ends in `.tmp`; a crash leaves at most that.
pub fn write_atomic(
    dir: impl AsFd,
    name: impl AsRef<OsStr>,
    bytes: &[u8],
    durability: Durability,
) -> io::Result<()> {
    let (dir, name) = (dir.as_fd(), name.as_ref());
    let temporary = temporary_name(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let result = entry::open_at(dir, &temporary, flags, 0o600).and_then(|fd| {
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        entry::rename_at(dir, &temporary, dir, name)
    });
    if result.is_err() {
        // The write's error is the one that matters; the name is swept with the directory otherwise.
        let _ = entry::remove_file_at(dir, &temporary);
    }
    result?;
    if durability == Durability::Synced { sync_dir(dir) } else { Ok(()) }
}

/// A name that no other writer of this process or of another one uses at the same time.
fn temporary_name(name: &OsStr) -> OsString {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{n}.tmp", std::process::id()));
    temporary
}

/// Makes the names of a directory durable; an `O_PATH` handle will do.
pub fn sync_dir(dir: impl AsFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd: OwnedFd = rustix::fs::openat(dir, c".", flags, rustix::fs::Mode::empty())?;
    Ok(rustix::fs::fsync(fd)?)
}

/// Writes everything of the file system that a file lies on to the disk.
pub fn sync_file_system(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fd)?)
}

/// The content of an open file of at most `limit` bytes; a longer one is an error and not a part.
pub fn read_bounded_file(file: &File, limit: usize) -> io::Result<Vec<u8>> {
    // What there is in one read, and another one for the end; files that have no length are read in pieces.
    let length = file.metadata().map_or(0, |about| about.len());
    let length = usize::try_from(length).unwrap_or(limit).min(limit);
    let mut bytes = Vec::with_capacity(length.saturating_add(1));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        let why = format!("file is larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// The content of a regular file, named by a path that the caller trusts, of at most `limit` bytes.
pub fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    if !entry::is_regular(&file)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    read_bounded_file(&file, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let fd = entry::open_dir(dir.path()).unwrap();
        write_atomic(&fd, "a", b"one", Durability::Synced).unwrap();
        write_atomic(&fd, "a", b"two", Durability::Cached).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"two");
        std::fs::create_dir(dir.path().join("taken")).unwrap();
        assert!(write_atomic(&fd, "taken", b"x", Durability::Cached).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn reads_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, [0u8; 11]).unwrap();
        assert_eq!(read_bounded(&path, 11).unwrap().len(), 11);
        assert_eq!(read_bounded(&path, 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_bounded(Path::new("/dev/zero"), 10).is_err());
    }
}
