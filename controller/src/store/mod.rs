//! What is wanted: every container's record, the names, the request keys and the log of changes.
//!
//! The truth lies in three places, each with its own job. The *index* in memory answers every read and decides
//! every conflict, under one lock that is never held across an await. *sled* below it is the index's copy on disk,
//! written by transactions of object and event together. The *files* in the bundles are the ground: a copy that
//! will not open, or that stops taking writes, is replaced from them.
//!
//! ```text
//! container/<id><n>     part n of a davit.store.v1.ContainerRecord; parts of 48 KiB, because sled moves larger
//!                       values into files that it never syncs
//! name/<name>           id of the container that has it
//! request/<key>         davit.store.v1.RequestRecord
//! event/<revision>      davit.system.v1.Event, the last 10,000
//! why/<id><revision>    davit.container.v1.WhyEntry, the last 100 of a container
//! gone/<revision>       davit.store.v1.GoneRecord, the last 200 containers that were removed
//! meta/schema           version of this layout
//! meta/revision         last revision given
//! meta/floor            highest revision whose event is no longer kept
//! ```
//!
//! (Update this picture when the structure changes.)
//!
//! A *revision* is `generation << 40 | n`. The generation is a file of its own, raised and synced at every start, so
//! that revisions only ever grow, whatever a crash took from the database.
//!
//! A change is in the index at once, in the database's file a moment later. Nothing is told to watchers before it is in
//! the file ([`Store::written`]): what a killed engine forgets was never heard of, and is found again and told once.

mod disk;
mod flush;
mod index;
pub(crate) mod record;
mod why;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use davit_proto::container::Phase;
use davit_proto::id::ContainerId;
use davit_proto::reason;
use davit_proto::status::{Classify, ErrorKind};
use davit_proto::store::{ContainerRecord, RequestRecord};
use davit_proto::system::Event;
use davit_proto::time::timestamp;
use tokio::sync::{broadcast, watch};

pub use disk::OpenError;
pub use index::{Adopted, Conflict, Draft, Unresolved};
pub use record::VERSION;
pub use why::{Note, Past};

use disk::{Batch, Disk};
use flush::Flusher;
use index::{EVENTS, Index};

/// Events that a slow watcher may lag behind before it is told to begin again.
const FEED: usize = 4096;

/// A record as it is now and after every change.
pub type Watched = watch::Receiver<Seen>;

/// Events as they come.
pub type Feed = broadcast::Receiver<Arc<Event>>;

/// What a watcher of a record sees.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The record; the last one when it was removed.
    pub record: Arc<ContainerRecord>,
    /// It is no longer in the store, and nothing more will come.
    pub removed: bool,
}

impl Seen {
    fn present(record: Arc<ContainerRecord>) -> Self {
        Self { record, removed: false }
    }
}

/// The store. Cheap to share; every method may be called from any task.
#[derive(Debug)]
pub struct Store {
    index: Mutex<Index>,
    disk: Disk,
    flusher: Flusher,
    feed: broadcast::Sender<Arc<Event>>,
}

/// All records at one revision.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The records, in the order of their ids.
    pub records: Vec<Arc<ContainerRecord>>,
    /// The revision that they are true at.
    pub revision: u64,
}

/// What [`Store::insert`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// The record is in, at this revision.
    New(u64),
    /// The same request was made before, and led to this container.
    Repeated(ContainerId),
}

/// How an open went.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Set when the database was new or had to be set aside: one sentence for a person.
    pub rebuilt: Option<String>,
}

impl Store {
    /// Opens the database in `<root>/store`, or sets it aside and begins a new one, and raises the generation.
    ///
    /// # Errors
    /// When the file system refuses even a new database.
    pub fn open(root: &Path) -> Result<Opened, OpenError> {
        let (disk, content, rebuilt) = disk::open(root)?;
        let generation = disk::raise_generation(root, content.revision)?;
        let index = Index::new(content, generation);
        let flusher = disk.flusher(index.revision())?;
        let (feed, _) = broadcast::channel(FEED);
        Ok(Opened { store: Self { index: Mutex::new(index), disk, flusher, feed }, rebuilt })
    }

    /// Adds a new container. Name and request key are taken in the same step.
    ///
    /// # Errors
    /// When the name is taken, the key was used for another request, or the record is too large.
    pub fn insert(&self, record: ContainerRecord) -> Result<Inserted, Conflict> {
        record::check_size(&record)?;
        let mut index = self.lock();
        if let Some(id) = index.check_insert(&record)? {
            return Ok(Inserted::Repeated(id));
        }
        let (revision, batch) = index.insert(record, SystemTime::now());
        self.apply(&mut index, batch);
        Ok(Inserted::New(revision))
    }

    /// Changes a container's record. `change` edits it under the lock and says what happened; when it returns `None`
    /// nothing is changed. The answer is the record as it is now, or `None` when there is no such container.
    pub fn update(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut ContainerRecord) -> Option<Change>,
    ) -> Option<Arc<ContainerRecord>> {
        let mut index = self.lock();
        let present = index.get(id)?;
        let mut record = ContainerRecord::clone(&present);
        let Some(change) = change(&mut record) else { return Some(present) };
        let (record, batch) = index.replace(record, change, SystemTime::now());
        self.apply(&mut index, batch);
        Some(record)
    }

    /// Gives a container another name; nothing happens when it has it. `cause` is who asked for it.
    ///
    /// # Errors
    /// When the name is taken, or the container is gone.
    pub fn rename(
        &self,
        id: &ContainerId,
        name: &str,
        cause: &str,
    ) -> Result<Arc<ContainerRecord>, Conflict> {
        let mut index = self.lock();
        let (record, batch) = index.rename(id, name, cause, SystemTime::now())?;
        if let Some(batch) = batch {
            self.apply(&mut index, batch);
        }
        Ok(record)
    }

    /// Takes a record that a bundle kept, when it is newer than what is known; `None` when it is not. `told` is what the
    /// world has not heard of it.
    pub fn adopt(&self, record: ContainerRecord, told: Change) -> Option<Adopted> {
        let mut index = self.lock();
        let (adopted, batch) = index.adopt(record, told, SystemTime::now())?;
        self.apply(&mut index, batch);
        Some(adopted)
    }

    /// Drops a container's record. `told` is what the world hears of it; a half-made container goes without a word.
    pub fn remove(&self, id: &ContainerId, told: Option<Change>) -> Option<u64> {
        let mut index = self.lock();
        let (revision, batch) = index.remove(id, told, SystemTime::now())?;
        self.apply(&mut index, batch);
        Some(revision)
    }

    /// Records a fact of another kind of object: an image was pulled, a volume removed.
    pub fn note(&self, draft: Draft) -> u64 {
        let mut index = self.lock();
        let (revision, batch) = index.note(draft, SystemTime::now());
        self.apply(&mut index, batch);
        revision
    }

    /// Waits until everything written so far survives a power cut. Callers that come together share one sync.
    ///
    /// # Errors
    /// When the disk refuses. The bundles' files, which are the ground, may still be durable.
    pub async fn sync(&self) -> Result<(), SyncError> {
        self.flusher.sync().await
    }

    /// Waits until a change survives the death of this process, though not yet a power cut: a fraction of a
    /// millisecond. A database that takes no more writes is not waited for.
    pub async fn written(&self, revision: u64) {
        self.flusher.written(revision).await;
    }

    /// What happened to a container, also to one that was removed a while ago: by id, name, or unique prefix of an id.
    ///
    /// # Errors
    /// When nobody remembers it, or several ids begin so.
    pub fn why(&self, text: &str) -> Result<Past, Unresolved> {
        self.lock().why(text)
    }

    /// One container's record.
    #[must_use]
    pub fn get(&self, id: &ContainerId) -> Option<Arc<ContainerRecord>> {
        self.lock().get(id)
    }

    /// A container's record now and after every change; `None` when there is no such container.
    #[must_use]
    pub fn watch(&self, id: &ContainerId) -> Option<Watched> {
        self.lock().watch(id)
    }

    /// All records.
    #[must_use]
    pub fn all(&self) -> Listing {
        let index = self.lock();
        Listing { records: index.all(), revision: index.revision() }
    }

    /// The container that a person means: by full id, name, or unique prefix of an id.
    ///
    /// # Errors
    /// When there is none, or several ids begin so.
    pub fn resolve(&self, text: &str) -> Result<ContainerId, Unresolved> {
        self.lock().resolve(text)
    }

    /// Whether a container has this name.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.lock().has_name(name)
    }

    /// What a request key led to.
    #[must_use]
    pub fn request(&self, key: &str) -> Option<RequestRecord> {
        self.lock().request(key)
    }

    /// The last revision given.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.lock().revision()
    }

    /// The oldest revision whose changes are all kept.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.lock().oldest()
    }

    /// The events after a revision, oldest first, and a feed of those that follow without a gap.
    ///
    /// # Errors
    /// When events after that revision are no longer kept, or the revision was never given.
    pub fn events(&self, after: u64) -> Result<(Vec<Arc<Event>>, Feed), TooOld> {
        let index = self.lock();
        let past = index.events(after)?;
        Ok((past, self.feed.subscribe()))
    }

    /// Why the database no longer takes writes, when it does not.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.flusher.failure()
    }

    /// Writes to the database and tells the watchers, in the order of revisions because the lock is held. A database
    /// that fails does not fail the change: the bundles are the ground, and the next start rebuilds from them.
    fn apply(&self, index: &mut Index, batch: Batch) {
        if self.flusher.failure().is_none()
            && let Err(error) = self.disk.apply(&batch)
        {
            self.flusher.fail(&error);
        }
        self.flusher.nudge(index.revision());
        for event in batch.events {
            // Nobody listening is no error.
            let _ = self.feed.send(event);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // A panic elsewhere must not take the engine with it; the index is changed only by whole assignments.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an update did.
#[derive(Debug, Default)]
pub struct Change {
    /// What the world is told, in order; nothing for what only the engine cares about.
    pub events: Vec<Draft>,
    /// What `why` tells of it.
    pub why: Option<Note>,
    /// When it happened; now, when it is not said.
    pub at: Option<prost_types::Timestamp>,
}

impl Change {
    /// A change that nobody is told of.
    #[must_use]
    pub fn silent() -> Option<Self> {
        Some(Self::default())
    }

    /// A change that is an event.
    #[must_use]
    pub fn told(event: Draft) -> Option<Self> {
        Some(Self { events: vec![event], ..Self::default() })
    }

    /// The same, with what `why` tells of it.
    #[must_use]
    pub fn explained(self, change: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { why: Some(Note { change: change.into(), cause: cause.into() }), ..self }
    }
}

/// A revision that no complete answer can be given from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the changes after revision {asked} are not known: the last {EVENTS} are kept, from revision {oldest} to {newest}; \
     list, then watch from the revision of the list"
)]
pub struct TooOld {
    /// What was asked for.
    pub asked: u64,
    /// The oldest that would do.
    pub oldest: u64,
    /// The newest that would do.
    pub newest: u64,
}

impl Classify for TooOld {
    fn kind(&self) -> ErrorKind {
        ErrorKind::OutOfRange
    }
    fn reason(&self) -> &str {
        "REVISION_OUT_OF_RANGE"
    }
    fn values(&self) -> Vec<(&'static str, String)> {
        vec![("revision", self.asked.to_string())]
    }
}

/// The database could not be made durable.
#[derive(Debug, Clone, thiserror::Error)]
#[error("make the store durable: {0}")]
pub struct SyncError(pub(crate) String);

impl Classify for SyncError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ResourceExhausted
    }
    fn reason(&self) -> &str {
        "STORE_FAILED"
    }
}

impl Classify for Conflict {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NameTaken { .. } => ErrorKind::AlreadyExists,
            Self::KeyReused { .. } | Self::TooLarge { .. } => ErrorKind::InvalidArgument,
            Self::Gone { .. } => ErrorKind::NotFound,
        }
    }
    fn reason(&self) -> &str {
        match self {
            Self::NameTaken { .. } => reason::NAME_TAKEN,
            Self::KeyReused { .. } => reason::REQUEST_KEY_REUSED,
            Self::TooLarge { .. } => "RECORD_TOO_LARGE",
            Self::Gone { .. } => reason::CONTAINER_NOT_FOUND,
        }
    }
    fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::NameTaken { name, holder } => {
                vec![("name", name.clone()), ("container", holder.to_string())]
            }
            Self::KeyReused { key, .. } => vec![("request_key", key.clone())],
            Self::TooLarge { size, .. } => vec![("size", size.to_string())],
            Self::Gone { container } => vec![("container", container.to_string())],
        }
    }
}

impl Classify for Unresolved {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Ambiguous(_) => ErrorKind::InvalidArgument,
        }
    }
    fn reason(&self) -> &str {
        match self {
            Self::NotFound(_) => reason::CONTAINER_NOT_FOUND,
            Self::Ambiguous(_) => reason::CONTAINER_AMBIGUOUS,
        }
    }
    fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::NotFound(text) | Self::Ambiguous(text) => vec![("container", text.clone())],
        }
    }
}

/// The phase that a record holds.
#[must_use]
pub fn phase(record: &ContainerRecord) -> Phase {
    let status = record.container.as_ref().and_then(|container| container.status.as_ref());
    status.map_or(Phase::Unspecified, |status| status.phase())
}

/// The id of a record; the store takes none without a valid one.
///
/// # Errors
/// When it has none.
pub fn record_id(record: &ContainerRecord) -> Result<ContainerId, davit_proto::id::InvalidId> {
    record.container.as_ref().map_or("", |container| container.id.as_str()).parse()
}

/// Now, as records say it.
#[must_use]
pub fn now() -> prost_types::Timestamp {
    timestamp(SystemTime::now())
}

#[cfg(test)]
mod tests;
