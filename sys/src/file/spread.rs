//! Where a file system puts new directories.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::IFlags;
use rustix::io::Errno;

const EXT4: i64 = 0xef53;

/// Tells the file system that the directories made in this one have nothing to do with each other, so that each may lie
/// in another part of the disk, with all that is in it. Answers whether it listens to that.
///
/// ext4 otherwise puts them side by side. Where it has no journal it may not reuse an inode that was deleted within the
/// last minutes, and looks at each such inode again for every file that is made beside it: a large tree that is made
/// where another one was just removed takes many times as long.
pub fn spread_directories(dir: impl AsFd) -> io::Result<bool> {
    let dir = dir.as_fd();
    #[expect(clippy::useless_conversion, reason = "the field's type differs between architectures")]
    if i64::from(rustix::fs::fstatfs(dir)?.f_type) != EXT4 {
        return Ok(false);
    }
    let flags = rustix::fs::ioctl_getflags(dir)?;
    if flags.contains(IFlags::TOPDIR) {
        return Ok(true);
    }
    match rustix::fs::ioctl_setflags(dir, flags | IFlags::TOPDIR) {
        Ok(()) => Ok(true),
        // ext2 and ext3 have the same number.
        Err(Errno::NOTSUP | Errno::INVAL | Errno::NOTTY) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::open_dir;

    #[test]
    fn what_is_asked_twice_is_answered_alike_and_not_handed_down() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        let listens = spread_directories(&fd).unwrap();
        assert_eq!(spread_directories(&fd).unwrap(), listens);
        std::fs::create_dir(dir.path().join("inner")).unwrap();
        let inner = open_dir(&dir.path().join("inner")).unwrap();
        if listens {
            assert!(rustix::fs::ioctl_getflags(&fd).unwrap().contains(IFlags::TOPDIR));
            assert!(!rustix::fs::ioctl_getflags(&inner).unwrap().contains(IFlags::TOPDIR));
        }
        assert!(!spread_directories(open_dir("/proc".as_ref()).unwrap()).unwrap());
    }
}
