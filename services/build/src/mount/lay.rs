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

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;

    /// A folder with one stored file, seen by two names.
    #[derive(Debug)]
    struct Stored(PathBuf);

    impl Tree for Stored {
        fn stat(&self, _: &Path) -> io::Result<Option<Node>> {
            Ok(None)
        }

        fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
            Ok(Vec::new())
        }

        fn open(&self, _: &Path) -> io::Result<File> {
            File::open(&self.0)
        }

        fn stored(&self, _: &Path) -> Option<PathBuf> {
            Some(self.0.clone())
        }
    }

    fn node(kind: Kind, mode: u32, seconds: i64) -> Node {
        Node { kind, mode, uid: 0, gid: 0, modified: (seconds, 7), xattrs: Vec::new() }
    }

    fn found(stored: &Path) -> Match {
        let file = || Kind::File { size: 4, digest: None, number: None };
        let below = vec![
            (PathBuf::from("a"), node(file(), 0o640, 1000)),
            (PathBuf::from("b"), node(file(), 0o755, -5)),
            (PathBuf::from("deep"), node(Kind::Directory, 0o711, 2000)),
            (PathBuf::from("deep/link"), node(Kind::Symlink(PathBuf::from("../a")), 0o777, 1)),
        ];
        let tree: Arc<dyn Tree> = Arc::new(Stored(stored.to_owned()));
        let node = node(Kind::Directory, 0o750, 3000);
        Match { tree, path: PathBuf::new(), asked: PathBuf::new(), skipped: 0, node, below }
    }

    #[test]
    fn privileged_files_are_as_they_were_described_and_never_the_stored_one_where_that_could_be_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let stored = folder.path().join("stored");
        fs::write(&stored, "text").unwrap();
        for (files, links) in [(Files::Linked, 2), (Files::Own, 1)] {
            let to = folder.path().join(format!("{files:?}"));
            lay(&found(&stored), &to, files).unwrap();
            let seen = |name: &str| {
                let seen = fs::symlink_metadata(to.join(name)).unwrap();
                (seen.mode() & 0o7777, seen.mtime(), seen.mtime_nsec())
            };
            assert_eq!(seen("a"), (0o640, 1000, 7));
            assert_eq!(seen("b"), (0o755, -5, 7));
            assert_eq!(seen("deep"), (0o711, 2000, 7));
            assert_eq!(seen(""), (0o750, 3000, 7));
            assert_eq!(fs::read(to.join("deep/link")).unwrap(), b"text");
            assert_eq!(fs::metadata(to.join("a")).unwrap().nlink(), links);
            assert_eq!(fs::metadata(to.join("b")).unwrap().nlink(), 1, "its mode is another one");
            fs::remove_dir_all(&to).unwrap();
        }
        assert_eq!(fs::metadata(&stored).unwrap().nlink(), 1);
    }
}
