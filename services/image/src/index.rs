//! `index.json`: the truth about which references there are. An OCI image index, readable by other tools in place, and
//! replaced as a whole.
//!
//! Each reference is one entry that points at a manifest, with the full reference where other tools look for the name.
//! An image that lost its last reference to another keeps an entry without a name, so that it is still listed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use davit_sys::file::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::document::{Descriptor, OCI_INDEX};
use crate::reference::ImageRef;

const FILE: &str = "index.json";
const BYTES: usize = 64 << 20;
/// Stands in for the file when the disk is full.
const RESERVE: &str = ".index.reserve";
const RESERVE_BYTES: u64 = 64 << 10;
/// Where other tools look for an entry's name.
const NAME: &str = "org.opencontainers.image.ref.name";
/// What the registry named the image by when it was pulled: `registry/repository@digest`.
const SOURCE: &str = "davit.source";

/// Why the references cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The file is no index. It is left as it is: only its owner can know what to do.
    #[error("{} is not an OCI image index; move it away to begin without images", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// One entry: an image, and mostly a reference to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    descriptor: Descriptor,
    reference: Option<ImageRef>,
    source: Option<ImageRef>,
}

impl Entry {
    /// An entry for a manifest. `source` is what a registry named it by.
    #[must_use]
    pub fn new(manifest: &Descriptor, reference: Option<ImageRef>, source: Option<ImageRef>) -> Self {
        let mut descriptor = Descriptor::new(&manifest.media_type, manifest.digest.clone(), manifest.size);
        descriptor.platform = manifest.platform.clone();
        let mut entry = Self { descriptor, reference, source };
        entry.annotate(NAME, entry.reference.as_ref().map(ToString::to_string));
        entry.annotate(SOURCE, entry.source.as_ref().map(ToString::to_string));
        entry
    }

    /// What it points at.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The reference, unless it has none.
    #[must_use]
    pub fn reference(&self) -> Option<&ImageRef> {
        self.reference.as_ref()
    }

    /// Whether it is only for builds to find a step again: people do not see it.
    #[must_use]
    pub fn is_step(&self) -> bool {
        self.reference.as_ref().is_some_and(|reference| davit_proto::step::is_step(&reference.to_string()))
    }

    /// Repository and digest it was pulled by, if it was pulled.
    #[must_use]
    pub fn source(&self) -> Option<&ImageRef> {
        self.source.as_ref()
    }

    /// The same without its reference.
    #[must_use]
    pub fn unnamed(&self) -> Self {
        let mut entry = self.clone();
        entry.reference = None;
        entry.annotate(NAME, None);
        entry
    }

    fn annotate(&mut self, key: &str, value: Option<String>) {
        match value {
            Some(value) => self.descriptor.annotations.insert(key.to_owned(), value),
            None => self.descriptor.annotations.remove(key),
        };
    }

    /// What another tool wrote is kept as it is; a name that is no full reference counts as none.
    fn read(descriptor: Descriptor) -> Self {
        let parse = |key: &str| {
            let text = descriptor.annotations.get(key)?;
            text.parse::<ImageRef>().ok().filter(|reference| reference.to_string() == *text)
        };
        let (reference, source) = (parse(NAME), parse(SOURCE));
        Self { descriptor, reference, source }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Vec<Descriptor>,
}

impl Document {
    fn new(entries: &[Entry]) -> Self {
        Self {
            schema_version: 2,
            media_type: OCI_INDEX.to_owned(),
            manifests: entries.iter().map(|entry| entry.descriptor.clone()).collect(),
        }
    }
}

/// Tells one version of the file from another.
type Version = (u64, i64, u64, i64);

#[derive(Debug, Default)]
struct State {
    version: Option<Version>,
    entries: Arc<Vec<Entry>>,
}

/// All entries.
#[derive(Debug)]
pub struct References {
    path: PathBuf,
    dir: OwnedFd,
    state: Mutex<State>,
}

impl References {
    /// Opens the references of the layout at `root`; a layout without any gets an empty file.
    pub fn open(root: &Path) -> Result<Self, IndexError> {
        let path = root.join(FILE);
        let dir = file::open_dir(root).map_err(|source| IndexError::Io {
            action: "open",
            path: root.to_owned(),
            source,
        })?;
        let references = Self { path, dir, state: Mutex::default() };
        if !references.path.exists() {
            references.change(|_| ())?;
        }
        references.entries()?;
        Ok(references)
    }

    /// All entries as they are now.
    pub fn entries(&self) -> Result<Arc<Vec<Entry>>, IndexError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut state)?;
        Ok(Arc::clone(&state.entries))
    }

    /// Changes the entries; the change is durable when this returns.
    pub fn change<T>(&self, edit: impl FnOnce(&mut Vec<Entry>) -> T) -> Result<T, IndexError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.path.exists() {
            self.refresh(&mut state)?;
        }
        let mut entries = state.entries.as_ref().clone();
        let answer = edit(&mut entries);
        let document = Document::new(&entries);
        let failed = |source| IndexError::Io { action: "write", path: self.path.clone(), source };
        let json = serde_json::to_vec(&document).map_err(|e| failed(e.into()))?;
        if let Err(error) = self.write(&json) {
            self.take_back(&state);
            return Err(failed(error));
        }
        *state = State { version: Some(self.version().map_err(failed)?), entries: Arc::new(entries) };
        Ok(answer)
    }

    /// The file may be replaced already when only the folder could not be synced. What is told to have failed must not
    /// be there after it.
    fn take_back(&self, state: &State) {
        if self.version().ok() == state.version {
            return;
        }
        let before = Document::new(&state.entries);
        let written = serde_json::to_vec(&before).map_err(io::Error::from);
        let written = written.and_then(|json| file::write_atomic(&self.dir, FILE, &json, Durability::Cached));
        if let Err(error) = written {
            tracing::error!(%error, path = %self.path.display(), "a change that failed stays");
        }
    }

    /// Replaces the file. On a full disk a shorter one still finds room, in the reserve: what removes images must not
    /// need the space that it gives back.
    fn write(&self, json: &[u8]) -> io::Result<()> {
        let written = file::write_atomic(&self.dir, FILE, json, Durability::Synced);
        let full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        let shorter = || std::fs::metadata(&self.path).is_ok_and(|about| json.len() as u64 <= about.len());
        match written {
            Err(error) if full(&error) && shorter() => self.write_on_full_disk(json),
            other => {
                other?;
                let bytes = RESERVE_BYTES.max(2 * json.len() as u64);
                if let Err(error) = file::keep_reserve(&self.dir, RESERVE.as_ref(), bytes) {
                    tracing::debug!(%error, "no reserve for the references");
                }
                Ok(())
            }
        }
    }

    fn write_on_full_disk(&self, json: &[u8]) -> io::Result<()> {
        let written = file::write_from_reserve(&self.dir, FILE.as_ref(), RESERVE.as_ref(), json);
        written.or_else(|_| {
            // Where writing over a file needs new blocks as well, giving up the reserve yields some.
            file::remove_file_at(&self.dir, RESERVE.as_ref())?;
            file::write_atomic(&self.dir, FILE, json, Durability::Synced)
        })
    }

    /// Reads the file again if another tool changed it.
    fn refresh(&self, state: &mut State) -> Result<(), IndexError> {
        let failed = |source| IndexError::Io { action: "read", path: self.path.clone(), source };
        let version = self.version().map_err(failed)?;
        if state.version == Some(version) {
            return Ok(());
        }
        let bytes = file::read_bounded(&self.path, BYTES).map_err(failed)?;
        let document: Document = serde_json::from_slice(&bytes)
            .map_err(|source| IndexError::Invalid { path: self.path.clone(), source })?;
        let entries = document.manifests.into_iter().map(Entry::read).collect();
        *state = State { version: Some(version), entries: Arc::new(entries) };
        Ok(())
    }

    fn version(&self) -> io::Result<Version> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::symlink_metadata(&self.path)?;
        Ok((meta.ino(), meta.mtime(), meta.size(), meta.mtime_nsec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest;
    use crate::document::OCI_MANIFEST;

    fn manifest(text: &str) -> Descriptor {
        Descriptor::new(OCI_MANIFEST, digest(text.as_bytes()), 7)
    }

    #[test]
    fn what_failed_after_the_file_was_replaced_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let references = References::open(dir.path()).unwrap();
        let kept = Entry::new(&manifest("kept"), Some("alpine:3".parse().unwrap()), None);
        references.change(|entries| entries.push(kept.clone())).unwrap();
        let other = Entry::new(&manifest("other"), Some("other:1".parse().unwrap()), None);
        let json = serde_json::to_vec(&Document::new(&[kept.clone(), other])).unwrap();
        let state = references.state.lock().unwrap();
        // Nothing was written: there is nothing to take back.
        let before = references.version().unwrap();
        references.take_back(&state);
        assert_eq!(references.version().unwrap(), before);
        references.write(&json).unwrap();
        references.take_back(&state);
        drop(state);
        assert_eq!(*references.entries().unwrap(), [kept]);
    }

    #[test]
    fn entries_outlive_their_writer() {
        let dir = tempfile::tempdir().unwrap();
        let references = References::open(dir.path()).unwrap();
        let name: ImageRef = "alpine:3".parse().unwrap();
        let source = name.with_digest(digest(b"index"));
        let entry = Entry::new(&manifest("a"), Some(name.clone()), Some(source.clone()));
        references.change(|entries| entries.push(entry.clone())).unwrap();
        let again = References::open(dir.path()).unwrap();
        assert_eq!(*again.entries().unwrap(), std::slice::from_ref(&entry));
        assert_eq!(again.entries().unwrap()[0].reference(), Some(&name));
        let unnamed = entry.unnamed();
        assert_eq!((unnamed.reference(), unnamed.source()), (None, Some(&source)));
        again.change(|entries| entries[0] = unnamed.clone()).unwrap();
        assert_eq!(*references.entries().unwrap(), [unnamed], "a change by another is seen");
    }

    #[test]
    fn what_other_tools_wrote_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let foreign = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":7,
                "annotations":{{"{NAME}":"latest","x":"y"}}}}]}}"#,
            digest(b"a")
        );
        std::fs::write(dir.path().join(FILE), foreign).unwrap();
        let references = References::open(dir.path()).unwrap();
        references.change(|_| ()).unwrap();
        let entries = references.entries().unwrap();
        assert_eq!(entries[0].reference(), None);
        assert_eq!(entries[0].descriptor().annotations.len(), 2);
    }

    #[test]
    fn a_file_that_is_no_index_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(matches!(References::open(dir.path()), Err(IndexError::Invalid { .. })));
        assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), b"{");
    }
}
