//! What a file tree holds, to the last attribute: two that are equal here are equal to every program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// One name of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Kind and what it holds: the digest of a file, the target of a link, the number of a device.
    pub content: String,
    /// Mode bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Extended attributes.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// The first of the names that share its file, when it is not the first itself.
    pub link_to: Option<PathBuf>,
}

/// A tree by its paths. Its own root is not among them.
pub type Tree = BTreeMap<PathBuf, Node>;

/// Reads a tree.
///
/// # Errors
/// When something of it cannot be read.
pub fn read(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut files = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let listed =
            fs::read_dir(root.join(&folder)).with_context(|| format!("list {}", folder.display()))?;
        let mut names = listed.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let path = folder.join(name);
            let node = node(root, &path).with_context(|| format!("read {}", path.display()))?;
            if node.content == "folder" {
                folders.push(path.clone());
            }
            tree.insert(path, node);
        }
    }
    // By path, so that the first name is the same in every tree.
    for (path, node) in &mut tree {
        let meta = fs::symlink_metadata(root.join(path))?;
        if !meta.is_dir() && meta.nlink() > 1 {
            let first = files.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone());
            node.link_to = (first != path).then(|| first.clone());
        }
    }
    Ok(tree)
}

fn node(root: &Path, path: &Path) -> Result<Node> {
    let at = root.join(path);
    let meta = fs::symlink_metadata(&at)?;
    let kind = meta.file_type();
    let content = if kind.is_file() {
        format!("file {} {}", meta.len(), hex::encode(Sha256::digest(fs::read(&at)?)))
    } else if kind.is_dir() {
        "folder".to_owned()
    } else if kind.is_symlink() {
        format!("link {}", fs::read_link(&at)?.display())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else if kind.is_socket() {
        "socket".to_owned()
    } else {
        let class = if kind.is_char_device() { "character" } else { "block" };
        format!("{class} device {}", meta.rdev())
    };
    Ok(Node {
        content,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        modified: (meta.mtime(), meta.mtime_nsec()),
        attributes: attributes(&at)?,
        link_to: None,
    })
}

fn attributes(at: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut list = vec![0u8; 64 << 10];
    let length = match rustix::fs::llistxattr(at, &mut list[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut attributes = BTreeMap::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 64 << 10];
        let length = rustix::fs::lgetxattr(at, OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(length);
        attributes.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    Ok(attributes)
}

/// What is not the same in two trees, a line each.
#[must_use]
pub fn differences(one: &Tree, other: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, node) in one {
        match other.get(path) {
            None => lines.push(format!("{}: only in the first: {node:?}", path.display())),
            Some(twin) if twin != node => lines.push(format!("{}: {node:?}, {twin:?}", path.display())),
            Some(_) => {}
        }
    }
    let added = other.iter().filter(|(path, _)| !one.contains_key(*path));
    lines.extend(added.map(|(path, node)| format!("{}: only in the second: {node:?}", path.display())));
    lines
}
