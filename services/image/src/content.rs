//! The content store: bytes by digest, in a folder that is itself a valid OCI image layout.
//!
//! ```text
//! oci-layout              what this folder is
//! blobs/sha256/<hex>      whole and verified, never changed
//! ingest/<hex>.part       bytes on their way, continued by the next who wants them
//! ingest/new-<n>.blob     bytes whose digest is not known yet
//! ```
//!
//! A blob comes into being by one rename, after its size and digest were verified and its bytes synced: killed at any
//! instruction, what is in `blobs` is whole. Two who want the same blob at once: the second waits for the first.

mod fresh;
mod ingest;
mod turn;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use davit_proto::id::Digest;
use davit_sys::file::{self, Durability, OFlags};

pub use fresh::Fresh;
pub use ingest::{BlobWriter, Ingest};
pub use turn::{Turn, Turns};

use crate::digest::{Hasher, digest};

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Why content cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The file system refused.
    #[error("{action} {subject}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        subject: String,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The blob is not here.
    #[error("blob {0} is not in the content store")]
    Missing(Digest),
    /// The bytes are not those that the digest names.
    #[error("content has digest {actual}, wanted {expected}")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// There are more or fewer bytes than announced.
    #[error("content of {digest} has {actual} bytes, wanted {expected}")]
    WrongSize {
        /// Which content.
        digest: Digest,
        /// What was announced.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// The blob is larger than its kind may be.
    #[error("blob {digest} is larger than {limit} bytes")]
    Large {
        /// Which blob.
        digest: Digest,
        /// The limit.
        limit: usize,
    },
}

impl ContentError {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    pub(crate) fn io(action: &'static str, subject: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let subject = subject.to_string();
        move |source| Self::Io { action, subject, source }
    }
}

/// The folders of the store, open.
#[derive(Debug)]
struct Folders {
    root: PathBuf,
    blobs: OwnedFd,
    ingest: OwnedFd,
}

/// Bytes by digest.
#[derive(Debug, Clone)]
pub struct Content {
    folders: Arc<Folders>,
    turns: Turns,
}

impl Content {
    /// Opens the store at `root`, making what is missing.
    pub fn open(root: &Path) -> Result<Self, ContentError> {
        let failed = |e| ContentError::io("open the content store", root.display())(e);
        let open = |name: &str| {
            let path = root.join(name);
            make_dirs(&path)?;
            file::open_dir(&path)
        };
        let folders = Folders {
            root: root.to_owned(),
            blobs: open("blobs/sha256").map_err(failed)?,
            ingest: open("ingest").map_err(failed)?,
        };
        if !root.join("oci-layout").exists() {
            let dir = file::open_dir(root).map_err(failed)?;
            file::write_atomic(&dir, "oci-layout", LAYOUT.as_bytes(), Durability::Synced).map_err(failed)?;
        }
        Ok(Self { folders: Arc::new(folders), turns: Turns::default() })
    }

    /// Where a blob lies, or would lie.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folders.root.join("blobs/sha256").join(digest.hex())
    }

    /// The folder of the whole layout.
    pub(crate) fn root(&self) -> &Path {
        &self.folders.root
    }

    /// Bytes of disk of a blob; none when it is not here.
    pub fn disk(&self, digest: &Digest) -> Result<u64, ContentError> {
        match file::stat_at(&self.folders.blobs, digest.hex().as_ref()) {
            Ok(stat) => Ok(file::disk_of(&stat)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(ContentError::io("look for blob", digest)(e)),
        }
    }

    /// The folder for what is on its way.
    #[must_use]
    pub fn ingest_path(&self) -> PathBuf {
        self.folders.root.join("ingest")
    }

    /// The size of a blob, or `None` when it is not here.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, ContentError> {
        match file::stat_at(&self.folders.blobs, digest.hex().as_ref()) {
            Ok(stat) => Ok(Some(u64::try_from(stat.st_size).unwrap_or_default())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ContentError::io("look for blob", digest)(e)),
        }
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, ContentError> {
        match file::open_at(&self.folders.blobs, digest.hex().as_ref(), OFlags::RDONLY, 0) {
            Ok(fd) => Ok(fd.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(ContentError::Missing(digest.clone())),
            Err(e) => Err(ContentError::io("open blob", digest)(e)),
        }
    }

    /// The bytes of a blob of at most `limit` bytes, verified.
    pub fn read(&self, wanted: &Digest, limit: usize) -> Result<Vec<u8>, ContentError> {
        let file = self.open_blob(wanted)?;
        let bytes = file::read_bounded_file(&file, limit).map_err(|e| match e.kind() {
            io::ErrorKind::FileTooLarge => ContentError::Large { digest: wanted.clone(), limit },
            _ => ContentError::io("read blob", wanted)(e),
        })?;
        let actual = digest(&bytes);
        if actual != *wanted {
            return Err(ContentError::WrongDigest { expected: wanted.clone(), actual });
        }
        Ok(bytes)
    }

    /// Whether a blob is no longer what its name says.
    pub fn is_damaged(&self, digest: &Digest) -> Result<bool, ContentError> {
        let mut file = self.open_blob(digest)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer).map_err(ContentError::io("read blob", digest))? {
                0 => return Ok(hasher.finish() != *digest),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    /// Keeps a document that is in memory already, and tells its digest.
    pub fn write(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let digest = digest(bytes);
        if self.size(&digest)? != Some(bytes.len() as u64) {
            file::write_atomic(&self.folders.blobs, digest.hex(), bytes, Durability::Synced)
                .map_err(ContentError::io("write blob", &digest))?;
        }
        Ok(digest)
    }

    /// Starts or continues to take in a blob; `None` when it is here, whole. Waits while another takes it in.
    pub async fn ingest(&self, digest: &Digest, size: u64) -> Result<Option<Ingest>, ContentError> {
        let turn = self.turns.take(digest).await;
        self.begin(turn, digest, size)
    }

    /// As [`Content::ingest`], for a thread that may block.
    pub fn ingest_blocking(&self, digest: &Digest, size: u64) -> Result<Option<Ingest>, ContentError> {
        let turn = self.turns.take_blocking(digest);
        self.begin(turn, digest, size)
    }

    fn begin(&self, turn: Turn, digest: &Digest, size: u64) -> Result<Option<Ingest>, ContentError> {
        match self.size(digest)? {
            Some(actual) if actual == size => Ok(None),
            // A blob is verified before it has its name, so the descriptor is wrong.
            Some(actual) => Err(ContentError::WrongSize { digest: digest.clone(), expected: size, actual }),
            None => Ingest::open(Arc::clone(&self.folders), turn, digest, size).map(Some),
        }
    }

    /// A blob whose digest its bytes will tell.
    pub fn fresh(&self) -> Result<Fresh, ContentError> {
        Fresh::create(Arc::clone(&self.folders))
    }

    /// Removes a blob; one that is not here is no error.
    pub fn remove(&self, digest: &Digest) -> Result<(), ContentError> {
        remove_file(&self.folders.blobs, digest.hex()).map_err(ContentError::io("remove blob", digest))
    }

    /// All blobs, with the time each became whole.
    pub fn list(&self) -> Result<Vec<(Digest, SystemTime)>, ContentError> {
        let path = self.folders.root.join("blobs/sha256");
        list(&path).map_err(ContentError::io("list", path.display()))
    }

    /// Removes a blob, and tells the bytes of disk that came free; of one that is not here none.
    pub fn free(&self, digest: &Digest) -> Result<u64, ContentError> {
        let bytes = self.disk(digest)?;
        self.remove(digest)?;
        Ok(bytes)
    }

    /// Notes that a blob was used now, where it costs nothing more: in its own time stamp.
    pub fn touch(&self, digest: &Digest) -> Result<(), ContentError> {
        match file::set_times_at(&self.folders.blobs, digest.hex().as_ref(), file::Times::now()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(ContentError::io("note the use of blob", digest)(e))
            }
            _ => Ok(()),
        }
    }

    /// When a blob was used last, or became whole; `None` when it is not here.
    pub fn used_at(&self, digest: &Digest) -> Result<Option<SystemTime>, ContentError> {
        match std::fs::symlink_metadata(self.path(digest)).and_then(|about| about.modified()) {
            Ok(at) => Ok(Some(at)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ContentError::io("look for blob", digest)(e)),
        }
    }

    /// Removes partial downloads that nobody continues now nor did since `before`. Tells how many, and the bytes of disk
    /// that came free.
    pub fn sweep_partial(&self, before: SystemTime) -> Result<(u64, u64), ContentError> {
        let failed = |e| ContentError::io("sweep", self.ingest_path().display())(e);
        let (mut count, mut bytes) = (0, 0);
        for entry in std::fs::read_dir(self.ingest_path()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let hex = name.to_str().and_then(|name| name.strip_suffix(".part"));
            let Some(digest) = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()) else {
                continue;
            };
            let Some(_turn) = self.turns.try_take(&digest) else { continue };
            let about = match entry.metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            if about.modified().map_err(failed)? < before {
                self.remove_partial(&digest).map_err(failed)?;
                count += 1;
                bytes += std::os::unix::fs::MetadataExt::blocks(&about) * 512;
            }
        }
        Ok((count, bytes))
    }

    fn remove_partial(&self, digest: &Digest) -> io::Result<()> {
        remove_file(&self.folders.ingest, &format!("{}.part", digest.hex()))
    }

    /// Removes partial downloads that nobody continued since `before`, and what was being written when we died. To be
    /// called before anything is taken in.
    pub fn sweep(&self, before: SystemTime) -> Result<(), ContentError> {
        let failed = |e| ContentError::io("sweep", self.ingest_path().display())(e);
        self.sweep_partial(before)?;
        for entry in std::fs::read_dir(self.ingest_path()).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if fresh::is_left(&name) {
                remove_file(&self.folders.ingest, &name).map_err(failed)?;
            }
        }
        sweep_temporary(&self.folders.root.join("blobs/sha256")).map_err(failed)?;
        sweep_temporary(&self.folders.root).map_err(failed)
    }
}

fn remove_file(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match file::remove_file_at(dir, name.as_ref()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Folders of the engine are its own user's only.
pub(crate) fn make_dirs(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes the names under which files were being written when a process ended.
pub(crate) fn sweep_temporary(path: &Path) -> io::Result<()> {
    let dir = file::open_dir(path)?;
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && name.ends_with(".tmp") {
            remove_file(&dir, &name)?;
        }
    }
    Ok(())
}

/// The digests that name the entries of a folder, with the time each was last changed; other names are passed over.
pub(crate) fn list(path: &Path) -> io::Result<Vec<(Digest, SystemTime)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let named: OsString = entry.file_name();
        let Some(digest) = named.to_str().and_then(|name| format!("sha256:{name}").parse().ok()) else {
            continue;
        };
        match entry.metadata() {
            Ok(meta) => found.push((digest, meta.modified()?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
