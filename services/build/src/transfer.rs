//! COPY and ADD: what goes where, by the rules that everybody knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_dockerfile::Ignore;
use davit_dockerfile::change::joined;
use davit_dockerfile::instruction::{Source, Transfer, TransferStep};

use crate::error::Error;
use crate::gather::{Match, gather};
use crate::key::Key;
use crate::layer::{Data, Item, Layer};
use crate::owner::{Mode, owner};
use crate::tree::{Kind, Node, Tree, clean};

/// Two times, in seconds and nanoseconds.
type Times = ((i64, u32), (i64, u32));

/// What is to go, found and described.
#[derive(Debug)]
pub struct Found {
    matches: Vec<Match>,
    documents: Vec<(String, Vec<u8>)>,
    step: TransferStep,
    parents: bool,
    destination: String,
}

/// Finds the sources. Reads no file's content but that of documents, which are in the Dockerfile.
///
/// # Errors
/// A source is not there, or is of a kind that is not served.
pub fn find(
    transfer: &Transfer,
    step: TransferStep,
    tree: &Arc<dyn Tree>,
    working_dir: &str,
) -> Result<Found, Error> {
    let exclude = Ignore::of(&step.exclude).map_err(|error| Error::Invalid(error.problem.to_string()))?;
    let (mut matches, mut documents) = (Vec::new(), Vec::new());
    for source in &step.sources {
        match source {
            Source::Path(path) => matches.extend(gather(tree, path, &exclude, transfer.parents)?),
            Source::Document { name, text } => documents.push((name.clone(), text.clone().into_bytes())),
            Source::Url(_) => return Err(Error::Unserved("ADD of a file on a web server")),
            Source::Git(_) => return Err(Error::Unserved("ADD of a repository")),
        }
    }
    if transfer.add && transfer.unpack != Some(false) {
        matches.iter().try_for_each(refuse_archive)?;
    }
    if step.checksum.is_some() {
        return Err(Error::Invalid("--checksum is for what is fetched".to_owned()));
    }
    let slash = step.destination.ends_with('/') || matches!(step.destination.as_str(), "." | "..");
    let mut destination = joined(working_dir, &step.destination);
    if slash && !destination.ends_with('/') {
        destination.push('/');
    }
    Ok(Found { matches, documents, step, parents: transfer.parents, destination })
}

/// ADD unpacks archives, which is not done yet: to copy one as it is would be something else than was asked for.
fn refuse_archive(found: &Match) -> Result<(), Error> {
    use std::io::Read as _;
    if !matches!(found.node.kind, Kind::File { .. }) {
        return Ok(());
    }
    let failed = || Error::io(format!("read {}", found.path.display()));
    let mut head = Vec::new();
    found.tree.open(&found.path).map_err(failed())?.take(512).read_to_end(&mut head).map_err(failed())?;
    let magics: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    let packed = magics.iter().any(|magic| head.starts_with(magic));
    if packed || head.get(257..262) == Some(b"ustar") {
        return Err(Error::Unserved("ADD of an archive, which would be unpacked,"));
    }
    Ok(())
}

impl Found {
    /// Whether what all files hold is known without reading any.
    pub fn is_read(&self) -> bool {
        let unread = |node: &Node| matches!(node.kind, Kind::File { digest: None, .. });
        !self
            .matches
            .iter()
            .any(|found| unread(&found.node) || found.below.iter().any(|(_, node)| unread(node)))
    }

    /// Adds all that goes in to a step's name. `origin` stands for files that nobody has read; without it they are read.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn describe(&self, key: &mut Key, origin: Option<&str>) -> Result<(), Error> {
        key.add(self.destination.as_bytes());
        key.add(if self.parents { b"parents" } else { b"" });
        for part in [&self.step.chown, &self.step.chmod] {
            key.add(part.as_deref().unwrap_or_default().as_bytes());
        }
        self.step.exclude.iter().for_each(|pattern| key.add(pattern.as_bytes()));
        if let Some(origin) = origin {
            key.add(origin.as_bytes());
        }
        for found in &self.matches {
            found.describe(key, &mut |found, path| match origin {
                Some(_) => Ok(String::new()),
                None => found.digest(path),
            })?;
        }
        for (name, text) in &self.documents {
            key.add(name.as_bytes());
            key.add(text);
        }
        Ok(())
    }

    /// Puts it together upon a base. `times` are those of its documents, and of folders that
    /// nobody described.
    ///
    /// # Errors
    /// An owner is not known there, or a folder stands where a file should be.
    pub fn layer(&self, base: Option<Arc<dyn Tree>>, (written, untold): Times) -> Result<Layer, Error> {
        let own = self.step.chown.as_deref().map(|text| owner(text, base.as_deref())).transpose()?;
        let mode = self.step.chmod.as_deref().map(Mode::parse).transpose()?;
        let mut rules = Rules { own, mode, parents: self.parents, source: 0 };
        let (uid, gid) = own.unwrap_or((0, 0));
        let mut layer = Layer::new(base, Node::folder(uid, gid, untold));
        let several = self.matches.len() + self.documents.len() > 1;
        let target = clean(&self.destination);
        // Who names a link names what it leads to, also where that is not there.
        let there = layer.resolve(&target, true)?;
        let folder = layer.stat(&there)?.is_some_and(|node| node.is_dir());
        let into = several || self.destination.ends_with('/') || self.parents || folder;
        let target = if into { target } else { there };
        for (source, found) in self.matches.iter().enumerate() {
            rules.source = source;
            let place = self.place(found, &target, into, &mut layer, &rules)?;
            put(&mut layer, found, &place, &rules)?;
        }
        for (name, text) in &self.documents {
            let place = if into { target.join(name) } else { target.clone() };
            let kind = Kind::File { size: text.len() as u64, digest: None, number: None };
            let node = Node { kind, mode: 0o644, uid: 0, gid: 0, modified: written, xattrs: Vec::new() };
            layer.put(&place, Item { node: rules.apply(node), data: Data::Bytes(text.clone()) })?;
        }
        Ok(layer)
    }

    /// Where a source goes. A folder's content goes into the destination; with its parents, all of its path does.
    fn place(
        &self,
        found: &Match,
        target: &Path,
        into: bool,
        layer: &mut Layer,
        rules: &Rules,
    ) -> Result<PathBuf, Error> {
        if !self.parents {
            let file = !found.node.is_dir();
            return Ok(if file && into { target.join(found.name()) } else { target.to_owned() });
        }
        let mut asked = found.asked.iter();
        let mut folder: PathBuf = asked.by_ref().take(found.skipped).collect();
        let mut place = target.to_owned();
        let names: Vec<_> = asked.collect();
        for name in names.iter().take(names.len().saturating_sub(1)) {
            folder.push(name);
            place.push(name);
            let node = found.tree.stat(&folder).map_err(Error::io(format!("read {}", folder.display())))?;
            if let Some(node) = node.filter(Node::is_dir) {
                layer.put(&place, Item { node: rules.apply(node), data: Data::None })?;
            }
        }
        place.extend(names.last());
        Ok(place)
    }
}

/// What is changed of everything that goes.
struct Rules {
    own: Option<(u32, u32)>,
    mode: Option<Mode>,
    /// Whether the folder that is copied goes as well, and not only what is in it.
    parents: bool,
    /// The number of the source.
    source: usize,
}

impl Rules {
    fn apply(&self, mut node: Node) -> Node {
        if let Some((uid, gid)) = self.own {
            (node.uid, node.gid) = (uid, gid);
        }
        if let Some(mode) = self.mode.as_ref().filter(|_| !matches!(node.kind, Kind::Symlink(_))) {
            node.mode = mode.apply(node.mode, node.is_dir());
        }
        node
    }
}

/// Puts a source at its place, with all that is in it.
fn put(layer: &mut Layer, found: &Match, place: &Path, rules: &Rules) -> Result<(), Error> {
    let item = |path: &Path, node: &Node| {
        let data = match node.kind {
            Kind::File { number: Some(number), .. } => {
                Data::Shared(Arc::clone(&found.tree), path.to_owned(), (rules.source, number))
            }
            Kind::File { .. } => Data::Tree(Arc::clone(&found.tree), path.to_owned()),
            _ => Data::None,
        };
        Item { node: rules.apply(node.clone()), data }
    };
    if found.node.is_dir() {
        let resolved = layer.resolve(place, true)?;
        match layer.stat(&resolved)? {
            // The folder that others are copied into stays as it is.
            None if rules.parents => layer.put(place, item(&found.path, &found.node))?,
            // The folder that others are copied into stays as it is, and a new one is of nobody's making.
            Some(_) | None => drop(layer.make_folder(place)?),
        }
    } else {
        layer.put(place, item(&found.path, &found.node))?;
    }
    for (path, node) in &found.below {
        layer.put(&place.join(path), item(&found.path.join(path), node))?;
    }
    Ok(())
}
