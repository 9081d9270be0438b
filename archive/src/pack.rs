//! A tree of files becomes an archive, while somebody may change it.
//!
//! Each file is first an `O_PATH` handle: what it is, is asked of the handle, and only a regular file or a directory is
//! opened. So a name that is exchanged meanwhile for a device, a pipe or a link is never opened and never followed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use davit_sys::file::{self, FileType, OFlags, Stat};

use crate::attribute::is_kept_xattr;
use crate::owner::IdRange;
use crate::tar::{Entry, Kind, Xattrs};
use crate::write::Writer;

/// Directories below each other; each holds a descriptor.
pub const DEPTH: usize = 512;
/// Bytes of the names of one directory.
pub(crate) const NAMES: usize = 64 << 20;
/// Bytes of the names of files that have several, so that each is packed once; others after that are packed again.
const LINKS: usize = 32 << 20;
/// The name of a directory that does not stand before the names in it.
const ROOT: &[u8] = b"./";
/// How much of a file is read at once.
const CHUNK: usize = 256 << 10;

/// Why a tree was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// One file is to blame.
    #[error("{doing} {path:?}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// Its name in the archive.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file became shorter while it was read.
    #[error("file {0:?} became shorter as it was read")]
    Shrunk(String),
    /// Directories are nested too deeply.
    #[error("limit reached: {0:?} lies in more than {DEPTH} directories")]
    Deep(String),
    /// The archive could not be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
}

/// What an archive is made of.
#[derive(Debug)]
pub struct Source {
    /// An `O_PATH` handle of the file or directory.
    pub handle: OwnedFd,
    /// Its name in the archive; `.` for a directory whose content alone is meant, and `./` for one whose content has no
    /// directory in front of its names.
    pub name: Vec<u8>,
    /// Device of a directory `dev` that is only packed as an empty one: the one that a container's kernel devices are on.
    pub skipped_dev: Option<u64>,
}

/// Packs a file, or a directory with everything in it, and answers with the number of entries. The archive is not ended.
///
/// Sockets are left out, and of file systems that are an interface of the kernel everything but their top directory.
///
/// # Errors
/// When a file cannot be read or the archive not be written. A file that vanishes meanwhile is no error.
pub fn pack(source: Source, ids: Option<IdRange>, writer: &mut Writer<impl Write>) -> Result<u64, PackError> {
    let Source { handle, name, skipped_dev } = source;
    let mut packer = Packer { skipped_dev, ..Packer::new(writer, ids) };
    let mut levels = Vec::new();
    if let Some(level) = packer.file(&handle, name)? {
        levels.push(level);
    }
    drop(handle);
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.left.pop() else {
            levels.pop();
            continue;
        };
        let handle = match file::open_at(&level.directory, &name, OFlags::PATH, 0) {
            Ok(handle) => handle,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("open", &level.join(&name), error)),
        };
        let path = level.join(&name);
        if let Some(below) = packer.file(&handle, path)? {
            if levels.len() >= DEPTH {
                return Err(PackError::Deep(shown(&below.path)));
            }
            levels.push(below);
        }
    }
    Ok(packer.entries)
}

/// A directory that is being packed.
struct Level {
    directory: OwnedFd,
    path: Vec<u8>,
    /// What is still to come, the first at the end.
    left: Vec<OsString>,
}

impl Level {
    fn join(&self, name: &OsStr) -> Vec<u8> {
        match self.path.as_slice() {
            ROOT => name.as_bytes().to_vec(),
            path => [path, b"/", name.as_bytes()].concat(),
        }
    }
}

/// Writes files as entries, each file under its first name.
pub(crate) struct Packer<'a, W> {
    writer: &'a mut Writer<W>,
    ids: Option<IdRange>,
    skipped_dev: Option<u64>,
    /// The first name of files that have several.
    links: HashMap<(u64, u64), Vec<u8>>,
    link_bytes: usize,
    buffer: Vec<u8>,
    entries: u64,
}

impl<'a, W: Write> Packer<'a, W> {
    pub(crate) fn new(writer: &'a mut Writer<W>, ids: Option<IdRange>) -> Self {
        let (links, buffer) = (HashMap::new(), Vec::new());
        Self { writer, ids, skipped_dev: None, links, link_bytes: 0, buffer, entries: 0 }
    }

    /// Entries so far.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Packs one file, of a directory only itself.
    pub(crate) fn alone(&mut self, handle: &OwnedFd, path: Vec<u8>) -> Result<(), PackError> {
        let stat = file::stat(handle).map_err(|error| failed("look at", &path, error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.folder(handle, &stat, path).map(drop),
            _ => self.file(handle, path).map(drop),
        }
    }

    /// An empty file that is nobody's.
    pub(crate) fn empty(&mut self, path: Vec<u8>, modified: (i64, u32)) -> Result<(), PackError> {
        let entry = Entry {
            kind: Kind::File,
            path,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            modified,
            accessed: None,
            device: (0, 0),
            xattrs: Vec::new(),
        };
        self.put(&entry)
    }

    /// Packs one file; a directory's content is still to come.
    fn file(&mut self, handle: &OwnedFd, path: Vec<u8>) -> Result<Option<Level>, PackError> {
        let stat = file::stat(handle).map_err(|error| failed("look at", &path, error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.regular(handle, &stat, path).map(|()| None),
            FileType::Directory => self.directory(handle, &stat, path),
            FileType::Symlink => {
                let link = file::read_link(handle).map_err(|error| failed("read the link", &path, error))?;
                self.bare(Kind::Symlink, &stat, path, link.into_vec())
            }
            FileType::CharacterDevice => self.bare(Kind::Character, &stat, path, Vec::new()),
            FileType::BlockDevice => self.bare(Kind::Block, &stat, path, Vec::new()),
            FileType::Fifo => self.bare(Kind::Fifo, &stat, path, Vec::new()),
            // Of a socket nothing is left without the process behind it.
            FileType::Socket | FileType::Unknown => Ok(None),
        }
    }

    fn bare(
        &mut self,
        kind: Kind,
        stat: &Stat,
        path: Vec<u8>,
        link: Vec<u8>,
    ) -> Result<Option<Level>, PackError> {
        if self.is_known(stat, &path)? {
            return Ok(None);
        }
        let device = match kind {
            Kind::Character | Kind::Block => file::device_numbers(stat),
            _ => (0, 0),
        };
        let entry = Entry { link, device, ..self.entry(kind, stat, path) };
        self.put(&entry)?;
        Ok(None)
    }

    /// The entry of a directory, which is then open.
    fn folder(
        &mut self,
        handle: &OwnedFd,
        stat: &Stat,
        path: Vec<u8>,
    ) -> Result<Option<(OwnedFd, Vec<u8>)>, PackError> {
        let directory = match file::open_listing(handle) {
            // It was removed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| failed("open", &path, error))?,
        };
        let mut entry = self.entry(Kind::Directory, stat, path);
        entry.xattrs = xattrs(&directory, &entry.path)?;
        self.put(&entry)?;
        Ok(Some((directory, entry.path)))
    }

    fn directory(
        &mut self,
        handle: &OwnedFd,
        stat: &Stat,
        path: Vec<u8>,
    ) -> Result<Option<Level>, PackError> {
        let Some((directory, path)) = self.folder(handle, stat, path)? else { return Ok(None) };
        let interface =
            file::is_kernel_interface(&directory).map_err(|error| failed("look at", &path, error))?;
        if interface || self.skipped_dev == Some(stat.st_dev) && path.ends_with(b"/dev") {
            return Ok(None);
        }
        let mut left = file::list_names(&directory, NAMES).map_err(|error| failed("list", &path, error))?;
        left.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Some(Level { directory, path, left }))
    }

    fn regular(&mut self, handle: &OwnedFd, stat: &Stat, path: Vec<u8>) -> Result<(), PackError> {
        if self.is_known(stat, &path)? {
            return Ok(());
        }
        let opened = file::reopen(handle, OFlags::RDONLY | OFlags::NONBLOCK);
        let mut opened = File::from(opened.map_err(|error| failed("open", &path, error))?);
        let mut entry = self.entry(Kind::File, stat, path);
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.xattrs = xattrs(&opened, &entry.path)?;
        self.put(&entry)?;
        let mut left = entry.size;
        self.buffer.resize(CHUNK, 0);
        while left > 0 {
            let most = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let read = match opened.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(PackError::Shrunk(shown(&entry.path))),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read", &entry.path, error)),
            };
            self.writer.data(&self.buffer[..read]).map_err(PackError::Write)?;
            left -= read as u64;
        }
        Ok(())
    }

    /// Whether the file was packed under another name, which is then all that there is to say.
    fn is_known(&mut self, stat: &Stat, path: &[u8]) -> Result<bool, PackError> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&identity) {
            let link = first.clone();
            let entry = Entry { link, ..self.entry(Kind::Hardlink, stat, path.to_vec()) };
            self.put(&entry)?;
            return Ok(true);
        }
        let bytes = path.len() + 64;
        if self.link_bytes + bytes <= LINKS {
            self.link_bytes += bytes;
            self.links.insert(identity, path.to_vec());
        }
        Ok(false)
    }

    fn entry(&self, kind: Kind, stat: &Stat, path: Vec<u8>) -> Entry {
        let (uid, gid) =
            self.ids.map_or((stat.st_uid, stat.st_gid), |ids| ids.inside(stat.st_uid, stat.st_gid));
        Entry {
            kind,
            path,
            link: Vec::new(),
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            size: 0,
            modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            accessed: None,
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    fn put(&mut self, entry: &Entry) -> Result<(), PackError> {
        self.entries += 1;
        self.writer.entry(entry).map_err(PackError::Write)
    }
}

fn xattrs(file: impl AsFd, path: &[u8]) -> Result<Xattrs, PackError> {
    // A name with the sign that ends names in an archive cannot be in one.
    let wanted = |name: &[u8]| is_kept_xattr(name) && !name.contains(&b'=');
    file::xattrs(file, wanted).map_err(|error| failed("read the attributes of", path, error))
}

pub(crate) fn failed(doing: &'static str, path: &[u8], source: io::Error) -> PackError {
    PackError::File { doing, path: shown(path), source }
}

/// A name that an error can show: cut, and no longer any bytes.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path.get(..400).unwrap_or(path)).into_owned()
}
