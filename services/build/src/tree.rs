//! Files that a build takes something from: a context, or an image as its layers lie on disk.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its kind.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was modified.
    pub modified: (i64, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Kinds of what a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// What it holds, where that is known without reading it.
        digest: Option<String>,
        /// What all names of one file share, where it has more than this one.
        number: Option<(u64, u64)>,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink(PathBuf),
    /// A device, a pipe or a socket.
    Other(davit_archive::tar::Kind, (u32, u32)),
}

impl Node {
    /// A folder that nobody described.
    pub fn folder(uid: u32, gid: u32, modified: (i64, u32)) -> Self {
        Self { kind: Kind::Directory, mode: 0o755, uid, gid, modified, xattrs: Vec::new() }
    }

    /// A folder that an archive only implies: its time is no part of any answer.
    pub fn implied() -> Self {
        Self::folder(0, 0, (0, 0))
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }
}

/// Files below a root. Paths are relative to it, without `.` and `..`; the empty one is the root.
pub trait Tree: Send + Sync + std::fmt::Debug {
    /// What a path is, whose last name is not followed; none when it is not there.
    fn stat(&self, path: &Path) -> io::Result<Option<Node>>;
    /// The names in a folder, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Opens a regular file.
    fn open(&self, path: &Path) -> io::Result<File>;
    /// Where a regular file is stored by its content, so that it may have further names, where it is.
    fn stored(&self, _path: &Path) -> Option<PathBuf> {
        None
    }
}

/// How many links lead on before nobody believes any more that they lead anywhere.
const LINKS: usize = 40;

/// The path that is meant once links were followed, without leaving the root. What is not there is meant as written.
pub fn resolve(tree: &dyn Tree, path: &Path, follow_last: bool) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::new();
    let mut rest: Vec<OsString> = names(path);
    rest.reverse();
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&name);
        match tree.stat(&next)?.map(|node| node.kind) {
            Some(Kind::Symlink(target)) if follow_last || !rest.is_empty() => {
                links += 1;
                if links > LINKS {
                    return Err(io::Error::other(format!("too many links at {}", path.display())));
                }
                if target.is_absolute() {
                    resolved.clear();
                }
                rest.extend(names(&target).into_iter().rev());
            }
            _ => resolved = next,
        }
    }
    Ok(resolved)
}

/// The names of a path, `..` among them.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// A path without `.` and `..`, relative to the root.
pub fn clean(path: &str) -> PathBuf {
    PathBuf::from(davit_dockerfile::change::joined("", path).trim_start_matches('/'))
}
