//! The entries of a layer become files: each path is resolved inside the layer's root, and everything after works on
//! descriptors and single names.
//!
//! Only this writer changes the tree, so names are created in the archive's order on one thread. A directory's times
//! are set at the end, because each entry made in it changes them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use davit_archive::path::check_target;
use davit_archive::set_xattrs;
use davit_archive::tar::{Entry, Kind, Reader};
use davit_sys::file::{self, FileType, NodeKind, OFlags, Root, Stat, Times};

use super::limit::Limits;
use super::path::{Action, LayerPath, PathProblem, action};
use super::{Applied, Problem, UnpackError};

const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// Mode of directories that the archive implies.
const IMPLIED_MODE: u32 = 0o755;
/// What an entry is made with. The bits above are for the owner that it shall have, so they come after it.
const PERMISSIONS: u32 = 0o777;

/// Applies a layer's tar stream to an empty directory, and reads the stream to its end.
///
/// When this fails, the directory holds a part of the layer and is only good to be removed.
pub fn apply(input: impl BufRead, root: Root, limits: &Limits) -> Result<Applied, UnpackError> {
    let mut reader = Reader::new(input, limits.header_bytes);
    let mut tree = Tree {
        root,
        limits: *limits,
        parent: None,
        directories: Vec::new(),
        names: 0,
        implied: 0,
        applied: Applied::default(),
    };
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(problem) => return Err(UnpackError::new(reader.name(), problem.into())),
        };
        tree.entry(&entry, &mut reader).map_err(|problem| UnpackError::new(&entry.path, problem))?;
    }
    tree.finish()
}

/// A directory whose times are still to be set.
struct Directory {
    path: LayerPath,
    identity: (u64, u64),
    times: Times,
}

struct Tree {
    root: Root,
    limits: Limits,
    /// The directory that the last entry was made in: the next one is mostly made there too.
    parent: Option<(Vec<u8>, OwnedFd)>,
    directories: Vec<Directory>,
    /// Bytes of names kept for the end.
    names: usize,
    /// Bytes of names of implied directories.
    implied: usize,
    applied: Applied,
}

impl Tree {
    fn entry(&mut self, entry: &Entry, data: &mut Reader<impl BufRead>) -> Result<(), Problem> {
        self.applied.entries += 1;
        if self.applied.entries > self.limits.entries {
            return Err(Problem::Limit("number of entries", self.limits.entries));
        }
        match action(&entry.path, entry.kind)? {
            Action::Ignore => Ok(()),
            Action::Root => self.layer_root(entry),
            Action::Hide(path) => self.hide(&path),
            Action::HideAll(path) => self.hide_all(&path),
            Action::Make(path) => self.make(&path, entry, data),
        }
    }

    fn make(
        &mut self,
        path: &LayerPath,
        entry: &Entry,
        data: &mut Reader<impl BufRead>,
    ) -> Result<(), Problem> {
        let (parent, name) = path.split().ok_or(Problem::Path(PathProblem::Root))?;
        let name = OsStr::from_bytes(name);
        match entry.kind {
            Kind::Directory => self.directory(path, parent, name, entry),
            Kind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let mode = entry.mode & PERMISSIONS;
                let fd = self.create(parent, name, |dir| file::open_at(dir, name, flags, mode))?;
                self.applied.bytes = self.applied.bytes.saturating_add(entry.size);
                fill(fd.into(), entry, data)
            }
            Kind::Hardlink => self.hardlink(parent, name, entry),
            Kind::Symlink => {
                check_target(&entry.link).map_err(named)?;
                let target = OsStr::from_bytes(&entry.link);
                self.create(parent, name, |dir| file::symlink_at(target, dir, name))?;
                let dir = self.parent(parent)?;
                file::chown_at(dir, name, entry.uid, entry.gid).map_err(failed("set the owner"))?;
                file::set_times_at(dir, name, entry.times()).map_err(failed("set the times"))
            }
            Kind::Character | Kind::Block | Kind::Fifo => self.node(parent, name, entry),
        }
    }

    fn node(&mut self, parent: &[u8], name: &OsStr, entry: &Entry) -> Result<(), Problem> {
        let (major, minor) = entry.device;
        let kind = match entry.kind {
            Kind::Character => NodeKind::Character { major, minor },
            Kind::Block => NodeKind::Block { major, minor },
            _ => NodeKind::Fifo,
        };
        self.create(parent, name, |dir| file::make_node_at(dir, name, kind, entry.mode & 0o777))?;
        let dir = self.parent(parent)?;
        file::chown_at(dir, name, entry.uid, entry.gid).map_err(failed("set the owner"))?;
        file::chmod_at(dir, name, entry.mode).map_err(failed("set the mode"))?;
        file::set_times_at(dir, name, entry.times()).map_err(failed("set the times"))
    }

    fn hardlink(&mut self, parent: &[u8], name: &OsStr, entry: &Entry) -> Result<(), Problem> {
        let target = LayerPath::parse(&entry.link).map_err(named)?;
        let (target_parent, target_name) = target.split().ok_or(Problem::Target(PathProblem::Root))?;
        let target_name = OsStr::from_bytes(target_name);
        let path = OsStr::from_bytes(target_parent);
        let from =
            self.root.open_dir_no_symlinks(Path::new(path)).map_err(failed("find the link's target"))?;
        let linked = file::stat_at(&from, target_name).map_err(failed("find the link's target"))?;
        if let Ok(existing) = file::stat_at(self.parent(parent)?, name)
            && identity(&existing) == identity(&linked)
        {
            return Ok(());
        }
        self.create(parent, name, |dir| file::link_at(&from, target_name, dir, name))
    }

    fn directory(
        &mut self,
        path: &LayerPath,
        parent: &[u8],
        name: &OsStr,
        entry: &Entry,
    ) -> Result<(), Problem> {
        let dir = self.parent(parent)?;
        match file::make_dir_at(dir, name, entry.mode & PERMISSIONS) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if !is_kind(&self.existing(parent, name)?, FileType::Directory) {
                    self.replace_by_dir(parent, name)?;
                }
            }
            Err(e) => return Err(Problem::Io("make the directory", e)),
        }
        let fd = file::open_dir_at(self.parent(parent)?, name).map_err(failed("open the directory"))?;
        self.settle_directory(path.clone(), &fd, entry)
    }

    fn layer_root(&mut self, entry: &Entry) -> Result<(), Problem> {
        let fd = self.root.open_dir(Path::new("/")).map_err(failed("open the layer's root"))?;
        let root = LayerPath::parse(b".").map_err(PathProblem::Name)?;
        self.settle_directory(root, &fd, entry)
    }

    fn settle_directory(&mut self, path: LayerPath, fd: &OwnedFd, entry: &Entry) -> Result<(), Problem> {
        let made = file::stat(fd).map_err(failed("look at the directory"))?;
        set_metadata(fd, &made, entry)?;
        self.names = self.names.saturating_add(path.bytes().len() + size_of::<Directory>());
        if self.names > self.limits.directory_bytes {
            return Err(Problem::Limit("bytes of directory names", self.limits.directory_bytes as u64));
        }
        self.directories.push(Directory { path, identity: identity(&made), times: entry.times() });
        Ok(())
    }

    /// A whiteout concerns the layers below: what this layer itself has under the name stays, and a directory among it
    /// is shown without what is below.
    fn hide(&mut self, path: &LayerPath) -> Result<(), Problem> {
        let (parent, name) = path.split().ok_or(Problem::Path(PathProblem::Whiteout))?;
        let name = OsStr::from_bytes(name);
        match make_whiteout(self.parent(parent)?, name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map_err(failed("make the whiteout")),
        }
        if is_kind(&self.existing(parent, name)?, FileType::Directory) {
            let fd = file::open_dir_at(self.parent(parent)?, name).map_err(failed("open the directory"))?;
            set_opaque(&fd)?;
        }
        Ok(())
    }

    fn hide_all(&mut self, path: &LayerPath) -> Result<(), Problem> {
        let Some((parent, name)) = path.split() else {
            self.applied.opaque = true;
            return Ok(());
        };
        self.parent(path.bytes())?;
        let fd = file::open_dir_at(self.parent(parent)?, OsStr::from_bytes(name))
            .map_err(failed("open the directory"))?;
        set_opaque(&fd)
    }

    /// Makes an entry; what has the name already gives way to it.
    fn create<T>(
        &mut self,
        parent: &[u8],
        name: &OsStr,
        make: impl Fn(&OwnedFd) -> io::Result<T>,
    ) -> Result<T, Problem> {
        match make(self.parent(parent)?) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map_err(failed("make the entry")),
        }
        let existing = self.existing(parent, name)?;
        let dir = self.parent(parent)?;
        if is_kind(&existing, FileType::Directory) {
            file::remove_tree(dir, name).map_err(failed("replace the directory"))?;
        } else {
            file::remove_file_at(dir, name).map_err(failed("replace the file"))?;
        }
        // What was removed may have been on the way to the directory that is kept open.
        self.parent = None;
        make(self.parent(parent)?).map_err(failed("make the entry"))
    }

    fn existing(&mut self, parent: &[u8], name: &OsStr) -> Result<Stat, Problem> {
        file::stat_at(self.parent(parent)?, name).map_err(failed("look at the entry"))
    }

    /// Something that is no directory has the name of one. Where it is this layer's own whiteout, the directory goes on
    /// hiding what the layers below have there.
    fn replace_by_dir(&mut self, parent: &[u8], name: &OsStr) -> Result<(), Problem> {
        let hidden = is_whiteout(&self.existing(parent, name)?);
        let dir = self.parent(parent)?;
        file::remove_file_at(dir, name).map_err(failed("replace the file"))?;
        file::make_dir_at(dir, name, IMPLIED_MODE).map_err(failed("make the directory"))?;
        if hidden {
            set_opaque(&file::open_dir_at(dir, name).map_err(failed("open the directory"))?)?;
        }
        self.parent = None;
        Ok(())
    }

    /// The directory at `path`, open; made when the archive only implies it.
    fn parent(&mut self, path: &[u8]) -> Result<&OwnedFd, Problem> {
        if self.parent.as_ref().is_none_or(|(known, _)| known != path) {
            let fd = match self.open(path) {
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    self.imply(path)?
                }
                other => other.map_err(failed("open the parent directory"))?,
            };
            self.parent = Some((path.to_vec(), fd));
        }
        self.parent.as_ref().map(|(_, fd)| fd).ok_or(Problem::Path(PathProblem::Root))
    }

    fn open(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.root.resolve(Path::new(OsStr::from_bytes(path)), OFlags::PATH | OFlags::DIRECTORY, 0)
    }

    /// Makes the missing directories of a path, one component at a time.
    fn imply(&mut self, path: &[u8]) -> Result<OwnedFd, Problem> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([path.len()]);
        let mut dir = self.open(b"").map_err(failed("open the layer's root"))?;
        let mut start = 0;
        for end in ends {
            let (prefix, name) = (&path[..end], OsStr::from_bytes(&path[start..end]));
            start = end + 1;
            match file::stat_at(&dir, name) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    file::make_dir_at(&dir, name, IMPLIED_MODE)
                        .map_err(failed("make the parent directory"))?;
                    self.note_implied(prefix)?;
                }
                Ok(stat) if is_whiteout(&stat) => {
                    file::remove_file_at(&dir, name).map_err(failed("replace the whiteout"))?;
                    file::make_dir_at(&dir, name, IMPLIED_MODE)
                        .map_err(failed("make the parent directory"))?;
                    set_opaque(&file::open_dir_at(&dir, name).map_err(failed("open the parent directory"))?)?;
                }
                Ok(_) => {}
                Err(e) => return Err(Problem::Io("look at the parent directory", e)),
            }
            dir = self.open(prefix).map_err(failed("open the parent directory"))?;
        }
        Ok(dir)
    }

    fn note_implied(&mut self, path: &[u8]) -> Result<(), Problem> {
        self.implied = self.implied.saturating_add(path.len() + 1);
        if self.implied > self.limits.implied_bytes {
            return Err(Problem::Limit(
                "bytes of names of implied directories",
                self.limits.implied_bytes as u64,
            ));
        }
        self.applied.implied.push(LayerPath::parse(path).map_err(PathProblem::Name)?);
        Ok(())
    }

    /// Sets the times of directories, if the name still means the same directory.
    fn finish(mut self) -> Result<Applied, UnpackError> {
        self.parent = None;
        for Directory { path, identity: told, times } in std::mem::take(&mut self.directories) {
            let at = Path::new(OsStr::from_bytes(path.bytes()));
            let set = match self.root.resolve(at, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0) {
                Ok(fd) => file::stat(&fd).and_then(|stat| {
                    if identity(&stat) == told { file::set_times(&fd, times) } else { Ok(()) }
                }),
                Err(error) if file::is_elsewhere(&error) => Ok(()),
                Err(error) => Err(error),
            };
            set.map_err(|e| UnpackError::new(path.bytes(), Problem::Io("set the directory's times", e)))?;
        }
        Ok(self.applied)
    }
}

fn fill(mut file: File, entry: &Entry, data: &mut Reader<impl BufRead>) -> Result<(), Problem> {
    loop {
        let part = data.data()?;
        if part.is_empty() {
            break;
        }
        let n = part.len();
        file::write_sparse(&mut file, part).map_err(failed("write the file"))?;
        data.consume(n);
    }
    let made = file::stat(&file).map_err(failed("look at the file"))?;
    if u64::try_from(made.st_size).is_ok_and(|length| length < entry.size) {
        file.set_len(entry.size).map_err(failed("write the file"))?;
    }
    set_metadata(&file, &made, entry)?;
    file::set_times(&file, entry.times()).map_err(failed("set the times"))
}

/// What is not as it was made. Owner first: changing it takes setuid bits and capabilities away.
fn set_metadata(fd: impl AsFd, made: &Stat, entry: &Entry) -> Result<(), Problem> {
    let fd = fd.as_fd();
    let owned = (made.st_uid, made.st_gid) == (entry.uid, entry.gid);
    if !owned {
        file::chown(fd, entry.uid, entry.gid).map_err(failed("set the owner"))?;
    }
    if !owned || made.st_mode & 0o7777 != entry.mode {
        file::chmod(fd, entry.mode).map_err(failed("set the mode"))?;
    }
    set_xattrs(fd, entry).map_err(failed("set an extended attribute"))
}

fn named(problem: davit_archive::PathProblem) -> Problem {
    Problem::Target(problem.into())
}

fn make_whiteout(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    file::make_node_at(dir, name, NodeKind::Character { major: 0, minor: 0 }, 0)
}

fn set_opaque(fd: &OwnedFd) -> Result<(), Problem> {
    file::set_xattr(fd, OsStr::new(OPAQUE_XATTR), b"y").map_err(failed("hide the directory's lower content"))
}

fn is_kind(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn is_whiteout(stat: &Stat) -> bool {
    is_kind(stat, FileType::CharacterDevice) && stat.st_rdev == 0
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> Problem {
    move |error| Problem::Io(action, error)
}
