//! An archive becomes files below a directory, while somebody may change what is there.
//!
//! Every entry's directory is resolved from the top without a single symlink, so that neither an earlier entry nor
//! anybody else's link leads out of it; then come single names only. Each file is made whole under a name of its own
//! and renamed to the one it is to have: no reader sees half a file, and nothing is written through what was there.
//! What a killed process leaves is at most one such file, `.davit-cp.*`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use davit_sys::file::{self, FileType, NodeKind, OFlags, Root, Stat, Times};

use crate::attribute::set_xattrs;
use crate::owner::Owners;
use crate::pack::shown;
use crate::path::{EntryPath, PathProblem, check_target};
use crate::tar::{self, Entry, Kind, Reader};

/// Mode of directories that the archive implies.
const IMPLIED_MODE: u32 = 0o755;
/// Mode of directories until all is in them.
const OPEN_MODE: u32 = 0o700;
/// As many names of our own are tried as somebody may have taken.
const TRIES: usize = 100;

/// What an archive may cost. Each limit has a name that its error tells.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of the extended headers of one entry.
    pub header_bytes: u64,
    /// Bytes of the names of directories, which are kept until the end to set their times.
    pub directory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 16_000_000, header_bytes: 1 << 20, directory_bytes: 64 << 20 }
    }
}

/// What was extracted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of its regular files.
    pub bytes: u64,
}

/// Why an archive was not extracted.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// One entry is to blame.
    #[error("extract entry {entry:?}")]
    Entry {
        /// Its name, cut.
        entry: String,
        /// What is wrong.
        #[source]
        problem: Problem,
    },
    /// The archive as a whole is to blame, or its source.
    #[error("extract the archive")]
    Archive(#[source] Problem),
}

/// What is wrong with an archive, or where it goes.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The archive is malformed or ambiguous.
    #[error(transparent)]
    Tar(#[from] tar::Problem),
    /// The entry's name is refused.
    #[error(transparent)]
    Path(#[from] PathProblem),
    /// The target of a link is refused.
    #[error("link target: {0}")]
    Target(#[source] PathProblem),
    /// A limit was reached.
    #[error("limit reached: {0} is more than {1}")]
    Limit(&'static str, u64),
    /// The owner has no number here.
    #[error("owner {0}:{1} is none of the container's")]
    Owner(u32, u32),
    /// A file would take the place of a directory.
    #[error("cannot overwrite directory with non-directory")]
    OverDirectory,
    /// A directory would take the place of a file.
    #[error("cannot overwrite non-directory with directory")]
    OverFile,
    /// A part of the name is a link.
    #[error("a directory on the way is a symbolic link")]
    ThroughLink,
    /// It would be written into an interface of the kernel.
    #[error("it lies in a file system of the kernel, such as /proc")]
    Kernel,
    /// The file system refused.
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
}

impl ExtractError {
    fn new(entry: &[u8], problem: Problem) -> Self {
        if entry.is_empty() { Self::Archive(problem) } else { Self::Entry { entry: shown(entry), problem } }
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        match self {
            Self::Entry { problem, .. } | Self::Archive(problem) => problem,
        }
    }

    /// The file system's error, if it was that.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        match self.problem() {
            Problem::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Extracts an archive into a directory, and reads it to its end.
///
/// Directories that are there stay and get the archive's metadata; files are replaced. A directory never takes the place
/// of something else, nor the other way round.
///
/// # Errors
/// When the archive is none, an entry is refused, or the file system fails. What was extracted until then stays.
pub fn extract(
    input: impl BufRead,
    directory: OwnedFd,
    owners: Owners,
    limits: &Limits,
) -> Result<Extracted, ExtractError> {
    run(input, directory, owners, limits, Top::Kept)
}

/// As [`extract`], and what the archive says of `.` becomes true of the directory itself: for one that is new.
///
/// # Errors
/// As those of [`extract`].
pub fn extract_with_top(
    input: impl BufRead,
    directory: OwnedFd,
    owners: Owners,
    limits: &Limits,
) -> Result<Extracted, ExtractError> {
    run(input, directory, owners, limits, Top::Set)
}

/// What becomes of the directory that an archive is extracted into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Top {
    /// It stays as it is.
    Kept,
    /// It gets the archive's owner, mode and times.
    Set,
}

fn run(
    input: impl BufRead,
    directory: OwnedFd,
    owners: Owners,
    limits: &Limits,
    top: Top,
) -> Result<Extracted, ExtractError> {
    let mut reader = Reader::new(input, limits.header_bytes);
    let mut tree = Tree {
        root: Root::from_fd(directory),
        owners,
        top,
        limits: *limits,
        parent: None,
        directories: Vec::new(),
        names: 0,
        made: 0,
        extracted: Extracted::default(),
    };
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(problem) => return Err(ExtractError::new(reader.name(), problem.into())),
        };
        tree.entry(&entry, &mut reader).map_err(|problem| ExtractError::new(&entry.path, problem))?;
    }
    tree.finish()
}

/// A directory whose mode and times are still to be set.
struct Directory {
    path: EntryPath,
    identity: (u64, u64),
    mode: u32,
    owner: Option<(u32, u32)>,
    times: Times,
}

struct Tree {
    root: Root,
    owners: Owners,
    top: Top,
    limits: Limits,
    /// The directory that the last entry was made in: the next one is mostly made there too.
    parent: Option<(Vec<u8>, OwnedFd)>,
    directories: Vec<Directory>,
    /// Bytes of names kept for the end.
    names: usize,
    /// Names of our own that were used.
    made: u64,
    extracted: Extracted,
}

impl Tree {
    fn entry(&mut self, entry: &Entry, data: &mut Reader<impl BufRead>) -> Result<(), Problem> {
        self.extracted.entries += 1;
        if self.extracted.entries > self.limits.entries {
            return Err(Problem::Limit("number of entries", self.limits.entries));
        }
        let path = EntryPath::parse(&entry.path)?;
        let Some((parent, name)) = path.split() else {
            // What is extracted into is there already.
            return match (entry.kind, self.top) {
                (Kind::Directory, Top::Kept) => Ok(()),
                (Kind::Directory, Top::Set) => self.top(path, entry),
                _ => Err(Problem::OverDirectory),
            };
        };
        let (parent, name) = (parent.to_vec(), OsStr::from_bytes(name).to_owned());
        self.enter(&parent)?;
        match entry.kind {
            Kind::Directory => self.directory(path, &name, entry),
            Kind::File => self.file(&name, entry, data),
            Kind::Hardlink => self.hardlink(&name, entry),
            Kind::Symlink => {
                check_target(&entry.link).map_err(Problem::Target)?;
                let target = OsStr::from_bytes(&entry.link);
                self.special(&name, entry, FileType::Symlink, |dir, name| file::symlink_at(target, dir, name))
            }
            Kind::Character | Kind::Block | Kind::Fifo => self.node(&name, entry),
        }
    }

    fn file(&mut self, name: &OsStr, entry: &Entry, data: &mut Reader<impl BufRead>) -> Result<(), Problem> {
        let owner = self.owner(entry)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let (unfinished, fd) = self.make(|dir, name| file::open_at(dir, name, flags, 0o600))?;
        let mut file = File::from(fd);
        let filled = fill(&mut file, entry, data).and_then(|()| settle(&file, entry, owner));
        let placed = filled.and_then(|()| self.place(&unfinished, name));
        let placed = match placed {
            Err(Problem::Io(_, error)) if error.kind() == io::ErrorKind::ResourceBusy => {
                let written = overwrite(self.dir()?, name, &mut file);
                self.discard(&unfinished)?;
                written
            }
            other => self.or_discard(&unfinished, other),
        };
        placed?;
        self.extracted.bytes = self.extracted.bytes.saturating_add(entry.size);
        Ok(())
    }

    fn node(&mut self, name: &OsStr, entry: &Entry) -> Result<(), Problem> {
        let (major, minor) = entry.device;
        let (kind, file_type) = match entry.kind {
            Kind::Character => (NodeKind::Character { major, minor }, FileType::CharacterDevice),
            Kind::Block => (NodeKind::Block { major, minor }, FileType::BlockDevice),
            _ => (NodeKind::Fifo, FileType::Fifo),
        };
        let mode = entry.mode & 0o777;
        self.special(name, entry, file_type, |dir, name| file::make_node_at(dir, name, kind, mode))
    }

    /// What has no content: made, looked at by a handle, given to its owner by that handle, and put in its place.
    fn special(
        &mut self,
        name: &OsStr,
        entry: &Entry,
        file_type: FileType,
        make: impl Fn(&OwnedFd, &OsStr) -> io::Result<()>,
    ) -> Result<(), Problem> {
        let owner = self.owner(entry)?;
        let (unfinished, ()) = self.make(make)?;
        let settled = (|| {
            let handle =
                file::open_at(self.dir()?, &unfinished, OFlags::PATH, 0).map_err(failed("open it"))?;
            let stat = file::stat(&handle).map_err(failed("look at it"))?;
            // Somebody may have put something else there, which is not to be given away.
            if !is_kind(&stat, file_type) || stat.st_nlink != 1 {
                return Err(Problem::Io("make it", io::ErrorKind::StaleNetworkFileHandle.into()));
            }
            if let Some((uid, gid)) = owner {
                file::chown(&handle, uid, gid).map_err(failed("set the owner"))?;
            }
            file::set_times_of(&handle, entry.times()).map_err(failed("set the times"))?;
            self.place(&unfinished, name)
        })();
        self.or_discard(&unfinished, settled)
    }

    fn hardlink(&mut self, name: &OsStr, entry: &Entry) -> Result<(), Problem> {
        let target = EntryPath::parse(&entry.link).map_err(Problem::Target)?;
        let (from, from_name) = target.split().ok_or(Problem::Target(PathProblem::Empty))?;
        let from_name = OsStr::from_bytes(from_name);
        let from = self.open(from).map_err(|error| opening("find the link's target", error))?;
        let linked = file::stat_at(&from, from_name).map_err(failed("find the link's target"))?;
        // Renaming one name of a file to another does nothing, and would leave both.
        if file::stat_at(self.dir()?, name).is_ok_and(|there| identity(&there) == identity(&linked)) {
            return Ok(());
        }
        let (unfinished, ()) = self.make(|dir, name| file::link_at(&from, from_name, dir, name))?;
        let placed = self.place(&unfinished, name);
        self.or_discard(&unfinished, placed)
    }

    fn directory(&mut self, path: EntryPath, name: &OsStr, entry: &Entry) -> Result<(), Problem> {
        let owner = self.owner(entry)?;
        match file::make_dir_at(self.dir()?, name, OPEN_MODE) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Problem::Io("make the directory", error));
            }
            _ => {}
        }
        let opened = match file::open_dir_at(self.dir()?, name) {
            // ENOTDIR, ELOOP.
            Err(error) if matches!(error.raw_os_error(), Some(20 | 40)) => return Err(Problem::OverFile),
            other => other.map_err(failed("open the directory"))?,
        };
        set_xattrs(&opened, entry).map_err(failed("set an extended attribute"))?;
        let identity = identity(&file::stat(&opened).map_err(failed("look at the directory"))?);
        self.remember(Directory { path, identity, mode: entry.mode, owner, times: entry.times() })
    }

    fn top(&mut self, path: EntryPath, entry: &Entry) -> Result<(), Problem> {
        let owner = self.owner(entry)?;
        let opened = self.open(b"").and_then(file::open_listing).map_err(failed("open the directory"))?;
        set_xattrs(&opened, entry).map_err(failed("set an extended attribute"))?;
        let identity = identity(&file::stat(&opened).map_err(failed("look at the directory"))?);
        self.remember(Directory { path, identity, mode: entry.mode, owner, times: entry.times() })
    }

    fn remember(&mut self, directory: Directory) -> Result<(), Problem> {
        self.names = self.names.saturating_add(directory.path.bytes().len() + size_of::<Directory>());
        if self.names > self.limits.directory_bytes {
            return Err(Problem::Limit("bytes of directory names", self.limits.directory_bytes as u64));
        }
        self.directories.push(directory);
        Ok(())
    }

    fn owner(&self, entry: &Entry) -> Result<Option<(u32, u32)>, Problem> {
        self.owners.of(entry.uid, entry.gid).map_err(|(uid, gid)| Problem::Owner(uid, gid))
    }

    /// Makes something under a name of our own.
    fn make<T>(
        &mut self,
        make: impl Fn(&OwnedFd, &OsStr) -> io::Result<T>,
    ) -> Result<(OsString, T), Problem> {
        for _ in 0..TRIES {
            self.made += 1;
            let name = OsString::from(format!(".davit-cp.{}.{}", std::process::id(), self.made));
            match make(self.dir()?, &name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|made| (name, made)).map_err(failed("make it")),
            }
        }
        Err(Problem::Io("find a free name", io::ErrorKind::AlreadyExists.into()))
    }

    /// Gives what was made its name.
    fn place(&self, unfinished: &OsStr, name: &OsStr) -> Result<(), Problem> {
        let dir = self.dir()?;
        match file::rename_new_at(dir, unfinished, dir, name) {
            // EINVAL: a file system that cannot refuse to replace.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists || error.raw_os_error() == Some(22) => {}
            other => return other.map_err(failed("rename it to its name")),
        }
        match file::rename_at(dir, unfinished, dir, name) {
            // EISDIR, ENOTEMPTY.
            Err(error) if matches!(error.raw_os_error(), Some(21 | 39)) => Err(Problem::OverDirectory),
            other => other.map_err(failed("rename it to its name")),
        }
    }

    /// Removes what has not got its name.
    fn or_discard(&self, unfinished: &OsStr, placed: Result<(), Problem>) -> Result<(), Problem> {
        if placed.is_err() {
            // What went wrong first is what is told.
            let _ = self.discard(unfinished);
        }
        placed
    }

    fn discard(&self, unfinished: &OsStr) -> Result<(), Problem> {
        match file::remove_file_at(self.dir()?, unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Problem::Io("remove what is left", error))
            }
            _ => Ok(()),
        }
    }

    /// The directory that entries are made in now.
    fn dir(&self) -> Result<&OwnedFd, Problem> {
        self.parent.as_ref().map(|(_, dir)| dir).ok_or(Problem::Path(PathProblem::Empty))
    }

    /// Goes to the directory at `path`, made when the archive only implies it.
    fn enter(&mut self, path: &[u8]) -> Result<(), Problem> {
        if self.parent.as_ref().is_some_and(|(known, _)| known == path) {
            return Ok(());
        }
        let opened = match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.imply(path)?,
            other => other.map_err(|error| opening("open the directory it goes to", error))?,
        };
        if file::is_kernel_interface(&opened).map_err(failed("look at the directory it goes to"))? {
            return Err(Problem::Kernel);
        }
        self.parent = Some((path.to_vec(), opened));
        Ok(())
    }

    fn open(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        self.root.open_dir_no_symlinks(Path::new(OsStr::from_bytes(path)))
    }

    /// Makes the missing directories of a path, one component at a time.
    fn imply(&mut self, path: &[u8]) -> Result<OwnedFd, Problem> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([path.len()]);
        let mut dir = self.open(b"").map_err(failed("open the directory it goes to"))?;
        let mut start = 0;
        for end in ends {
            let (prefix, name) = (&path[..end], OsStr::from_bytes(&path[start..end]));
            start = end + 1;
            if file::is_kernel_interface(&dir).map_err(failed("look at the directory it goes to"))? {
                return Err(Problem::Kernel);
            }
            let made = match file::make_dir_at(&dir, name, IMPLIED_MODE) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
                Err(error) => return Err(Problem::Io("make the directory it goes to", error)),
            };
            dir = self.open(prefix).map_err(|error| opening("open the directory it goes to", error))?;
            if let (true, Ok(Some((uid, gid)))) = (made, self.owners.of(0, 0)) {
                file::chown(&dir, uid, gid).map_err(failed("set the owner"))?;
            }
        }
        Ok(dir)
    }

    /// Sets what is set at the end, if the name still means the same directory: the innermost first, for a closed
    /// directory hides those in it.
    fn finish(mut self) -> Result<Extracted, ExtractError> {
        for directory in std::mem::take(&mut self.directories).into_iter().rev() {
            let path = if directory.path.is_root() { b"." } else { directory.path.bytes() };
            let settled = match self.open(path).and_then(file::open_listing) {
                Ok(opened) => directory.settle(&opened),
                Err(error) if file::is_elsewhere(&error) => Ok(()),
                Err(error) => Err(Problem::Io("open the directory", error)),
            };
            settled.map_err(|problem| ExtractError::new(directory.path.bytes(), problem))?;
        }
        Ok(self.extracted)
    }
}

impl Directory {
    fn settle(&self, opened: &OwnedFd) -> Result<(), Problem> {
        let stat = file::stat(opened).map_err(failed("look at the directory"))?;
        if identity(&stat) != self.identity {
            return Ok(());
        }
        if let Some((uid, gid)) = self.owner {
            file::chown(opened, uid, gid).map_err(failed("set the owner"))?;
        }
        file::chmod(opened, self.mode).map_err(failed("set the mode"))?;
        file::set_times(opened, self.times).map_err(failed("set the times"))
    }
}

fn fill(file: &mut File, entry: &Entry, data: &mut Reader<impl BufRead>) -> Result<(), Problem> {
    loop {
        let part = data.data()?;
        if part.is_empty() {
            break;
        }
        let length = part.len();
        file::write_sparse(file, part).map_err(failed("write it"))?;
        data.consume(length);
    }
    file::finish_sparse(file, entry.size).map_err(failed("write it"))
}

/// Owner first: changing it takes setuid bits and capabilities away.
fn settle(file: &File, entry: &Entry, owner: Option<(u32, u32)>) -> Result<(), Problem> {
    if let Some((uid, gid)) = owner {
        file::chown(file, uid, gid).map_err(failed("set the owner"))?;
    }
    file::chmod(file, entry.mode).map_err(failed("set the mode"))?;
    set_xattrs(file, entry).map_err(failed("set an extended attribute"))?;
    file::set_times(file, entry.times()).map_err(failed("set the times"))
}

/// Writes into a file that cannot be replaced, because something is mounted on its name.
fn overwrite(dir: &OwnedFd, name: &OsStr, from: &mut File) -> Result<(), Problem> {
    use std::io::Seek as _;
    let handle = file::open_at(dir, name, OFlags::PATH, 0).map_err(failed("open it"))?;
    let stat = file::stat(&handle).map_err(failed("look at it"))?;
    if is_kind(&stat, FileType::Directory) {
        return Err(Problem::OverDirectory);
    }
    let kernel = file::is_kernel_interface(&handle).map_err(failed("look at it"))?;
    if kernel || !is_kind(&stat, FileType::RegularFile) {
        return Err(Problem::Kernel);
    }
    let opened = file::reopen(&handle, OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK);
    let mut to = File::from(opened.map_err(failed("open it"))?);
    from.rewind().map_err(failed("read it"))?;
    io::copy(from, &mut to).map(drop).map_err(failed("write it"))
}

fn opening(doing: &'static str, error: io::Error) -> Problem {
    match error.raw_os_error() {
        // ELOOP, as there is no other way to it.
        Some(40) => Problem::ThroughLink,
        _ => Problem::Io(doing, error),
    }
}

fn is_kind(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> Problem {
    move |error| Problem::Io(action, error)
}

#[cfg(test)]
mod tests;
