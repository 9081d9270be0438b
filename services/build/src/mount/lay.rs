//! A part of a tree as files on the disk, for a container to see.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use davit_sys::file::{self, copy_data, share};

use crate::gather::Match;
use crate::tree::{Kind, Node, Tree};

/// One at a time looks at how often a stored file is linked, and changes its mode.
static LINKING: Mutex<()> = Mutex::new(());

/// Whether files may be further names of those that are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// They may: nobody can write through this.
    Linked,
    /// Each is its own, sharing its bytes with the stored one only where the file system parts them by itself.
    Own,
}

/// Puts what was found at `to`, where nothing is yet. Devices, pipes and sockets stay behind.
///
/// # Errors
/// The disk fails.
pub fn lay(found: &Match, to: &Path, files: Files) -> io::Result<()> {
    one(found.tree.as_ref(), &found.path, &found.node, to, files)?;
    for (path, node) in &found.below {
        one(found.tree.as_ref(), &found.path.join(path), node, &to.join(path), files)?;
    }
    // Last, for what is made in a folder changes its time; inner before outer.
    let folders = found.below.iter().rev().map(|(path, node)| (to.join(path), node));
    for (path, node) in folders.chain([(to.to_owned(), &found.node)]).filter(|(_, node)| node.is_dir()) {
        let folder = File::open(&path)?;
        file::chown(&folder, node.uid, node.gid)?;
        file::chmod(&folder, node.mode)?;
        folder.set_modified(time(node))?;
    }
    Ok(())
}

fn one(tree: &dyn Tree, from: &Path, node: &Node, to: &Path, files: Files) -> io::Result<()> {
    match &node.kind {
        Kind::Directory => fs::create_dir(to),
        Kind::Symlink(target) => std::os::unix::fs::symlink(target, to),
        Kind::File { .. } => {
            if files == Files::Linked && link(tree, from, node, to)? {
                return Ok(());
            }
            copy(tree, from, node, to)
        }
        Kind::Other(..) => Ok(()),
    }
}

/// A stored file gets a second name, and the mode and time that it has here. Where it has others already, by a name in
/// another folder, it is not touched.
fn link(tree: &dyn Tree, from: &Path, node: &Node, to: &Path) -> io::Result<bool> {
    let Some(stored) = tree.stored(from) else { return Ok(false) };
    if (node.uid, node.gid) != (0, 0) || !node.xattrs.is_empty() {
        return Ok(false);
    }
    let _one = LINKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seen = fs::symlink_metadata(&stored)?;
    let nanoseconds = i64::from(node.modified.1);
    let same =
        (seen.mode() & 0o7777, seen.mtime(), seen.mtime_nsec()) == (node.mode, node.modified.0, nanoseconds);
    if !same && seen.nlink() > 1 {
        return Ok(false);
    }
    if !same {
        let file = File::options().write(true).open(&stored)?;
        file.set_permissions(fs::Permissions::from_mode(node.mode))?;
        file.set_modified(time(node))?;
    }
    match fs::hard_link(&stored, to) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::TooManyLinks | io::ErrorKind::CrossesDevices) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn copy(tree: &dyn Tree, from: &Path, node: &Node, to: &Path) -> io::Result<()> {
    let source = tree.open(from)?;
    let file = File::options().write(true).create_new(true).open(to)?;
    if !share(&source, &file)? {
        copy_data(&source, &file, source.metadata()?.len())?;
    }
    file::chown(&file, node.uid, node.gid)?;
    file::chmod(&file, node.mode)?;
    for (name, value) in &node.xattrs {
        file::set_xattr(&file, std::ffi::OsStr::from_bytes(name), value)?;
    }
    file.set_modified(time(node))
}

fn time(node: &Node) -> SystemTime {
    let (seconds, nanoseconds) = node.modified;
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let begun = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH - whole,
        false => SystemTime::UNIX_EPOCH + whole,
    };
    begun + Duration::from_nanos(nanoseconds.into())
}
