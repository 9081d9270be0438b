//! Handles of files that are only looked at first: an `O_PATH` handle runs no driver and waits for nobody, whatever
//! the name has come to mean, and is opened for reading when it is known to be a regular file.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::entry::{self, Times};

/// The longest list of names, and the longest value, that the kernel has.
const XATTR_MAX: usize = 64 * 1024;

/// Opens what an `O_PATH` handle stands for. Only for regular files and directories: others act when they are opened.
///
/// There is no other way than its name in `/proc`, which is verified once.
pub fn reopen(handle: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
    static DESCRIPTORS: OnceLock<OwnedFd> = OnceLock::new();
    let own = match DESCRIPTORS.get() {
        Some(own) => own,
        None => {
            let opened = own_descriptors()?;
            DESCRIPTORS.get_or_init(|| opened)
        }
    };
    let number = handle.as_fd().as_raw_fd().to_string();
    Ok(rustix::fs::openat(own, number.as_str(), flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?)
}

fn own_descriptors() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cwd = rustix::fs::CWD;
    let proc = rustix::fs::openat2(cwd, c"/proc", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    let own = rustix::fs::openat(&proc, c"self/fd", flags, Mode::empty())?;
    if entry::is_procfs(&proc)? && entry::is_procfs(&own)? { Ok(own) } else { Err(Errno::NOSYS.into()) }
}

/// Opens the directory behind an `O_PATH` handle for listing.
pub fn open_listing(handle: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(handle, c".", flags, Mode::empty())?)
}

/// Where a symlink leads, by an `O_PATH` handle of it.
pub fn read_link(handle: impl AsFd) -> io::Result<OsString> {
    let target = rustix::fs::readlinkat(handle, c"", Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}

/// Extended attributes of an open file (not of an `O_PATH` handle) whose names are `wanted`, with their values; none
/// where the file system has none.
pub fn xattrs(fd: impl AsFd, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let fd = fd.as_fd();
    // Most files have none, and are asked once.
    let mut names = [0_u8; 1024];
    let listed = match rustix::fs::flistxattr(fd, &mut names[..]) {
        Ok(length) => names[..length].to_vec(),
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut all = vec![0; XATTR_MAX];
            let length = rustix::fs::flistxattr(fd, &mut all[..])?;
            all.truncate(length);
            all
        }
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in listed.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if !wanted(name.to_bytes()) {
            continue;
        }
        let mut value = vec![0; XATTR_MAX];
        match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            // It was taken away since.
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error.into()),
        }
        value.shrink_to_fit();
        found.push((name.to_bytes().to_vec(), value));
    }
    Ok(found)
}

/// Sets the times of what an `O_PATH` handle stands for, also of a symlink.
pub fn set_times_of(handle: impl AsFd, times: Times) -> io::Result<()> {
    Ok(rustix::fs::utimensat(handle, c"", &times.raw(), AtFlags::EMPTY_PATH)?)
}

/// Renames an entry to a name that must be free: `AlreadyExists` otherwise.
pub fn rename_new_at(from: impl AsFd, from_name: &OsStr, to: impl AsFd, to_name: &OsStr) -> io::Result<()> {
    let (from_name, to_name) = (entry::single(from_name)?, entry::single(to_name)?);
    Ok(rustix::fs::renameat_with(from, from_name, to, to_name, RenameFlags::NOREPLACE)?)
}

/// Whether nothing can be written where a handle lies: by its mount or its file system.
pub fn is_read_only(handle: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::fstatvfs(handle)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Writes a stretch of an open file at the present position, where only what is not zero needs to be written: the rest
/// becomes a hole. [`finish_sparse`] ends it.
pub fn write_sparse(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    use std::io::{Seek as _, SeekFrom, Write as _};
    const PAGE: usize = 4096;
    if bytes.len() >= PAGE && bytes.iter().all(|byte| *byte == 0) {
        let length = i64::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        file.seek(SeekFrom::Current(length)).map(drop)
    } else {
        file.write_all(bytes)
    }
}

/// Gives a file that ends in a hole its length.
pub fn finish_sparse(file: &File, length: u64) -> io::Result<()> {
    if file.metadata()?.len() < length { file.set_len(length) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    #[test]
    fn a_handle_is_read_and_described() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "text").unwrap();
        std::os::unix::fs::symlink("anywhere", dir.path().join("l")).unwrap();
        let folder = entry::open_dir(dir.path()).unwrap();
        let handle = entry::open_at(&folder, "f".as_ref(), OFlags::PATH, 0).unwrap();
        let mut text = String::new();
        File::from(reopen(&handle, OFlags::RDONLY).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        let link = entry::open_at(&folder, "l".as_ref(), OFlags::PATH, 0).unwrap();
        assert_eq!(read_link(&link).unwrap(), "anywhere");
        set_times_of(&link, Times { accessed: (1, 2), modified: (3, 4) }).unwrap();
        assert_eq!(std::fs::symlink_metadata(dir.path().join("l")).unwrap().mtime(), 3);
        let path = entry::open_at(&folder, "f".as_ref(), OFlags::RDONLY, 0).unwrap();
        if entry::set_xattr(&path, "user.a".as_ref(), b"b").is_ok() {
            assert_eq!(xattrs(&path, |_| true).unwrap(), [(b"user.a".to_vec(), b"b".to_vec())]);
            assert_eq!(xattrs(&path, |_| false).unwrap(), []);
        }
        assert!(!is_read_only(&handle).unwrap());
        assert!(is_read_only(entry::open_dir(Path::new("/proc/sys")).unwrap()).is_ok());
    }

    #[test]
    fn a_taken_name_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "a").unwrap();
        std::fs::write(dir.path().join("b"), "b").unwrap();
        let folder = entry::open_dir(dir.path()).unwrap();
        let taken = rename_new_at(&folder, "a".as_ref(), &folder, "b".as_ref()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        rename_new_at(&folder, "a".as_ref(), &folder, "c".as_ref()).unwrap();
        assert!(dir.path().join("c").exists());
    }

    #[test]
    fn zeros_become_holes_and_stay_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = File::create(&path).unwrap();
        for part in [&[7_u8; 10][..], &[0; 1 << 20], b"end", &[0; 1 << 20]] {
            write_sparse(&mut file, part).unwrap();
        }
        finish_sparse(&file, (2 << 20) + 13).unwrap();
        let read = std::fs::read(&path).unwrap();
        assert_eq!(read.len(), (2 << 20) + 13);
        assert_eq!((&read[..10], &read[(1 << 20) + 10..(1 << 20) + 13]), (&[7; 10][..], &b"end"[..]));
        assert!(read[10..(1 << 20) + 10].iter().chain(&read[(1 << 20) + 13..]).all(|b| *b == 0));
    }
}
