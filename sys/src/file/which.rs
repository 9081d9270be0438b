//! On which mount a file lies.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};

use super::entry::single;

/// The mount that a file lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountOf {
    /// Its number, as in `mountinfo`.
    pub id: u64,
    /// The file is what is mounted, and not below it.
    pub is_root: bool,
}

/// The mount of an open file; an `O_PATH` handle will do.
pub fn mount_of(fd: impl AsFd) -> io::Result<MountOf> {
    look(fd, c"".into(), AtFlags::EMPTY_PATH)
}

/// The mount of one entry of a directory, which may be what is mounted on it. Nothing is opened, so that nothing is held.
pub fn mount_of_entry(dir: impl AsFd, name: &OsStr) -> io::Result<MountOf> {
    let name = std::ffi::CString::new(single(name)?.as_encoded_bytes())?;
    look(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The mount of what a path of the kernel's own, such as `12/cwd` below `/proc`, leads to.
pub fn mount_of_link(dir: impl AsFd, path: &Path) -> io::Result<MountOf> {
    look(dir, std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?, AtFlags::empty())
}

fn look(fd: impl AsFd, path: std::ffi::CString, flags: AtFlags) -> io::Result<MountOf> {
    let found = rustix::fs::statx(fd, path.as_c_str(), flags | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)?;
    if !StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(MountOf { id: found.stx_mnt_id, is_root: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    #[test]
    fn the_mount_of_proc_is_in_the_table() {
        let proc = file::open_dir(Path::new("/proc")).unwrap();
        let root = file::open_dir(Path::new("/")).unwrap();
        let found = mount_of(&proc).unwrap();
        assert_eq!(mount_of_entry(&root, "proc".as_ref()).unwrap(), found);
        assert!(found.is_root);
        let table = crate::mount::mount_table().unwrap();
        let entry = table.iter().find(|entry| entry.id == found.id).unwrap();
        assert_eq!(entry.target, Path::new("/proc"));
        assert!(!mount_of(file::open_dir(Path::new("/proc/self")).unwrap()).unwrap().is_root);
    }
}
