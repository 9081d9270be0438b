//! Contexts: the folders that people build, as files by digest and a list of what is where.
//!
//! ```text
//! <root>/build/
//!   blobs/<sha256>       content of files, each once
//!   contexts/<sha256>    what a context held when it was sent last: "size modified changed inode mode digest path"
//!   fetched/<sha256>     what was last fetched from an address ([`crate::fetch`])
//!   scratch/             folders that are needed for a moment; whatever is in it at the start is nobody's
//! ```
//!
//! A file whose size, times and number are those of the last time is not sent again. A blob counts only when a list on
//! disk names it, and a list is written after all its blobs were synced: so what a power cut tore is never believed.

mod blob;
mod files;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use davit_proto::build::Entry;
use davit_sys::file::{Durability, Flock, read_bounded, remove_children, sync_file_system, write_atomic};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::error::Error;

pub use blob::Stored;
pub use files::Files;
pub use usage::Kept;

/// Entries that a context may have.
pub const ENTRIES: usize = 1_000_000;
/// Bytes of a list.
const LIST: usize = 512 << 20;

/// How long a folder that another service has is waited for, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// Where contexts are kept.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// Builds read, whoever removes writes.
    uses: Arc<RwLock<()>>,
    /// One service at a time.
    _lock: Flock,
}

/// What a client says of a file, by which it is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: i64,
    changed: i64,
    inode: u64,
}

impl From<&Entry> for Stamp {
    fn from(entry: &Entry) -> Self {
        let Entry { size, modified, changed, inode, .. } = entry;
        Self { size: *size, modified: *modified, changed: *changed, inode: *inode }
    }
}

/// Takes the lock of the folder. A child of an engine that was just killed holds it a moment longer, until it executes
/// its program.
fn lock(folder: &Path) -> Result<Flock, Error> {
    let begun = Instant::now();
    loop {
        let taken = Flock::try_lock(&folder.join("lock"));
        match taken.map_err(Error::io(format!("lock {}", folder.display())))? {
            Some(lock) => return Ok(lock),
            None if begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            None => return Err(Error::Locked(folder.to_owned())),
        }
    }
}

impl Store {
    /// Opens the folder.
    ///
    /// # Errors
    /// It cannot be made, or another service has it.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        for name in ["blobs", "contexts", "fetched", "scratch"] {
            let path = folder.join(name);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(Error::io(format!("make the folder {}", path.display())))?;
        }
        let inner = Inner { folder: folder.to_owned(), uses: Arc::default(), _lock: lock(folder)? };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The folder of all of it.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Opens a file.
    ///
    /// # Errors
    /// It is not here.
    pub fn open_blob(&self, digest: &str) -> io::Result<File> {
        File::open(self.blob(digest))
    }

    /// The path of a blob.
    fn blob(&self, digest: &str) -> PathBuf {
        self.inner.folder.join("blobs").join(digest)
    }

    fn list_path(&self, key: &str) -> PathBuf {
        self.inner.folder.join("contexts").join(hex::encode(Sha256::digest(key.as_bytes())))
    }

    /// Notes in the time of its list that a context was built.
    fn note_use(&self, key: &str) -> Result<(), Error> {
        let path = self.list_path(key);
        let noted =
            File::options().write(true).open(&path).and_then(|list| list.set_modified(SystemTime::now()));
        noted.map_err(Error::io(format!("note the use of {}", path.display())))
    }

    /// Lets nobody read.
    pub async fn alone(&self) -> Alone {
        Arc::clone(&self.inner.uses).write_owned().await
    }

    /// Holds everything as it is, for as long as somebody reads from it.
    pub async fn hold(&self) -> Held {
        Arc::new(Arc::clone(&self.inner.uses).read_owned().await)
    }
}

/// Says that nobody reads from the store.
pub type Alone = OwnedRwLockWriteGuard<()>;
/// Says that somebody reads from the store. A build takes it once: who asked a second time would wait for those who wait
/// to remove.
pub type Held = Arc<OwnedRwLockReadGuard<()>>;

/// A context that is coming in.
#[derive(Debug)]
pub struct Intake {
    held: Held,
    store: Store,
    key: String,
    entries: Vec<Entry>,
    digests: BTreeMap<usize, String>,
    needed: Vec<u32>,
    /// How many of the needed files are here.
    received: usize,
    /// Bytes of content that are here.
    bytes: u64,
    open: Option<(u32, NamedTempFile, Sha256, u64)>,
}

impl Intake {
    /// Begins a context.
    pub fn new(store: &Store, held: Held, key: &str) -> Self {
        Self {
            held,
            store: store.clone(),
            key: key.to_owned(),
            entries: Vec::new(),
            digests: BTreeMap::new(),
            needed: Vec::new(),
            received: 0,
            bytes: 0,
            open: None,
        }
    }

    /// Some of its entries.
    ///
    /// # Errors
    /// There are too many, or one has a name that leads elsewhere.
    pub fn entries(&mut self, entries: Vec<Entry>) -> Result<(), Error> {
        if self.entries.len() + entries.len() > ENTRIES {
            return Err(Error::Invalid(format!("the context has more than {ENTRIES} entries")));
        }
        for entry in &entries {
            let parts = entry.path.split(|byte| *byte == b'/');
            if parts.into_iter().any(|part| part.is_empty() || part == b"." || part == b"..") {
                let path = String::from_utf8_lossy(&entry.path).into_owned();
                return Err(Error::Invalid(format!(
                    "the context has an entry {path:?}, which is no path in it"
                )));
            }
        }
        self.entries.extend(entries);
        Ok(())
    }

    /// All entries are known: tells of which the content is needed.
    ///
    /// # Errors
    /// The list of the last time cannot be read.
    pub fn needed(&mut self) -> Result<Vec<u32>, Error> {
        let known = self.known()?;
        for (number, entry) in self.entries.iter().enumerate().filter(|(_, entry)| files::is_file(entry.mode))
        {
            let before =
                known.get(entry.path.as_ref() as &[u8]).filter(|(stamp, _)| *stamp == Stamp::from(entry));
            match before.filter(|(_, digest)| self.store.blob(digest).is_file()) {
                Some((_, digest)) => drop(self.digests.insert(number, digest.clone())),
                None => self.needed.extend(u32::try_from(number)),
            }
        }
        Ok(self.needed.clone())
    }

    /// What the list of the last time says, by path.
    fn known(&self) -> Result<BTreeMap<Vec<u8>, (Stamp, String)>, Error> {
        if self.key.is_empty() {
            return Ok(BTreeMap::new());
        }
        let path = self.store.list_path(&self.key);
        match read_bounded(&path, LIST) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(Error::io(format!("read {}", path.display()))(error)),
        }
    }

    /// A piece of a file that is needed; pieces come in order.
    ///
    /// # Errors
    /// It was not asked for, is not as long as was said, or the disk fails.
    pub fn content(&mut self, number: u32, chunk: &[u8], last: bool) -> Result<(), Error> {
        let expected = self.needed.get(self.received).copied();
        if expected != Some(number) {
            return Err(Error::Invalid(format!(
                "content of entry {number} came, which was not asked for now"
            )));
        }
        let failed = || Error::io("write a file of the context");
        let blobs = self.store.inner.folder.join("blobs");
        let (_, file, digest, length) = match &mut self.open {
            Some(open) => open,
            slot => {
                let file = NamedTempFile::new_in(&blobs).map_err(failed())?;
                slot.insert((number, file, Sha256::new(), 0))
            }
        };
        file.write_all(chunk).map_err(failed())?;
        digest.update(chunk);
        *length += chunk.len() as u64;
        self.bytes += chunk.len() as u64;
        let size = self.entries.get(number as usize).map_or(0, |entry| entry.size);
        if *length > size || (last && *length < size) {
            let path = self.entries.get(number as usize).map(|entry| entry.path.clone()).unwrap_or_default();
            let path = String::from_utf8_lossy(&path).into_owned();
            return Err(Error::Invalid(format!("{path:?} changed while it was sent")));
        }
        if let Some((_, file, digest, _)) = last.then(|| self.open.take()).flatten() {
            let name = hex::encode(digest.finalize());
            file.persist(self.store.blob(&name)).map_err(|error| failed()(error.error))?;
            self.digests.insert(number as usize, name);
            self.received += 1;
        }
        Ok(())
    }

    /// Bytes of the files that are needed.
    pub fn lacking(&self) -> u64 {
        self.needed.iter().filter_map(|number| self.entries.get(*number as usize)).map(|e| e.size).sum()
    }

    /// Bytes of them that are here.
    pub fn received(&self) -> u64 {
        self.bytes
    }

    /// Whether all content is here.
    pub fn is_whole(&self) -> bool {
        self.received == self.needed.len()
    }

    /// All is here: remembers it for the next time.
    ///
    /// # Errors
    /// The disk fails.
    pub fn finish(self) -> Result<Files, Error> {
        if !self.key.is_empty() && !self.needed.is_empty() || !self.store.list_path(&self.key).exists() {
            self.remember()?;
        } else {
            self.store.note_use(&self.key)?;
        }
        let mut files = Files::new(&self.store, self.entries, &self.digests);
        files.hold(self.held);
        Ok(files)
    }

    fn remember(&self) -> Result<(), Error> {
        let mut text = String::new();
        for (number, digest) in &self.digests {
            let Some(entry) = self.entries.get(*number) else { continue };
            let Entry { size, modified, changed, inode, mode, .. } = entry;
            let path = hex::encode(&entry.path);
            text.push_str(&format!("{size} {modified} {changed} {inode} {mode} {digest} {path}\n"));
        }
        let path = self.store.list_path(&self.key);
        let write = || {
            let folder = File::open(self.store.inner.folder.join("contexts"))?;
            sync_file_system(&folder)?;
            write_atomic(&folder, path.file_name().unwrap_or_default(), text.as_bytes(), Durability::Synced)
        };
        write().map_err(Error::io(format!("write {}", path.display())))
    }
}

fn parse(line: &str) -> Option<(Vec<u8>, (Stamp, String))> {
    let mut fields = line.split(' ');
    let stamp = Stamp {
        size: fields.next()?.parse().ok()?,
        modified: fields.next()?.parse().ok()?,
        changed: fields.next()?.parse().ok()?,
        inode: fields.next()?.parse().ok()?,
    };
    let digest = fields.nth(1)?;
    let named = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let path = hex::decode(fields.next()?).ok()?;
    named.then(|| (path, (stamp, digest.to_owned())))
}

impl Store {
    /// Removes files that no list names.
    ///
    /// # Errors
    /// Something cannot be read or removed.
    pub fn sweep(&self) -> Result<(), Error> {
        // While builds read, what they have may be in no list yet.
        match self.inner.uses.try_write() {
            Ok(_alone) => self.sweep_unnamed().map(drop),
            Err(_) => Ok(()),
        }
    }

    /// Removes files that no list names, and tells their bytes. Only for who is alone.
    fn sweep_unnamed(&self) -> Result<u64, Error> {
        let mut freed = 0;
        let failed = || Error::io("sweep the files of contexts");
        let scratch = File::open(self.scratch()).map_err(failed())?;
        remove_children(&scratch).map_err(failed())?;
        let mut named = BTreeSet::new();
        for entry in fs::read_dir(self.inner.folder.join("contexts")).map_err(failed())? {
            let bytes = read_bounded(&entry.map_err(failed())?.path(), LIST).map_err(failed())?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            named.extend(text.lines().filter_map(parse).map(|(_, (_, digest))| digest));
        }
        named.extend(self.fetched_digests().map_err(failed())?);
        for entry in fs::read_dir(self.inner.folder.join("blobs")).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if entry.file_name().to_str().is_none_or(|name| !named.contains(name)) {
                freed += entry.metadata().map_err(failed())?.len();
                fs::remove_file(entry.path()).map_err(failed())?;
            }
        }
        Ok(freed)
    }
}
