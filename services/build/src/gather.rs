//! What the sources of COPY and ADD mean: paths, wildcards, and all that is in folders.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_dockerfile::Ignore;
use davit_dockerfile::pattern::Pattern;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::key::Key;
use crate::tree::{Kind, Node, Tree, clean, resolve};

/// A source that is there.
#[derive(Debug)]
pub struct Match {
    /// Where its files are.
    pub tree: Arc<dyn Tree>,
    /// Its path, links followed.
    pub path: PathBuf,
    /// Its path as it was asked for.
    pub asked: PathBuf,
    /// How many names of it do not go with it when its parents do: those before `/./`.
    pub skipped: usize,
    /// What it is.
    pub node: Node,
    /// For a folder what is in it, by path from there, folders before what is in them.
    pub below: Vec<(PathBuf, Node)>,
}

/// Entries that one instruction may copy.
const ENTRIES: usize = 2_000_000;
/// Bytes of a file that are read at once.
const PIECE: usize = 128 << 10;

/// Finds a source. A name without wildcards must be there; wildcards may match nothing.
///
/// # Errors
/// It is not there, is no pattern, or cannot be read.
pub fn gather(
    tree: &Arc<dyn Tree>,
    source: &str,
    exclude: &Ignore,
    parents: bool,
) -> Result<Vec<Match>, Error> {
    let wanted = clean(source);
    let skipped =
        source.split_once("/./").filter(|_| parents).map_or(0, |(above, _)| clean(above).iter().count());
    let mut found = Vec::new();
    let mut plain = true;
    let mut paths = vec![PathBuf::new()];
    for name in wanted.iter() {
        let text = name.to_str().ok_or_else(|| Error::Invalid(format!("path {source:?} is no UTF-8")))?;
        let pattern =
            Pattern::parse(text).map_err(|reason| Error::Invalid(format!("pattern {source:?}: {reason}")))?;
        plain &= pattern.is_plain();
        paths = step(tree.as_ref(), paths, &pattern, parents)
            .map_err(Error::io(format!("look for {source:?}")))?;
    }
    for asked in paths {
        let failed = || Error::io(format!("read {}", asked.display()));
        let path = resolve(tree.as_ref(), &asked, true).map_err(failed())?;
        let Some(node) = tree.stat(&path).map_err(failed())? else {
            if plain {
                return Err(Error::NotFound(source.to_owned()));
            }
            continue;
        };
        if !node.is_dir() && exclude.ignores(&asked.to_string_lossy()) {
            continue;
        }
        let mut below = Vec::new();
        if node.is_dir() {
            walk(tree.as_ref(), &path, exclude, &mut below)?;
        }
        found.push(Match { tree: Arc::clone(tree), path, asked, skipped, node, below });
    }
    Ok(found)
}

/// Finds what is at one path, in which wildcards mean nothing. The root of a tree without any files is an empty folder.
///
/// # Errors
/// It is not there, or cannot be read.
pub fn whole(tree: &Arc<dyn Tree>, source: &str) -> Result<Match, Error> {
    let asked = clean(source);
    let failed = || Error::io(format!("read {source:?}"));
    let path = resolve(tree.as_ref(), &asked, true).map_err(failed())?;
    let root = || path.as_os_str().is_empty().then(|| Node::folder(0, 0, (0, 0)));
    let node = tree.stat(&path).map_err(failed())?.or_else(root);
    let node = node.ok_or_else(|| Error::NotFound(source.to_owned()))?;
    let mut below = Vec::new();
    if node.is_dir() {
        walk(tree.as_ref(), &path, &Ignore::default(), &mut below)?;
    }
    Ok(Match { tree: Arc::clone(tree), path, asked, skipped: 0, node, below })
}

/// The paths that are there once one more name was matched.
fn step(
    tree: &dyn Tree,
    paths: Vec<PathBuf>,
    pattern: &Pattern,
    deep: bool,
) -> std::io::Result<Vec<PathBuf>> {
    if pattern.is_plain() {
        return Ok(paths.into_iter().map(|path| path.join(pattern.plain())).collect());
    }
    // Without --parents two stars are what one is: one folder.
    let any_depth = deep && pattern.text() == "**";
    let mut found = Vec::new();
    let mut open = paths;
    while let Some(path) = open.pop() {
        if any_depth {
            found.push(path.clone());
        }
        let real = resolve(tree, &path, true)?;
        if !tree.stat(&real)?.is_some_and(|node| node.is_dir()) {
            continue;
        }
        for name in tree.list(&real)? {
            let next = path.join(&name);
            if any_depth {
                if tree.stat(&real.join(&name))?.is_some_and(|node| node.is_dir()) {
                    open.push(next);
                }
            } else if pattern.matches(&name.to_string_lossy()) {
                found.push(next);
            }
        }
        if found.len() > ENTRIES {
            return Err(std::io::Error::other("too many entries match"));
        }
    }
    found.sort();
    Ok(found)
}

/// Everything in a folder but what stays behind.
fn walk(
    tree: &dyn Tree,
    root: &Path,
    exclude: &Ignore,
    found: &mut Vec<(PathBuf, Node)>,
) -> Result<(), Error> {
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let real = root.join(&folder);
        let names = tree.list(&real).map_err(Error::io(format!("list {}", real.display())))?;
        for name in names {
            let path = folder.join(&name);
            let real = root.join(&path);
            let node = tree.stat(&real).map_err(Error::io(format!("read {}", real.display())))?;
            let Some(node) = node else { continue };
            let text = path.to_string_lossy();
            let ignored = !exclude.is_empty() && exclude.ignores(&text);
            if node.is_dir() && !(ignored && exclude.ignores_all_below(&text)) {
                open.push(path.clone());
            }
            if !ignored {
                found.push((path, node));
            }
            if found.len() > ENTRIES {
                let text = format!("more than {ENTRIES} entries would be copied");
                return Err(Error::Invalid(text));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(())
}

impl Match {
    /// All that is in a tree, to go into a folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn all(tree: Arc<dyn Tree>) -> Result<Self, Error> {
        let mut below = Vec::new();
        walk(tree.as_ref(), Path::new(""), &Ignore::default(), &mut below)?;
        let node = Node::implied();
        Ok(Self { tree, path: PathBuf::new(), asked: PathBuf::new(), skipped: 0, node, below })
    }

    /// Its name in the folder that it goes to.
    pub fn name(&self) -> OsString {
        self.asked.file_name().map_or_else(OsString::new, OsStr::to_owned)
    }

    /// Adds what it holds to a step's name. Of a file that nobody has read, `unread` tells what it holds.
    ///
    /// # Errors
    /// It cannot tell.
    pub fn describe(&self, key: &mut Key, unread: &mut Unread<'_>) -> Result<(), Error> {
        key.add(self.asked.as_os_str().as_encoded_bytes());
        key.add(&self.skipped.to_le_bytes());
        let root = [(Path::new(""), &self.node)];
        let below = self.below.iter().map(|(path, node)| (path.as_path(), node));
        for (path, node) in root.into_iter().chain(below) {
            describe(path, node, key);
            if let Kind::File { digest: None, .. } = node.kind {
                key.add(unread(self, path)?.as_bytes());
            }
        }
        self.describe_names(key);
        Ok(())
    }

    /// Which names are of one file.
    fn describe_names(&self, key: &mut Key) {
        let mut first = BTreeMap::new();
        for (path, node) in &self.below {
            if let Kind::File { number: Some(number), .. } = &node.kind {
                let earlier: &mut &Path = first.entry(*number).or_insert(path);
                key.add(earlier.as_os_str().as_encoded_bytes());
            }
        }
    }

    /// Reads a file, by its path from here: the digest of what it holds.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn digest(&self, path: &Path) -> Result<String, Error> {
        // The path of what is no folder does not end with a slash.
        let path = if path.as_os_str().is_empty() { self.path.clone() } else { self.path.join(path) };
        let read = || -> std::io::Result<String> {
            let (mut file, mut digest) = (self.tree.open(&path)?, Sha256::new());
            let mut piece = vec![0; PIECE];
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(hex::encode(digest.finalize())),
                    length => digest.update(&piece[..length]),
                }
            }
        };
        read().map_err(Error::io(format!("read {}", path.display())))
    }
}

/// Tells what a file holds, by its path from the match that it is in.
pub type Unread<'a> = dyn FnMut(&Match, &Path) -> Result<String, Error> + 'a;

/// What counts of an entry: no time does.
fn describe(path: &Path, node: &Node, key: &mut Key) {
    key.add(path.as_os_str().as_encoded_bytes());
    key.add(format!("{:o} {} {}", node.mode, node.uid, node.gid).as_bytes());
    for (name, value) in &node.xattrs {
        key.add(name);
        key.add(value);
    }
    match &node.kind {
        Kind::File { digest, .. } => key.add(digest.as_deref().unwrap_or_default().as_bytes()),
        Kind::Directory => key.add(b"directory"),
        Kind::Symlink(target) => {
            key.add(b"link");
            key.add(target.as_os_str().as_encoded_bytes());
        }
        Kind::Other(kind, device) => key.add(format!("{kind:?} {device:?}").as_bytes()),
    }
}
