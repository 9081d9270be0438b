//! A tree becomes another one without an archive between: files share their content on disk where that can be, and keep
//! their holes everywhere.
//!
//! The source is read as [`crate::pack()`] reads it: what a name is, is asked of a handle, and only regular files and
//! directories are opened. The target is a new directory that nobody else knows.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use davit_sys::file::{self, FileType, NodeKind, OFlags, Root, Stat, Times};

use crate::attribute::is_kept_xattr;
use crate::pack::shown;

/// Directories below each other; each holds two descriptors.
const DEPTH: usize = 256;
/// Bytes of the names of one directory.
const NAMES: usize = 64 << 20;
/// Bytes of the names of files that have several; others after that become files of their own.
const LINKS: usize = 32 << 20;

/// Why a tree was not cloned.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// One file is to blame.
    #[error("{doing} {path:?}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// Its path in the tree.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Directories are nested too deeply.
    #[error("limit reached: {0:?} lies in more than {DEPTH} directories")]
    Deep(String),
}

/// What was cloned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cloned {
    /// Files, directories and links, without the top.
    pub entries: u64,
    /// Bytes of regular files.
    pub bytes: u64,
    /// Bytes of them that both trees share.
    pub shared: u64,
}

/// Makes an open empty directory the same as another one, with all that is in it. Sockets are left out, and of file
/// systems that are an interface of the kernel everything but their top directory.
///
/// # Errors
/// When a file cannot be read or written. A file that vanishes meanwhile is no error.
pub fn clone(from: OwnedFd, to: OwnedFd) -> Result<Cloned, CloneError> {
    let root = to.try_clone().map_err(|error| failed("open", b".", error))?;
    let mut cloner =
        Cloner { root: Root::from_fd(root), links: HashMap::new(), link_bytes: 0, cloned: Cloned::default() };
    let stat = file::stat(&from).map_err(|error| failed("look at", b".", error))?;
    let mut levels = vec![cloner.level(from, to, stat, Vec::new())?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.left.pop() else {
            if let Some(level) = levels.pop() {
                level.finish()?;
            }
            continue;
        };
        let path = level.join(&name);
        let handle = match file::open_at(&level.from, &name, OFlags::PATH, 0) {
            Ok(handle) => handle,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("open", &path, error)),
        };
        if let Some(below) = cloner.entry(level, &handle, &name, path)? {
            if levels.len() >= DEPTH {
                return Err(CloneError::Deep(shown(&below.path)));
            }
            levels.push(below);
        }
    }
    Ok(cloner.cloned)
}

/// A directory that is being cloned.
struct Level {
    from: OwnedFd,
    to: OwnedFd,
    stat: Stat,
    path: Vec<u8>,
    left: Vec<OsString>,
}

impl Level {
    fn join(&self, name: &OsStr) -> Vec<u8> {
        if self.path.is_empty() {
            return name.as_bytes().to_vec();
        }
        [&self.path, &b"/"[..], name.as_bytes()].concat()
    }

    /// Last of all, for what is made in a directory changes its times, and a closed one takes nothing.
    fn finish(self) -> Result<(), CloneError> {
        let at = |error| failed("finish", &self.path, error);
        file::chown(&self.to, self.stat.st_uid, self.stat.st_gid).map_err(at)?;
        file::chmod(&self.to, self.stat.st_mode & 0o7777).map_err(at)?;
        set_xattrs(&self.from, &self.to).map_err(at)?;
        file::set_times(&self.to, times(&self.stat)).map_err(at)
    }
}

struct Cloner {
    /// The target.
    root: Root,
    /// The first path of files that have several.
    links: HashMap<(u64, u64), Vec<u8>>,
    link_bytes: usize,
    cloned: Cloned,
}

impl Cloner {
    fn level(&self, from: OwnedFd, to: OwnedFd, stat: Stat, path: Vec<u8>) -> Result<Level, CloneError> {
        let from = file::open_listing(from).map_err(|error| failed("open", &path, error))?;
        let interface = file::is_kernel_interface(&from).map_err(|error| failed("look at", &path, error))?;
        let left = match interface {
            true => Vec::new(),
            false => file::list_names(&from, NAMES).map_err(|error| failed("list", &path, error))?,
        };
        Ok(Level { from, to, stat, path, left })
    }

    fn entry(
        &mut self,
        level: &Level,
        handle: &OwnedFd,
        name: &OsStr,
        path: Vec<u8>,
    ) -> Result<Option<Level>, CloneError> {
        let at = |doing: &'static str| {
            let path = path.clone();
            move |error| failed(doing, &path, error)
        };
        let stat = file::stat(handle).map_err(at("look at"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if matches!(kind, FileType::Socket | FileType::Unknown) {
            return Ok(None);
        }
        self.cloned.entries += 1;
        if kind == FileType::Directory {
            file::make_dir_at(&level.to, name, 0o700).map_err(at("make"))?;
            let to = file::open_dir_at(&level.to, name).map_err(at("open"))?;
            let from = handle.try_clone().map_err(at("open"))?;
            return self.level(from, to, stat, path).map(Some);
        }
        if self.is_linked(&stat, level, name, &path).map_err(at("link"))? {
            return Ok(None);
        }
        match kind {
            FileType::RegularFile => self.regular(handle, &stat, level, name).map_err(at("clone"))?,
            FileType::Symlink => {
                let target = file::read_link(handle).map_err(at("read the link"))?;
                file::symlink_at(&target, &level.to, name).map_err(at("make"))?;
                finish_bare(&level.to, name, &stat).map_err(at("finish"))?;
            }
            other => {
                let (major, minor) = file::device_numbers(&stat);
                let node = match other {
                    FileType::CharacterDevice => NodeKind::Character { major, minor },
                    FileType::BlockDevice => NodeKind::Block { major, minor },
                    _ => NodeKind::Fifo,
                };
                let mode = stat.st_mode & 0o777;
                file::make_node_at(&level.to, name, node, mode).map_err(at("make"))?;
                finish_bare(&level.to, name, &stat).map_err(at("finish"))?;
                file::chmod_at(&level.to, name, stat.st_mode & 0o7777).map_err(at("finish"))?;
            }
        }
        Ok(None)
    }

    fn regular(&mut self, handle: &OwnedFd, stat: &Stat, level: &Level, name: &OsStr) -> io::Result<()> {
        let from = File::from(file::reopen(handle, OFlags::RDONLY | OFlags::NONBLOCK)?);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let to = File::from(file::open_at(&level.to, name, flags, 0o600)?);
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        if length > 0 && file::share(&from, &to)? {
            self.cloned.shared += length;
        } else {
            file::copy_data(&from, &to, length)?;
        }
        self.cloned.bytes += length;
        // Owner first: changing it takes setuid bits and capabilities away.
        file::chown(&to, stat.st_uid, stat.st_gid)?;
        file::chmod(&to, stat.st_mode & 0o7777)?;
        set_xattrs(&from, &to)?;
        file::set_times(&to, times(stat))
    }

    /// Whether the file was cloned under another name, which it now has here as well.
    fn is_linked(&mut self, stat: &Stat, level: &Level, name: &OsStr, path: &[u8]) -> io::Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&identity) {
            let first = Path::new(OsStr::from_bytes(first));
            let parent = first.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = self.root.open_dir_no_symlinks(parent.unwrap_or(Path::new(".")))?;
            file::link_at(&parent, first.file_name().unwrap_or_default(), &level.to, name)?;
            return Ok(true);
        }
        let bytes = path.len() + 64;
        if self.link_bytes + bytes <= LINKS {
            self.link_bytes += bytes;
            self.links.insert(identity, path.to_vec());
        }
        Ok(false)
    }
}

fn finish_bare(dir: &OwnedFd, name: &OsStr, stat: &Stat) -> io::Result<()> {
    file::chown_at(dir, name, stat.st_uid, stat.st_gid)?;
    file::set_times_at(dir, name, times(stat))
}

fn set_xattrs(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let wanted = |name: &[u8]| is_kept_xattr(name) || name.starts_with(b"system.posix_acl_");
    for (name, value) in file::xattrs(from, wanted)? {
        match file::set_xattr(to.as_fd(), OsStr::from_bytes(&name), &value) {
            // Not every file system keeps a user's attributes.
            Err(error) if error.kind() == io::ErrorKind::Unsupported && name.starts_with(b"user.") => {}
            other => other?,
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Times {
    let nanoseconds = |n| u32::try_from(n).unwrap_or(0);
    Times {
        accessed: (stat.st_atime, nanoseconds(stat.st_atime_nsec)),
        modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
    }
}

fn failed(doing: &'static str, path: &[u8], source: io::Error) -> CloneError {
    let path = if path.is_empty() { b"." } else { path };
    CloneError::File { doing, path: shown(path), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    #[test]
    fn a_tree_is_the_same_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/closed")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/file"), vec![7; 100_000]).unwrap();
        fs::hard_link(from.join("a/file"), from.join("again")).unwrap();
        File::create(from.join("hole")).unwrap().set_len(50 << 20).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        fs::set_permissions(from.join("a/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(from.join("a/closed"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1777)).unwrap();
        let folder = file::open_dir(&from.join("a")).unwrap();
        let long_ago = Times { accessed: (3, 0), modified: (1_000_000, 5) };
        file::set_times(&folder, long_ago).unwrap();
        let opened = file::open_at(&folder, "file".as_ref(), OFlags::RDONLY, 0).unwrap();
        let kept = file::set_xattr(&opened, "user.note".as_ref(), b"kept").is_ok();
        drop(std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap());

        let (source, target) = (file::open_dir(&from).unwrap(), file::open_dir(&to).unwrap());
        let cloned = clone(source, target).unwrap();
        assert_eq!(cloned.entries, 6);
        assert_eq!(cloned.bytes, 100_000 + (50 << 20));
        assert_eq!(fs::read(to.join("a/file")).unwrap(), vec![7; 100_000]);
        let of = |path: &str| fs::symlink_metadata(to.join(path)).unwrap();
        assert_eq!(of("a/file").ino(), of("again").ino());
        assert_eq!((of("a/file").mode() & 0o7777, of("a/closed").mode() & 0o7777), (0o4751, 0o500));
        assert_eq!((of("a").mtime(), of("a").mtime_nsec()), (1_000_000, 5));
        assert_eq!((of("hole").len(), of("hole").blocks()), (50 << 20, 0));
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1777);
        assert!(!to.join("socket").exists());
        let opened = File::open(to.join("a/file")).unwrap();
        assert!(
            !kept
                || file::xattrs(&opened, |_| true)
                    .unwrap()
                    .contains(&(b"user.note".to_vec(), b"kept".to_vec()))
        );
    }
}
