//! How much disk a tree takes that others wrote: no link is followed, depth and descriptors are bounded.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use davit_sys::file::{self, FileType};
use rustix::fs::Dir;

/// Directories deeper than this are counted themselves, not their content.
const MAX_DEPTH: usize = 64;

/// Bytes of disk of `name` in `dir` and all below it. What cannot be read counts nothing: the answer is for a
/// person.
pub fn disk_usage(dir: impl AsFd, name: &OsStr) -> u64 {
    usage(dir.as_fd(), name, 0)
}

fn usage(dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> u64 {
    let Ok(stat) = file::stat_at(dir, name) else { return 0 };
    let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        // A file with several names counts its share each time.
        let share = u128::from(bytes) / u128::from(stat.st_nlink).max(1);
        return u64::try_from(share).unwrap_or(bytes);
    }
    let below = if depth < MAX_DEPTH { children(dir, name, depth) } else { 0 };
    bytes.saturating_add(below)
}

fn children(dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> u64 {
    let Ok(fd) = file::open_dir_at(dir, name) else { return 0 };
    let Ok(entries) = Dir::read_from(&fd) else { return 0 };
    entries
        .filter_map(Result::ok)
        .filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
        .map(|entry| usage(fd.as_fd(), OsStr::from_bytes(entry.file_name().to_bytes()), depth + 1))
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_files_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("t");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/b/f"), vec![1_u8; 40_960]).unwrap();
        std::fs::hard_link(tree.join("a/b/f"), tree.join("again")).unwrap();
        std::os::unix::fs::symlink("/usr", tree.join("usr")).unwrap();
        let dir = file::open_dir(folder.path()).unwrap();
        let bytes = disk_usage(&dir, "t".as_ref());
        assert!((40_960..81_920).contains(&bytes), "{bytes}");
        assert_eq!(disk_usage(&dir, "nothing".as_ref()), 0);
    }
}
