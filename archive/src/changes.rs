//! What the writable layer of an overlay changed in the layers below it.
//!
//! ```text
//! upper: whiteout           gone
//!        directory, opaque  what is below it there is gone, but for what has the same name here
//!        directory          the same as below (only on the way to a change), or changed, or new
//!        anything else      changed where there is something below, new otherwise
//! ```
//!
//! The upper directory is read as it lies on the disk, while a container may change it: each step is a single name from
//! an open directory, and no link is followed. Mount points that were made for what is mounted on them, and
//! directories that were made only to hold them, count as not there.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use davit_sys::file::{self, FileType, OFlags, Stat};

use crate::attribute::is_kept_xattr;
use crate::pack::{DEPTH, NAMES, PackError, failed, shown};

const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// An overlay, as it lies on the disk.
#[derive(Debug)]
pub struct Overlay {
    /// The writable layer.
    pub upper: OwnedFd,
    /// The layers below, the topmost first.
    pub lower: Vec<OwnedFd>,
    /// What is mounted somewhere in it: paths without a slash in front.
    pub mounts: BTreeSet<Vec<u8>>,
}

/// How something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was not there.
    Added,
    /// It was otherwise.
    Changed,
    /// It is gone, and a whiteout says so.
    Deleted,
    /// It is gone with all that its directory held below.
    Covered,
    /// It is as it was: a directory on the way to what changed.
    Same,
}

/// Something that changed.
#[derive(Debug)]
pub struct Change<'a> {
    /// Its path, without a slash in front; empty for the root, which comes before all others.
    pub path: &'a [u8],
    /// How.
    pub kind: Kind,
    /// An `O_PATH` handle of what is there now.
    pub handle: Option<&'a OwnedFd>,
    /// What is there now, be it a whiteout.
    pub stat: Option<&'a Stat>,
    /// It is a directory that shows nothing of those below it.
    pub opaque: bool,
}

/// Who is told of the changes.
pub type Each<'a> = dyn FnMut(&Change<'_>) -> Result<(), PackError> + 'a;

/// Tells of all changes, parents before children, the names of a directory in the order of their bytes.
///
/// # Errors
/// When a directory cannot be read, or `each` fails. What vanishes meanwhile is no error.
pub fn changes(overlay: &Overlay, each: &mut Each<'_>) -> Result<(), PackError> {
    let top = top(overlay).map_err(|error| failed("look at", b"/", error))?;
    let mut walk = Walk { mounts: &overlay.mounts, each, levels: vec![top] };
    while let Some(level) = walk.levels.last_mut() {
        match level.left.pop() {
            None => walk.leave()?,
            Some(name) => walk.name(&name)?,
        }
    }
    Ok(())
}

/// A name in a directory.
struct Name {
    name: OsString,
    /// It is only below, and its directory is opaque.
    covered: bool,
}

/// A directory of which it is not known yet whether it is to be told of.
struct Held {
    handle: OwnedFd,
    stat: Stat,
    kind: Kind,
    opaque: bool,
}

/// A directory that is being read.
struct Level {
    upper: OwnedFd,
    /// What it is merged with, the topmost first, or what it covers.
    lower: Vec<OwnedFd>,
    opaque: bool,
    path: Vec<u8>,
    left: Vec<Name>,
    held: Option<Held>,
    /// Something in it counts as not there.
    hid: bool,
}

/// What the layers below have at a name.
struct Below {
    stat: Stat,
    /// The directories that show there together.
    directories: Vec<OwnedFd>,
}

fn top(overlay: &Overlay) -> io::Result<Level> {
    let handle = overlay.upper.try_clone()?;
    let stat = file::stat(&handle)?;
    let upper = file::open_listing(&handle)?;
    let lower = overlay.lower.iter().map(file::open_listing).collect::<io::Result<Vec<_>>>()?;
    let same = match lower.first() {
        Some(below) => looks_same(&stat, &file::stat(below)?) && same_xattrs(&upper, below)?,
        None => true,
    };
    let kind = if same { Kind::Same } else { Kind::Changed };
    let left = names(&upper, &[], false)?;
    let held = Some(Held { handle, stat, kind, opaque: false });
    Ok(Level { upper, lower, opaque: false, path: Vec::new(), left, held, hid: false })
}

struct Walk<'a, 'b> {
    mounts: &'a BTreeSet<Vec<u8>>,
    each: &'a mut Each<'b>,
    levels: Vec<Level>,
}

impl Walk<'_, '_> {
    fn name(&mut self, name: &Name) -> Result<(), PackError> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        let path = join(&level.path, &name.name);
        if name.covered {
            return self.tell(&Change {
                path: &path,
                kind: Kind::Covered,
                handle: None,
                stat: None,
                opaque: false,
            });
        }
        let handle = match file::open_at(&level.upper, &name.name, OFlags::PATH, 0) {
            Ok(handle) => handle,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("open", &path, error)),
        };
        let looked = (|| {
            let stat = file::stat(&handle)?;
            Ok((stat, below(&level.lower, &name.name, is_dir(&stat))?))
        })();
        let (stat, below) = looked.map_err(|error| failed("look at", &path, error))?;
        if is_whiteout(&stat) {
            if below.is_none() {
                return Ok(());
            }
            let kind = Kind::Deleted;
            return self.tell(&Change { path: &path, kind, handle: None, stat: Some(&stat), opaque: false });
        }
        if below.is_none() && self.mounts.contains(&path) {
            let empty = is_empty(&handle, &stat).map_err(|error| failed("look at", &path, error))?;
            if empty {
                level.hid = true;
                return Ok(());
            }
        }
        if is_dir(&stat) {
            return self.enter(path, handle, stat, below);
        }
        let kind = if below.is_some() { Kind::Changed } else { Kind::Added };
        self.tell(&Change { path: &path, kind, handle: Some(&handle), stat: Some(&stat), opaque: false })
    }

    fn enter(
        &mut self,
        path: Vec<u8>,
        handle: OwnedFd,
        stat: Stat,
        below: Option<Below>,
    ) -> Result<(), PackError> {
        let covered = self.levels.last().is_some_and(|level| level.opaque);
        let upper = match file::open_listing(&handle) {
            Ok(upper) => upper,
            // It was removed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("open", &path, error)),
        };
        let looked = (|| {
            let opaque = is_opaque(&upper)? && below.is_some();
            let (kind, otherwise) = match &below {
                None => (Kind::Added, false),
                Some(below) if !is_dir(&below.stat) || opaque => (Kind::Changed, false),
                Some(below) => compare(&upper, &stat, below)?,
            };
            let lower = below.map(|below| below.directories).unwrap_or_default();
            let left = names(&upper, &lower, opaque || covered)?;
            Ok((opaque, kind, otherwise, lower, left))
        })();
        let (opaque, mut kind, only_time, lower, left) =
            looked.map_err(|error| failed("look at", &path, error))?;
        // Its time is that of what was made in it to mount on.
        if only_time && self.holds_mount(&path, &upper, &lower) {
            kind = Kind::Same;
        }
        if self.levels.len() >= DEPTH {
            return Err(PackError::Deep(shown(&path)));
        }
        let waits = kind == Kind::Same || (kind == Kind::Added && self.is_above_mount(&path));
        if !waits {
            let (handle, stat) = (Some(&handle), Some(&stat));
            self.tell(&Change { path: &path, kind, handle, stat, opaque })?;
        }
        let held = waits.then_some(Held { handle, stat, kind, opaque });
        self.levels.push(Level { upper, lower, opaque: opaque || covered, path, left, held, hid: false });
        Ok(())
    }

    /// Ends a directory. What was made in it for mounts alone is no change of it.
    fn leave(&mut self) -> Result<(), PackError> {
        let Some(Level { path, held, hid, .. }) = self.levels.pop() else { return Ok(()) };
        let Some(Held { handle, stat, kind, opaque }) = held.filter(|held| held.kind != Kind::Same) else {
            return Ok(());
        };
        match self.levels.last_mut() {
            Some(parent) if hid => {
                parent.hid |= kind == Kind::Added;
                Ok(())
            }
            _ => self.tell(&Change { path: &path, kind, handle: Some(&handle), stat: Some(&stat), opaque }),
        }
    }

    /// Tells of a change, and first of the directories on the way to it.
    fn tell(&mut self, change: &Change<'_>) -> Result<(), PackError> {
        for level in &mut self.levels {
            if let Some(Held { handle, stat, kind, opaque }) = level.held.take() {
                let (handle, stat) = (Some(&handle), Some(&stat));
                (self.each)(&Change { path: &level.path, kind, handle, stat, opaque })?;
            }
        }
        (self.each)(change)
    }

    fn is_above_mount(&self, path: &[u8]) -> bool {
        self.mounts_below(path).next().is_some()
    }

    /// What is mounted below a directory, relative to it.
    fn mounts_below(&self, path: &[u8]) -> impl Iterator<Item = &[u8]> {
        let inside = [path, b"/"].concat();
        let length = inside.len();
        let all = self.mounts.range(inside.clone()..).take_while(move |mount| mount.starts_with(&inside));
        all.filter_map(move |mount| mount.get(length..))
    }

    /// Whether a directory has entries on the way to a mount that are not below.
    fn holds_mount(&self, path: &[u8], upper: &OwnedFd, lower: &[OwnedFd]) -> bool {
        self.mounts_below(path).filter_map(|mount| mount.split(|byte| *byte == b'/').next()).any(|name| {
            let name = OsStr::from_bytes(name);
            file::stat_at(upper, name).is_ok() && matches!(below(lower, name, false), Ok(None))
        })
    }
}

/// What there is under a name in the layers below.
fn below(lower: &[OwnedFd], name: &OsStr, directories: bool) -> io::Result<Option<Below>> {
    let mut found: Option<Below> = None;
    for layer in lower {
        let stat = match file::stat_at(layer, name) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if is_whiteout(&stat) || found.is_some() && !is_dir(&stat) {
            break;
        }
        let directory = is_dir(&stat);
        let found = found.get_or_insert(Below { stat, directories: Vec::new() });
        if !directory || !directories {
            break;
        }
        let opened = file::open_dir_at(layer, name)?;
        let opaque = is_opaque(&opened)?;
        found.directories.push(opened);
        if opaque {
            break;
        }
    }
    Ok(found)
}

/// A directory that is here and below: how it changed, and whether only its time did.
fn compare(upper: &OwnedFd, stat: &Stat, below: &Below) -> io::Result<(Kind, bool)> {
    let same = looks_same(stat, &below.stat)
        && match below.directories.first() {
            Some(directory) => same_xattrs(upper, directory)?,
            None => true,
        };
    let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
    let same_time = time(stat) == time(&below.stat);
    Ok((if same && same_time { Kind::Same } else { Kind::Changed }, same && !same_time))
}

fn looks_same(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)
}

fn same_xattrs(a: &OwnedFd, b: &OwnedFd) -> io::Result<bool> {
    let kept = |directory: &OwnedFd| {
        let mut xattrs = file::xattrs(directory, is_kept_xattr)?;
        xattrs.sort();
        io::Result::Ok(xattrs)
    };
    Ok(kept(a)? == kept(b)?)
}

/// The names of a directory, the first at the end; with those that it covers.
fn names(upper: &OwnedFd, lower: &[OwnedFd], opaque: bool) -> io::Result<Vec<Name>> {
    let own = file::list_names(upper, NAMES)?;
    let mut covered = BTreeSet::new();
    if opaque {
        let known: BTreeSet<&OsString> = own.iter().collect();
        for layer in lower {
            let names = file::list_names(file::open_listing(layer)?, NAMES)?;
            covered.extend(names.into_iter().filter(|name| !known.contains(name)));
        }
    }
    let mut all: Vec<Name> = own.into_iter().map(|name| Name { name, covered: false }).collect();
    for name in covered {
        // What a layer below has taken away was not there.
        if below(lower, &name, false)?.is_some() {
            all.push(Name { name, covered: true });
        }
    }
    all.sort_unstable_by(|a, b| b.name.cmp(&a.name));
    Ok(all)
}

/// Whether something is as the engine makes it to mount on.
fn is_empty(handle: &OwnedFd, stat: &Stat) -> io::Result<bool> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat.st_size == 0),
        FileType::Directory => Ok(file::list_names(file::open_listing(handle)?, NAMES)?.is_empty()),
        _ => Ok(false),
    }
}

fn is_opaque(directory: &OwnedFd) -> io::Result<bool> {
    let found = file::xattrs(directory, |name| name == OPAQUE)?;
    Ok(found.iter().any(|(_, value)| value == b"y"))
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn join(parent: &[u8], name: &OsStr) -> Vec<u8> {
    if parent.is_empty() { name.as_bytes().to_vec() } else { [parent, b"/", name.as_bytes()].concat() }
}

#[cfg(test)]
mod tests;
