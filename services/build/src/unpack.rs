//! Archives become trees: what they hold is judged entry by entry, and goes into the store of contexts.
//!
//! Nothing is unpacked onto a disk: an entry is a name in a list, and its bytes are a file by digest. So no entry leads
//! anywhere, whatever its name and whatever links came before it, and what becomes a layer is put into the image by the
//! same rules as any other file ([`crate::layer`]).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, Read, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use davit_archive::path::EntryPath;
use davit_archive::tar::{self, Reader};

use crate::compression::inflated;
use crate::context::{ENTRIES, Store};
use crate::error::Error;
use crate::tree::{Kind, Node};

/// Bytes of the extended headers of one entry.
const HEADER_BYTES: u64 = 1 << 20;
/// The first block of an archive.
const BLOCK: u64 = 512;

/// What an archive holds, by path; folders that it only implies are among it.
pub type Nodes = BTreeMap<PathBuf, Node>;

/// Ends work on another thread when nobody waits for it any more.
#[derive(Debug, Default)]
pub struct Watch(Arc<AtomicBool>);

/// Says whether somebody still waits.
#[derive(Debug, Clone, Default)]
pub struct Watched(Arc<AtomicBool>);

impl Watch {
    /// For the thread that works.
    pub fn watched(&self) -> Watched {
        Watched(Arc::clone(&self.0))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Watched {
    /// Whether nobody waits any more.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether a stream is an archive, compressed or not: its first header is one. Whatever cannot be read is none.
pub fn is_archive(source: impl Read + Send) -> bool {
    let Ok(mut plain) = inflated(source) else { return false };
    let mut block = Vec::new();
    if plain.by_ref().take(BLOCK).read_to_end(&mut block).is_err() {
        return false;
    }
    // An archive of nothing is two blocks of zeros; a file of zeros is no archive for that.
    let empty = block.iter().all(|byte| *byte == 0);
    !empty && Reader::new(block.as_slice(), HEADER_BYTES).is_header()
}

/// Reads an archive, compressed or not, into the store.
///
/// # Errors
/// It is none, an entry of it is refused, or the disk fails.
pub fn unpack(source: impl Read + Send, store: &Store, watched: &Watched) -> Result<Nodes, Error> {
    let plain = inflated(source).map_err(Error::io("read the archive"))?;
    let mut intake = Intake { store, watched, nodes: Nodes::new(), links: 0 };
    let mut reader = Reader::new(plain, HEADER_BYTES).with_sparse();
    loop {
        if watched.is_over() {
            return Err(Error::Cancelled);
        }
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(intake.nodes),
            Err(problem) => return Err(refused(reader.name(), &problem)),
        };
        intake.entry(entry, &mut reader)?;
    }
}

fn refused(name: &[u8], why: &dyn std::error::Error) -> Error {
    let mut text = why.to_string();
    let mut source = why.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    if name.is_empty() {
        return Error::Invalid(format!("the archive: {text}"));
    }
    Error::Invalid(format!("entry {} of the archive: {text}", shown(name)))
}

/// A foreign name for a message.
fn shown(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name).chars().take(200).collect();
    format!("{text:?}")
}

struct Intake<'a> {
    store: &'a Store,
    watched: &'a Watched,
    nodes: Nodes,
    /// Files that have several names, so far.
    links: u64,
}

impl Intake<'_> {
    fn entry(&mut self, entry: tar::Entry, reader: &mut Reader<impl BufRead>) -> Result<(), Error> {
        let wrong = |why: &str| Error::Invalid(format!("entry {} of the archive: {why}", shown(&entry.path)));
        if self.nodes.len() >= ENTRIES {
            return Err(Error::Invalid(format!("the archive has more than {ENTRIES} entries")));
        }
        let path = place(&entry.path).map_err(|problem| refused(&entry.path, &problem))?;
        self.above(&path).map_err(|why| wrong(&why))?;
        let kind = match entry.kind {
            tar::Kind::File => self.file(&entry, reader)?,
            tar::Kind::Directory => Kind::Directory,
            tar::Kind::Symlink if entry.link.is_empty() => return Err(wrong("a link that leads nowhere")),
            tar::Kind::Symlink => Kind::Symlink(PathBuf::from(OsString::from_vec(entry.link.clone()))),
            tar::Kind::Hardlink => {
                let target = place(&entry.link).map_err(|problem| refused(&entry.path, &problem))?;
                return self.link(path, &target).map_err(|why| wrong(&why));
            }
            tar::Kind::Character | tar::Kind::Block if entry.device == (0, 0) => {
                return Err(wrong("a device 0:0, which layers have for files that are gone"));
            }
            tar::Kind::Character | tar::Kind::Block | tar::Kind::Fifo => {
                Kind::Other(entry.kind, entry.device)
            }
        };
        match self.nodes.get(&path) {
            Some(there) if there.is_dir() && kind != Kind::Directory => {
                return Err(wrong("it would take the place of a folder of the same archive"));
            }
            Some(_) | None => {}
        }
        let kept = entry.xattrs.into_iter().filter(|(name, _)| davit_archive::is_kept_xattr(name));
        let node = Node {
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            modified: entry.modified,
            xattrs: kept.collect(),
        };
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Folders that are only implied; everything above an entry must be one.
    fn above(&mut self, path: &Path) -> Result<(), String> {
        let above: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        for folder in above.into_iter().rev() {
            match self.nodes.get(folder) {
                Some(node) if node.is_dir() => {}
                Some(_) => return Err(format!("{} is no folder in the same archive", folder.display())),
                None => drop(self.nodes.insert(folder.to_owned(), Node::implied())),
            }
        }
        Ok(())
    }

    fn file(&self, entry: &tar::Entry, reader: &mut Reader<impl BufRead>) -> Result<Kind, Error> {
        let failed = || Error::io(format!("unpack {}", shown(&entry.path)));
        let mut blob = self.store.blob_writer().map_err(failed())?;
        loop {
            let piece = reader.data().map_err(|problem| refused(&entry.path, &problem))?;
            if piece.is_empty() {
                break;
            }
            let length = piece.len();
            blob.write_all(piece).map_err(failed())?;
            reader.consume(length);
            if self.watched.is_over() {
                return Err(Error::Cancelled);
            }
        }
        let stored = blob.finish().map_err(failed())?;
        Ok(Kind::File { size: stored.size, digest: Some(stored.digest), number: None })
    }

    /// One more name of a file that came before.
    fn link(&mut self, path: PathBuf, target: &Path) -> Result<(), String> {
        if path == target {
            return Ok(());
        }
        if self.nodes.get(&path).is_some_and(Node::is_dir) {
            return Err("it would take the place of a folder of the same archive".to_owned());
        }
        let Some(node) = self.nodes.get_mut(target).filter(|node| !node.is_dir()) else {
            return Err(format!(
                "a link to {}, which is no earlier file of it",
                shown(target.as_os_str().as_bytes())
            ));
        };
        if let Kind::File { number: number @ None, .. } = &mut node.kind {
            self.links += 1;
            *number = Some((0, self.links));
        }
        let node = node.clone();
        self.nodes.insert(path, node);
        Ok(())
    }
}

/// Where an entry goes: a slash at the beginning is the top of the archive.
fn place(name: &[u8]) -> Result<PathBuf, davit_archive::PathProblem> {
    let slashes = name.iter().take_while(|byte| **byte == b'/').count();
    let inner = name.get(slashes..).unwrap_or_default();
    let inner = if inner.is_empty() && slashes > 0 { b"." } else { inner };
    EntryPath::parse(inner).map(|path| PathBuf::from(OsStr::from_bytes(path.bytes())))
}

/// What is at the top of an archive does not say what the folder is that it is unpacked into.
pub fn without_top(mut nodes: Nodes) -> Nodes {
    nodes.remove(Path::new(""));
    nodes
}

#[cfg(test)]
mod tests;
