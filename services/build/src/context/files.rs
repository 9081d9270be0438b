//! The files of a context, as a tree.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use davit_dockerfile::Ignore;
use davit_proto::build::Entry;

use super::{Held, Store};
use crate::tree::{Kind, Node, Tree};

const FORMAT: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const FIFO: u32 = 0o010_000;

/// Whether a mode is that of a regular file.
pub fn is_file(mode: u32) -> bool {
    mode & FORMAT == REGULAR
}

/// What all names of one file share. A number alone may be that of another disk's file.
fn same(entry: &Entry) -> (u64, u64, i64, i64) {
    (entry.inode, entry.size, entry.modified, entry.changed)
}

/// The files that have more names than one. Who sends no numbers has none.
fn several(entries: &[Entry]) -> BTreeSet<(u64, u64, i64, i64)> {
    let mut once = BTreeSet::new();
    let files = entries.iter().filter(|entry| is_file(entry.mode) && entry.inode != 0);
    files.map(same).filter(|file| !once.insert(*file)).collect()
}

/// A context, whole.
#[derive(Debug)]
pub struct Files {
    store: Store,
    nodes: BTreeMap<PathBuf, Node>,
    names: BTreeMap<PathBuf, BTreeSet<OsString>>,
    held: Option<Held>,
}

impl Files {
    /// Of entries and the digests of those that are files. What is neither file, folder nor link is not there.
    pub(super) fn new(store: &Store, entries: Vec<Entry>, digests: &BTreeMap<usize, String>) -> Self {
        let mut files =
            Self { store: store.clone(), nodes: BTreeMap::new(), names: BTreeMap::new(), held: None };
        files.nodes.insert(PathBuf::new(), Node::folder(0, 0, (0, 0)));
        let several = several(&entries);
        for (number, entry) in entries.into_iter().enumerate() {
            let kind = match entry.mode & FORMAT {
                REGULAR => {
                    let digest = digests.get(&number).cloned();
                    let number = several.contains(&same(&entry)).then_some((0, entry.inode));
                    Kind::File { size: entry.size, digest, number }
                }
                DIRECTORY => Kind::Directory,
                LINK => Kind::Symlink(PathBuf::from(OsString::from_vec(entry.link.to_vec()))),
                FIFO => Kind::Other(davit_archive::tar::Kind::Fifo, (0, 0)),
                _ => continue,
            };
            let seconds = entry.modified.div_euclid(1_000_000_000);
            let nanoseconds = u32::try_from(entry.modified.rem_euclid(1_000_000_000)).unwrap_or(0);
            let node = Node {
                kind,
                mode: entry.mode & 0o7777,
                // Whoever has the files at home is nobody in the image.
                uid: 0,
                gid: 0,
                modified: (seconds, nanoseconds),
                xattrs: Vec::new(),
            };
            files.insert(PathBuf::from(OsStr::from_bytes(&entry.path)), node);
        }
        files
    }

    /// Of what is known already; its files are in the store.
    pub fn of(store: &Store, held: Held, nodes: BTreeMap<PathBuf, Node>) -> Self {
        let mut files = Self::new(store, Vec::new(), &BTreeMap::new());
        files.held = Some(held);
        nodes.into_iter().for_each(|(path, node)| files.insert(path, node));
        files
    }

    fn insert(&mut self, path: PathBuf, node: Node) {
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            self.names.entry(folder.to_owned()).or_default().insert(name.to_owned());
        }
        self.nodes.insert(path, node);
    }

    /// Lets stay behind what an ignore file says.
    pub fn without(mut self, ignore: &Ignore) -> Self {
        if ignore.is_empty() {
            return self;
        }
        self.nodes.retain(|path, _| path.as_os_str().is_empty() || !ignore.ignores(&path.to_string_lossy()));
        self.names.clear();
        let nodes = std::mem::take(&mut self.nodes);
        nodes.into_iter().for_each(|(path, node)| self.insert(path, node));
        self
    }

    /// Keeps what it reads from where it is.
    pub(super) fn hold(&mut self, held: Held) {
        self.held = Some(held);
    }
}

impl Tree for Files {
    fn stat(&self, path: &Path) -> io::Result<Option<Node>> {
        Ok(self.nodes.get(path).cloned())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.names.get(path).map(|names| names.iter().cloned().collect()).unwrap_or_default())
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        self.stored(path).map_or_else(|| Err(io::ErrorKind::NotFound.into()), File::open)
    }

    fn stored(&self, path: &Path) -> Option<PathBuf> {
        match &self.nodes.get(path)?.kind {
            Kind::File { digest: Some(digest), .. } => Some(self.store.blob(digest)),
            _ => None,
        }
    }
}
