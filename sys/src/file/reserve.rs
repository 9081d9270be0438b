//! Space set aside for the moment when the disk is full: a file that stands in for another one, and blocks behind the
//! end of a file that will grow.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{FallocateFlags, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{atomic, entry};

const BLOCK: u64 = 512;

/// Makes sure that the file `name` of `dir` has at least so many bytes of disk, written and not only promised: what is
/// written over them later needs no more.
pub fn keep_reserve(dir: impl AsFd, name: &OsStr, bytes: u64) -> io::Result<()> {
    let mut file = File::from(entry::open_at(dir, name, OFlags::WRONLY | OFlags::CREATE, 0o600)?);
    if file.metadata()?.blocks() * BLOCK >= bytes {
        return Ok(());
    }
    let piece = [b'\n'; 4096];
    let mut written = 0;
    while written < bytes {
        file.write_all(&piece)?;
        written += piece.len() as u64;
    }
    file.sync_all()
}

/// Replaces the file `name` of `dir` by these bytes, which are written over `reserve` in place, and keeps what `name` was
/// as the next reserve: no block more is needed. Behind the bytes stand as many newlines as fill what the reserve was.
///
/// # Errors
/// `StorageFull` when the reserve is too small; what `name` holds is then as before.
pub fn write_from_reserve(dir: impl AsFd, name: &OsStr, reserve: &OsStr, bytes: &[u8]) -> io::Result<()> {
    let dir = dir.as_fd();
    let mut file = File::from(entry::open_at(dir, reserve, OFlags::WRONLY, 0)?);
    let about = file.metadata()?;
    if (bytes.len() as u64) > about.blocks() * BLOCK {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "the reserve is too small"));
    }
    file.write_all(bytes)?;
    let rest = usize::try_from(about.len()).unwrap_or(0).saturating_sub(bytes.len());
    file.write_all(&vec![b'\n'; rest])?;
    file.sync_all()?;
    match rustix::fs::renameat_with(
        dir,
        entry::single(reserve)?,
        dir,
        entry::single(name)?,
        RenameFlags::EXCHANGE,
    ) {
        // A file system that cannot exchange: the reserve is used up.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOENT) => entry::rename_at(dir, reserve, dir, name)?,
        other => other?,
    }
    atomic::sync_dir(dir)
}

/// Gives an open file blocks behind its end, from `offset` on, without making it longer.
pub fn reserve_ahead(file: impl AsFd, offset: u64, bytes: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_reserve_and_the_file_change_places() {
        let folder = tempfile::tempdir().unwrap();
        let dir = entry::open_dir(folder.path()).unwrap();
        let (name, reserve): (&OsStr, &OsStr) = ("a".as_ref(), "r".as_ref());
        fs::write(folder.path().join("a"), "first, and longer").unwrap();
        keep_reserve(&dir, reserve, 10_000).unwrap();
        let before = fs::metadata(folder.path().join("r")).unwrap();
        assert!(before.blocks() * BLOCK >= 10_000);
        write_from_reserve(&dir, name, reserve, b"second").unwrap();
        let text = fs::read_to_string(folder.path().join("a")).unwrap();
        assert_eq!((text.trim_end(), text.len() as u64), ("second", before.len()));
        assert_eq!(fs::metadata(folder.path().join("a")).unwrap().ino(), before.ino());
        assert_eq!(fs::read_to_string(folder.path().join("r")).unwrap(), "first, and longer");
        write_from_reserve(&dir, name, reserve, b"third").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap().trim_end(), "third");
        let large = vec![b'x'; 1 << 20];
        let error = write_from_reserve(&dir, name, reserve, &large).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap().trim_end(), "third");
    }

    #[test]
    fn blocks_ahead_do_not_make_a_file_longer() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("f")).unwrap();
        match reserve_ahead(&file, 0, 1 << 20) {
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => return,
            other => other.unwrap(),
        }
        let about = file.metadata().unwrap();
        assert_eq!((about.len(), about.blocks() * BLOCK >= 1 << 20), (0, true));
    }
}
