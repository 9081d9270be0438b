//! Removal of whole trees that somebody else made: no symlink is followed, no depth exhausts us.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, FileType, RawDir};
use rustix::io::Errno;

use super::entry;

/// Directories deeper than this are moved up to the top first, so that depth costs neither stack nor descriptors.
const MAX_DEPTH: usize = 64;

/// Removes the entry `name` of `dir` and everything below it; an entry that is not there is no error.
pub fn remove_tree(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    let dir = dir.as_fd();
    match entry::remove_file_at(dir, name) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) if is_directory_error(&e) => {}
        Err(e) => return Err(e),
    }
    remove_children(entry::open_dir_at(dir, name)?)?;
    match entry::remove_dir_at(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes everything in a directory, and leaves the directory.
pub fn remove_children(dir: impl AsFd) -> io::Result<()> {
    let mut sweep = Sweep { top: dir.as_fd(), moved: 0 };
    loop {
        let before = sweep.moved;
        sweep.empty(sweep.top, 0)?;
        if sweep.moved == before {
            return Ok(());
        }
    }
}

/// The names of the directories in a directory.
pub fn list_dirs(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    let names = list(dir.as_fd())?;
    let dirs = names.into_iter().filter(|(_, file_type)| *file_type == FileType::Directory);
    Ok(dirs.map(|(name, _)| OsString::from_vec(name.into_bytes())).collect())
}

/// The names in an open directory, of at most so many bytes together.
pub fn list_names(dir: impl AsFd, limit: usize) -> io::Result<Vec<OsString>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    let (mut names, mut bytes) = (Vec::new(), 0_usize);
    while let Some(found) = entries.next() {
        let found = found?;
        let name = found.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        bytes = bytes.saturating_add(name.len() + size_of::<OsString>());
        if bytes > limit {
            let why = format!("names in one directory take more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        names.push(OsStr::from_bytes(name).to_owned());
    }
    Ok(names)
}

fn is_directory_error(e: &io::Error) -> bool {
    // unlink(2) of a directory is EISDIR on Linux, and EPERM on some file systems.
    matches!(Errno::from_io_error(e), Some(Errno::ISDIR | Errno::PERM))
}

struct Sweep<'a> {
    top: BorrowedFd<'a>,
    moved: u64,
}

impl Sweep<'_> {
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        for (name, file_type) in list(dir)? {
            let name = OsStr::from_bytes(name.as_bytes());
            if file_type != FileType::Directory {
                match entry::remove_file_at(dir, name) {
                    Ok(()) => continue,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) if is_directory_error(&e) => {}
                    Err(e) => return Err(e),
                }
            }
            if depth >= MAX_DEPTH {
                self.move_up(dir, name)?;
                continue;
            }
            let child: OwnedFd = entry::open_dir_at(dir, name)?;
            self.empty(child.as_fd(), depth + 1)?;
            match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        loop {
            let new = format!(".removed-{}", self.moved);
            self.moved += 1;
            match rustix::fs::renameat(dir, name, self.top, new.as_str()) {
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                other => return Ok(other?),
            }
        }
    }
}

/// The names of a directory, read to the end before anything is removed: readdir while unlinking may skip.
fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<(CString, FileType)>> {
    rustix::fs::seek(dir, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(found) = entries.next() {
        let found = found?;
        let name = found.file_name();
        if name != c"." && name != c".." {
            names.push((name.to_owned(), found.file_type()));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn removes_links_not_their_targets() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("canary"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("t/a/b")).unwrap();
        symlink(outside.path(), dir.path().join("t/a/out")).unwrap();
        std::fs::write(dir.path().join("t/f"), "x").unwrap();
        let fd = entry::open_dir(dir.path()).unwrap();
        remove_tree(&fd, "t".as_ref()).unwrap();
        assert!(!dir.path().join("t").exists());
        assert!(outside.path().join("canary").exists());
        remove_tree(&fd, "t".as_ref()).unwrap();
    }

    #[test]
    fn a_very_deep_tree_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut current = entry::open_dir(dir.path()).unwrap();
        for _ in 0..3000 {
            entry::make_dir_at(&current, "d".as_ref(), 0o755).unwrap();
            current = entry::open_dir_at(&current, "d".as_ref()).unwrap();
        }
        drop(current);
        let fd = entry::open_dir(dir.path()).unwrap();
        remove_children(&fd).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
