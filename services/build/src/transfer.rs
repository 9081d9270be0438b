//! COPY and ADD: what goes where, by the rules that everybody knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_dockerfile::Ignore;
use davit_dockerfile::change::joined;
use davit_dockerfile::instruction::{Source, Transfer, TransferStep};

use crate::error::Error;
use crate::gather::{Match, gather};
use crate::git::Commit;
use crate::key::Key;
use crate::layer::{Data, Item, Layer};
use crate::owner::{Mode, owner};
use crate::tree::{Kind, Node, Tree, clean};
use crate::unpack::is_archive;

/// Two times, in seconds and nanoseconds.
type Times = ((i64, u32), (i64, u32));

/// What is to go, found and described.
#[derive(Debug)]
pub struct Found {
    pieces: Vec<Piece>,
    documents: Vec<(String, Vec<u8>)>,
    step: TransferStep,
    parents: bool,
    destination: String,
}

/// A source that is there.
#[derive(Debug)]
pub enum Piece {
    /// Files as they are.
    Files(Match),
    /// An archive, whose content is to go.
    Archive(Match),
    /// A commit of a repository, with or without the repository's own folder.
    Commit(Commit, bool),
    /// What was in an archive.
    Unpacked(Match),
    /// What was in a repository.
    CheckedOut(Match),
}

/// A source that was looked for elsewhere.
#[derive(Debug)]
pub enum Fetched {
    /// A file, alone in a tree.
    File(Arc<dyn Tree>, PathBuf),
    /// A commit.
    Commit(Commit),
}

/// Finds the sources; those that are elsewhere were looked for, in their order. Reads no file's content but the
/// beginning of what may be an archive.
///
/// # Errors
/// A source is not there, or is of a kind that is not served.
pub fn find(
    transfer: &Transfer,
    step: TransferStep,
    tree: &Arc<dyn Tree>,
    working_dir: &str,
    fetched: Vec<Fetched>,
) -> Result<Found, Error> {
    let exclude = Ignore::of(&step.exclude).map_err(|error| Error::Invalid(error.problem.to_string()))?;
    let (mut pieces, mut documents) = (Vec::new(), Vec::new());
    let mut fetched = fetched.into_iter();
    for source in &step.sources {
        match source {
            Source::Path(path) => {
                let unpack = transfer.add && transfer.unpack != Some(false);
                for found in gather(tree, path, &exclude, transfer.parents)? {
                    pieces.push(piece(found, unpack)?);
                }
            }
            Source::Document { name, text } => documents.push((name.clone(), text.clone().into_bytes())),
            Source::Url(_) | Source::Git(_) => pieces.push(match fetched.next() {
                Some(Fetched::File(tree, path)) => {
                    let node = tree.stat(&path).map_err(Error::io("read what was fetched"))?;
                    let node = node.ok_or(Error::Lost)?;
                    // A file that nobody gave a name has one of our own in its tree, and none here.
                    let asked = if path.as_os_str() == NAMELESS { PathBuf::new() } else { path.clone() };
                    let found = Match { tree, path, asked, skipped: 0, node, below: Vec::new() };
                    piece(found, transfer.unpack == Some(true))?
                }
                Some(Fetched::Commit(commit)) => Piece::Commit(commit, transfer.keep_git_dir),
                None => return Err(Error::Lost),
            }),
        }
    }
    let elsewhere = step.sources.iter().any(|source| matches!(source, Source::Url(_) | Source::Git(_)));
    if step.checksum.is_some() && !(elsewhere && step.sources.len() == 1) {
        return Err(Error::Invalid("--checksum is for one source that is fetched".to_owned()));
    }
    let slash = step.destination.ends_with('/') || matches!(step.destination.as_str(), "." | "..");
    let mut destination = joined(working_dir, &step.destination);
    if slash && !destination.ends_with('/') {
        destination.push('/');
    }
    Ok(Found { pieces, documents, step, parents: transfer.parents, destination })
}

/// What a fetched file is called in its tree when nobody gave it a name.
pub const NAMELESS: &str = "..nameless";

/// A file that is an archive, whatever it is called, is one where archives are unpacked.
fn piece(found: Match, unpack: bool) -> Result<Piece, Error> {
    if !unpack || !matches!(found.node.kind, Kind::File { .. }) {
        return Ok(Piece::Files(found));
    }
    let file = found.tree.open(&found.path);
    let file = file.map_err(Error::io(format!("read {}", found.path.display())))?;
    Ok(if is_archive(file) { Piece::Archive(found) } else { Piece::Files(found) })
}

impl Found {
    /// Whether what all files hold is known without reading any.
    pub fn is_read(&self) -> bool {
        let unread = |node: &Node| matches!(node.kind, Kind::File { digest: None, .. });
        let unread_in =
            |found: &Match| unread(&found.node) || found.below.iter().any(|(_, node)| unread(node));
        !self.pieces.iter().any(|piece| match piece {
            Piece::Files(found) | Piece::Archive(found) => unread_in(found),
            Piece::Unpacked(found) | Piece::CheckedOut(found) => unread_in(found),
            Piece::Commit(..) => false,
        })
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
        for piece in &self.pieces {
            let found = match piece {
                Piece::Files(found) => found,
                Piece::Archive(found) | Piece::Unpacked(found) | Piece::CheckedOut(found) => {
                    key.add(b"archive");
                    found
                }
                Piece::Commit(commit, keep) => {
                    let text = format!("commit {} {keep} {}", commit.commit, commit.repository.folder);
                    key.add(text.as_bytes());
                    continue;
                }
            };
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

    /// The sources, some of which are to be unpacked before anything can be put together.
    pub fn pieces(&mut self) -> &mut Vec<Piece> {
        &mut self.pieces
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
        let several = self.pieces.len() + self.documents.len() > 1;
        let target = clean(&self.destination);
        // Who names a link names what it leads to, also where that is not there.
        let there = layer.resolve(&target, true)?;
        let folder = layer.stat(&there)?.is_some_and(|node| node.is_dir());
        let into = several || self.destination.ends_with('/') || self.parents || folder;
        let target = if into { target } else { there };
        for (source, piece) in self.pieces.iter().enumerate() {
            rules.source = source;
            match piece {
                Piece::Files(found) => {
                    let place = self.place(found, &target, into, &mut layer, &rules)?;
                    put(&mut layer, found, &place, &rules)?;
                }
                Piece::Unpacked(found) => {
                    layer.make_folder(&target)?;
                    put(&mut layer, found, &target, &Rules::none(source))?;
                }
                Piece::CheckedOut(found) => {
                    layer.make_folder(&target)?;
                    put(&mut layer, found, &target, &rules)?;
                }
                Piece::Archive(_) | Piece::Commit(..) => return Err(Error::Lost),
            }
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
            if file && into && found.name().is_empty() {
                let why = "neither the address nor the server gives the file a name: let the destination end with one";
                return Err(Error::Invalid(why.to_owned()));
            }
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
    /// For an archive, which says itself whose its files are and what may be done with them: `--chown` and `--chmod`
    /// are for the folder that is made for them.
    fn none(source: usize) -> Self {
        Self { own: None, mode: None, parents: false, source }
    }

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
