//! Resolution of untrusted paths: `openat2` in a root, without magic links.
//!
//! Absolute paths and absolute symlinks start at the root, `..` stops there, and links of the `/proc/*/fd` kind
//! are refused. There is no second way: nothing here looks at a path as a string to decide whether it is safe.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::entry;

/// `openat2` answers EAGAIN when a rename raced with `..`; that many races in a row are an attack.
const RACES: usize = 256;
/// As many symlinks as the kernel follows in one path.
const MAX_LINKS: usize = 40;
/// The longest path that is looked at.
const MAX_PATH: usize = 4096;

/// A directory below which untrusted paths are resolved.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// Where the last component of a path lives: an open directory and a single name in it.
#[derive(Debug)]
pub struct Parent {
    /// The directory, opened with `O_PATH`.
    pub dir: OwnedFd,
    /// One component: never empty, `.`, `..`, and never with a slash.
    pub name: OsString,
}

impl Root {
    /// Opens the root itself by a path that the caller trusts.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// Takes a directory that is open already as the root.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// A second handle of the same root.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Opens `path` inside the root with the given flags; `mode` counts only with `CREATE`.
    ///
    /// `CLOEXEC` and `NOCTTY` are always added. Symlinks are followed inside the root unless `NOFOLLOW` says
    /// otherwise for the last component.
    pub fn resolve(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        self.resolve_with(path, flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// As [`Root::resolve`], and fails with `EXDEV` where the path crosses a mount.
    pub fn resolve_same_mount(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        self.resolve_with(path, flags, mode, resolve)
    }

    /// An `O_PATH` handle of a directory whose path has no symlink in it; one that has fails with `ELOOP`.
    pub fn open_dir_no_symlinks(&self, path: &Path) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        self.resolve_with(path, OFlags::PATH | OFlags::DIRECTORY, 0, resolve)
    }

    fn resolve_with(
        &self,
        path: &Path,
        flags: OFlags,
        mode: u32,
        resolve: ResolveFlags,
    ) -> io::Result<OwnedFd> {
        if path.as_os_str().len() > MAX_PATH {
            return Err(Errno::NAMETOOLONG.into());
        }
        // An empty path names the root itself, as "/" does.
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        let flags = if flags.contains(OFlags::PATH) {
            flags | OFlags::CLOEXEC
        } else {
            flags | OFlags::CLOEXEC | OFlags::NOCTTY
        };
        for _ in 0..RACES {
            match rustix::fs::openat2(&self.fd, path, flags, Mode::from_raw_mode(mode), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// An `O_PATH` handle of what `path` names, symlinks followed.
    pub fn open_path(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH, 0)
    }

    /// An `O_PATH` handle of what `path` names; a symlink at the end is opened itself.
    pub fn open_path_nofollow(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW, 0)
    }

    /// A readable handle of a directory, for listing and syncing.
    pub fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)
    }

    /// A readable handle of a regular file; anything else is an error, and a FIFO never blocks.
    pub fn open_file(&self, path: &Path) -> io::Result<std::fs::File> {
        let fd = self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
        if !entry::is_regular(&fd)? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(fd.into())
    }

    /// The whole content of a regular file of at most `limit` bytes.
    pub fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        super::atomic::read_bounded_file(&self.open_file(path)?, limit)
    }

    /// Opens the directory that holds the last component of `path`, which is not followed and need not exist; missing
    /// directories on the way are made with `mode`.
    ///
    /// A path without a last component (empty, `/`, ending in `..`) is an error.
    pub fn make_parent(&self, path: &Path, mode: u32) -> io::Result<Parent> {
        let (parent, name) = split(path)?;
        Ok(Parent { dir: self.make_dirs(&parent, mode)?, name })
    }

    /// Makes `path` and every missing directory above it with exactly `mode`, and opens it with `O_PATH`.
    ///
    /// Symlinks are followed inside the root, also those whose target is missing: the target is made.
    pub fn make_dirs(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        self.make_dirs_through(path, mode, MAX_LINKS)
    }

    fn make_dirs_through(&self, path: &Path, mode: u32, links: usize) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, 0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let mut done = PathBuf::from("/");
        let mut dir = self.resolve(&done, OFlags::PATH | OFlags::DIRECTORY, 0)?;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                Component::ParentDir => done.push(".."),
                Component::Normal(name) => {
                    done.push(name);
                    match entry::make_dir_at(&dir, name, mode) {
                        Ok(()) => {}
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(e) => return Err(e),
                    }
                }
            }
            let next = match self.resolve(&done, OFlags::PATH | OFlags::DIRECTORY, 0) {
                Err(e) if e.kind() == io::ErrorKind::NotFound && links > 0 => {
                    self.make_link_target(dir.as_fd(), &done, mode, links)?
                }
                other => other?,
            };
            dir = next;
        }
        Ok(dir)
    }

    /// Makes an empty file at `path`, with missing directories above it, and opens what is there with `O_PATH`.
    ///
    /// Symlinks are followed inside the root, also those whose target is missing: the target is made.
    pub fn make_file(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        self.make_file_through(path, mode, MAX_LINKS)
    }

    fn make_file_through(&self, path: &Path, mode: u32, links: usize) -> io::Result<OwnedFd> {
        let Parent { dir, name } = self.make_parent(path, 0o755)?;
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        match entry::open_at(&dir, &name, new, mode) {
            Ok(_made) => return entry::open_at(&dir, &name, OFlags::PATH | OFlags::NOFOLLOW, 0),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        match rustix::fs::readlinkat(&dir, &name, Vec::new()) {
            Ok(_) if links == 0 => Err(Errno::LOOP.into()),
            Ok(target) => {
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                let base = path.parent().unwrap_or(Path::new("/"));
                self.make_file_through(&base.join(target), mode, links - 1)
            }
            // No link.
            Err(Errno::INVAL) => entry::open_at(&dir, &name, OFlags::PATH | OFlags::NOFOLLOW, 0),
            Err(e) => Err(e.into()),
        }
    }

    /// `path` exists in `dir` and yet resolves to nothing: it is a dangling symlink, so its target is made.
    fn make_link_target(
        &self,
        dir: BorrowedFd<'_>,
        path: &Path,
        mode: u32,
        links: usize,
    ) -> io::Result<OwnedFd> {
        let name = path.file_name().ok_or(Errno::NOENT)?;
        let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        let base = path.parent().unwrap_or(Path::new("/"));
        self.make_dirs_through(&base.join(target), mode, links - 1)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Root> for OwnedFd {
    fn from(root: Root) -> Self {
        root.fd
    }
}

/// Splits a path into the part that may be resolved and the last component, which may not.
fn split(path: &Path) -> io::Result<(PathBuf, OsString)> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let bytes = path.as_os_str().as_bytes();
    if bytes.contains(&0) {
        return Err(invalid("path holds a NUL byte"));
    }
    let trimmed = bytes.iter().rposition(|&b| b != b'/').map_or(&[][..], |last| &bytes[..=last]);
    let start = trimmed.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let name = &trimmed[start..];
    if name.is_empty() || name == b"." || name == b".." {
        return Err(invalid("path has no last component"));
    }
    Ok((PathBuf::from(OsStr::from_bytes(&trimmed[..start])), OsStr::from_bytes(name).to_owned()))
}

/// Whether an error of opening a path says that it does not mean such a thing any more: nothing, something of another
/// kind, a link, or something beyond a mount. Other errors say that it could not be looked at.
#[must_use]
pub fn is_elsewhere(error: &io::Error) -> bool {
    let of = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::XDEV].into_iter().any(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn split_keeps_the_last_component_apart() {
        let ok = |p: &str| split(Path::new(p)).map(|(a, b)| (a.to_str().unwrap().to_owned(), b)).unwrap();
        assert_eq!(ok("a"), (String::new(), "a".into()));
        assert_eq!(ok("/a/b/c//"), ("/a/b/".into(), "c".into()));
        assert_eq!(ok("../x"), ("../".into(), "x".into()));
        for bad in ["", "/", "//", "..", "a/..", "a/.", "."] {
            assert!(split(Path::new(bad)).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_absolute_symlink_and_dot_dot_stay_inside() {
        let (dir, root) = root();
        std::fs::write(dir.path().join("passwd"), "inside").unwrap();
        symlink("/passwd", dir.path().join("link")).unwrap();
        assert_eq!(root.read(Path::new("/link"), 100).unwrap(), b"inside");
        assert_eq!(root.read(Path::new("../../../passwd"), 100).unwrap(), b"inside");
        assert!(root.read(Path::new("/etc/hostname"), 100).is_err());
    }

    #[test]
    fn magic_links_are_refused() {
        let root = Root::open(Path::new("/")).unwrap();
        let err = root.open_path(Path::new("/proc/self/fd/0/x")).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn make_dirs_follows_a_dangling_link_inside_the_root() {
        let (dir, root) = root();
        std::fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        root.make_dirs(Path::new("/var/run/app/x"), 0o755).unwrap();
        assert!(dir.path().join("run/app/x").is_dir());
        symlink("../../../../out", dir.path().join("escape")).unwrap();
        root.make_dirs(Path::new("escape/in"), 0o755).unwrap();
        assert!(dir.path().join("out/in").is_dir());
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(root.make_dirs(Path::new("loop/x"), 0o755).is_err());
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let (dir, root) = root();
        std::fs::write(dir.path().join("f"), "").unwrap();
        assert!(root.make_dirs(Path::new("f/x"), 0o755).is_err());
        assert!(root.make_dirs(Path::new("f"), 0o755).is_err());
    }

    #[test]
    fn a_fifo_neither_blocks_nor_reads() {
        let (dir, root) = root();
        entry::make_node_at(&root, "p".as_ref(), entry::NodeKind::Fifo, 0o644).unwrap();
        assert!(dir.path().join("p").exists());
        assert!(root.open_file(Path::new("p")).is_err());
    }

    #[test]
    fn make_file_follows_dangling_links_inside_the_root() {
        let (dir, root) = root();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("etc")).unwrap();
        symlink("../run/systemd/resolv.conf", at("etc/resolv.conf")).unwrap();
        symlink("/../../../made", at("etc/up")).unwrap();
        symlink("round", at("etc/round")).unwrap();
        for (path, made) in [
            ("/etc/resolv.conf", "run/systemd/resolv.conf"),
            ("/etc/up", "made"),
            ("/new/deep/file", "new/deep/file"),
        ] {
            let fd = root.make_file(Path::new(path), 0o644).unwrap();
            assert!(at(made).is_file(), "{path}");
            assert!(entry::is_same(fd, root.open_path(Path::new(made)).unwrap()).unwrap(), "{path}");
        }
        assert!(root.make_file(Path::new("/etc/round"), 0o644).is_err());
    }
}
