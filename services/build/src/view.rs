//! The files of an image, read from its layers as they lie on disk, the topmost first.
//!
//! Layers are as overlay file systems want them: a character device 0:0 hides what is below, and a folder may say that
//! it hides all below it. Paths have no link in them by then ([`crate::tree::resolve`]): each layer is asked without
//! following any.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use davit_archive::is_kept_xattr;
use davit_archive::tar;
use davit_sys::file::{self, FileType, OFlags, Root, Stat};

use crate::tree::{Kind, Node, Tree};

const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// Names that a folder may have.
const NAMES: usize = 1_000_000;

/// An image's files.
#[derive(Debug)]
pub struct View {
    layers: Vec<Root>,
}

/// What a layer says of a path.
enum Said {
    /// Nothing.
    Nothing,
    /// It is not there, whatever is below.
    Hidden,
    /// It is this; and whether what is below matters no more.
    Found(OwnedFd, Box<Stat>, bool),
}

impl View {
    /// Opens the layers, topmost first.
    pub fn open(layers: &[String]) -> io::Result<Self> {
        let layers = layers.iter().map(|path| Root::open(Path::new(path))).collect::<io::Result<_>>()?;
        Ok(Self { layers })
    }

    /// The layers that have a path as a folder, topmost first; or the first that has it as something else.
    fn stack(&self, path: &Path) -> io::Result<Vec<(OwnedFd, Stat)>> {
        let mut found: Vec<(OwnedFd, Stat)> = Vec::new();
        for layer in &self.layers {
            match said(layer, path)? {
                Said::Nothing => {}
                Said::Hidden => break,
                Said::Found(fd, stat, last) => {
                    let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                    if !folder && !found.is_empty() {
                        break;
                    }
                    found.push((fd, *stat));
                    if !folder || last {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Asks one layer, name by name, so that what hides a folder hides what would be in it.
fn said(layer: &Root, path: &Path) -> io::Result<Said> {
    let mut opaque = false;
    let mut at = layer.open_path(Path::new("/"))?;
    let mut stat = file::stat(&at)?;
    for name in path.components() {
        let next = match file::open_at(&at, name.as_os_str(), OFlags::PATH | OFlags::NOFOLLOW, 0) {
            Ok(next) => next,
            // A folder above that hides all below it hides this as well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(if opaque { Said::Hidden } else { Said::Nothing });
            }
            // What is no folder here hides a folder below.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Said::Hidden),
            Err(error) => return Err(error),
        };
        stat = file::stat(&next)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice if stat.st_rdev == 0 => return Ok(Said::Hidden),
            FileType::Directory => opaque |= is_opaque(&next)?,
            _ => {}
        }
        at = next;
    }
    Ok(Said::Found(at, Box::new(stat), opaque))
}

fn is_opaque(handle: &OwnedFd) -> io::Result<bool> {
    let folder = file::open_listing(handle)?;
    let xattrs = file::xattrs(&folder, |name| name == OPAQUE)?;
    Ok(xattrs.iter().any(|(_, value)| value == b"y"))
}

impl Tree for View {
    fn stat(&self, path: &Path) -> io::Result<Option<Node>> {
        let Some((fd, stat)) = self.stack(path)?.into_iter().next() else { return Ok(None) };
        let mut xattrs = Vec::new();
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                xattrs = file::xattrs(&file::reopen(&fd, OFlags::RDONLY)?, is_kept_xattr)?;
                let number = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
                Kind::File { size: stat.st_size.cast_unsigned(), digest: None, number }
            }
            FileType::Directory => {
                xattrs = file::xattrs(&file::open_listing(&fd)?, is_kept_xattr)?;
                Kind::Directory
            }
            FileType::Symlink => Kind::Symlink(PathBuf::from(file::read_link(&fd)?)),
            FileType::CharacterDevice => Kind::Other(tar::Kind::Character, file::device_numbers(&stat)),
            FileType::BlockDevice => Kind::Other(tar::Kind::Block, file::device_numbers(&stat)),
            _ => Kind::Other(tar::Kind::Fifo, (0, 0)),
        };
        let modified = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        let mode = stat.st_mode & 0o7777;
        Ok(Some(Node { kind, mode, uid: stat.st_uid, gid: stat.st_gid, modified, xattrs }))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        // The upper layer decides of a name, also when it says that it is gone.
        let mut names: BTreeMap<OsString, bool> = BTreeMap::new();
        for (fd, _) in self.stack(path)? {
            let folder = file::open_listing(&fd)?;
            for name in file::list_names(&folder, NAMES)? {
                if let Entry::Vacant(entry) = names.entry(name) {
                    let stat = file::stat_at(&folder, entry.key())?;
                    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
                    entry.insert(!(device && stat.st_rdev == 0));
                }
            }
        }
        Ok(names.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect())
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let found = self.stack(path)?.into_iter().next();
        let Some((fd, _)) =
            found.filter(|(_, s)| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile)
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        Ok(file::reopen(&fd, OFlags::RDONLY)?.into())
    }
}
