//! sled, and nothing of it anywhere else: open or set aside, one transaction a change, the generation file.

#![expect(clippy::disallowed_methods, reason = "home of sled")]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use davit_proto::container::WhyEntry;
use davit_proto::id::ContainerId;
use davit_proto::store::{ContainerRecord, GoneRecord, RequestRecord};
use davit_proto::system::Event;
use davit_sys::file::{Durability, open_dir, read_bounded, sync_dir, write_atomic};
use prost::Message as _;
use sled::transaction::{TransactionError, TransactionResult, Transactional as _};

use super::flush::Flusher;
use super::record;

/// Memory that sled may use for pages.
const CACHE: u64 = 16 << 20;
/// Version of the layout that `mod.rs` draws.
const SCHEMA: u32 = 1;
/// sled's file never shrinks: beyond this size, and so many times what is in it, it is written anew.
const LARGE: u64 = 64 << 20;
const WASTE: u64 = 4;
/// How long a database that another holds is asked for.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(10);
/// A generation has 24 bits.
const LAST_GENERATION: u64 = (1 << 24) - 1;

/// Why there can be no store at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refuses.
    #[error("{doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the store {path} is in use by another process")]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// Even a new database does not open.
    #[error("open a new store in {path}: {why}")]
    Fresh {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The generation file says something impossible.
    #[error("generation file {path} holds {content:?}, which is no generation")]
    Generation {
        /// The file.
        path: PathBuf,
        /// What it holds.
        content: String,
    },
}

/// One change, ready to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) revision: u64,
    pub(super) floor: u64,
    pub(super) put: Vec<Arc<ContainerRecord>>,
    pub(super) removed: Option<ContainerId>,
    pub(super) names: Vec<(String, Option<ContainerId>)>,
    pub(super) requests: Vec<(String, Option<RequestRecord>)>,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) forgotten: Vec<u64>,
    /// Entries of pasts by container and revision, added or dropped.
    pub(super) why: Vec<(String, u64, Option<WhyEntry>)>,
    /// Containers that were removed, by revision, added or forgotten.
    pub(super) gone: Vec<(u64, Option<GoneRecord>)>,
}

/// All that a database held.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) records: Vec<ContainerRecord>,
    pub(super) requests: HashMap<String, RequestRecord>,
    pub(super) events: Vec<Event>,
    pub(super) why: Vec<(String, u64, WhyEntry)>,
    pub(super) gone: Vec<(u64, GoneRecord)>,
    pub(super) revision: u64,
    pub(super) floor: u64,
}

#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    db: sled::Db,
    container: sled::Tree,
    name: sled::Tree,
    request: sled::Tree,
    event: sled::Tree,
    meta: sled::Tree,
    why: sled::Tree,
    gone: sled::Tree,
}

fn is_busy(why: &str) -> bool {
    why.contains("could not acquire lock")
}

fn is_full(why: &str) -> bool {
    let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
    why.contains(&full.to_string())
}

/// A child that was cloned and has not executed its program yet holds the lock of the one before a moment longer than
/// that one lived.
fn attempt_patiently(path: &Path) -> Result<(Disk, Content), String> {
    let begun = Instant::now();
    loop {
        match attempt(path) {
            Err(why) if is_busy(&why) && begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            answer => return answer,
        }
    }
}

/// Opens the database below `root`; one that will not open or cannot be read is set aside.
pub(super) fn open(root: &Path) -> Result<(Disk, Content, Option<String>), OpenError> {
    let path = root.join("store");
    let old = path.with_extension("old");
    remove_folder(&old).map_err(|source| OpenError::Io { doing: "remove", path: old, source })?;
    let existed = path.join("db").exists();
    let why = match attempt_patiently(&path) {
        Ok((disk, content)) => {
            let fresh = (!existed).then(|| "the store was made new".to_owned());
            let disk = if content.is_dwarfed_by(disk.size()) { shrink(disk, &content)? } else { disk };
            return Ok((disk, content, fresh));
        }
        Err(why) if is_busy(&why) => return Err(OpenError::Busy { path }),
        // Nothing is wrong with it, and a new one would find no room either.
        Err(why) if is_full(&why) => {
            let source = io::Error::new(io::ErrorKind::StorageFull, why);
            return Err(OpenError::Io { doing: "open the store", path, source });
        }
        Err(why) => why,
    };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let aside = (0..)
        .map(|n| {
            root.join(if n == 0 {
                format!("store.bad-{seconds}")
            } else {
                format!("store.bad-{seconds}.{n}")
            })
        })
        .find(|candidate| !candidate.exists())
        .expect("the numbers do not end");
    std::fs::rename(&path, &aside).map_err(|source| OpenError::Io {
        doing: "set aside the store",
        path: path.clone(),
        source,
    })?;
    let (disk, content) =
        attempt_patiently(&path).map_err(|why| OpenError::Fresh { path: path.clone(), why })?;
    let told = format!("the store could not be read ({why}) and was set aside as {}", aside.display());
    Ok((disk, content, Some(told)))
}

/// Writes a database anew. Should that be cut off, the next start finds none and rebuilds it from the bundles.
pub(super) fn shrink(large: Disk, content: &Content) -> Result<Disk, OpenError> {
    let (path, old) = (large.path.clone(), large.path.with_extension("old"));
    drop(large);
    let failed = |doing, at: &Path, source| OpenError::Io { doing, path: at.to_owned(), source };
    remove_folder(&old).map_err(|source| failed("remove", &old, source))?;
    std::fs::rename(&path, &old).map_err(|source| failed("set aside", &path, source))?;
    let fill = || -> Result<Disk, String> {
        let disk = Disk::open(&path).map_err(text)?;
        content.batches().iter().try_for_each(|batch| disk.apply(batch))?;
        disk.db.flush().map_err(text)?;
        File::open(path.join("db")).and_then(|file| file.sync_all()).map_err(text)?;
        Ok(disk)
    };
    let disk = fill().map_err(|why| OpenError::Fresh { path: path.clone(), why })?;
    remove_folder(&old).map_err(|source| failed("remove", &old, source))?;
    Ok(disk)
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Content {
    fn is_dwarfed_by(&self, size: u64) -> bool {
        let records: usize = self.records.iter().map(prost::Message::encoded_len).sum();
        let events: usize = self.events.iter().map(prost::Message::encoded_len).sum();
        let live = u64::try_from(records + events).unwrap_or(u64::MAX);
        size > LARGE && size / WASTE > live
    }

    /// Everything again as changes, each at the revision it had.
    fn batches(&self) -> Vec<Batch> {
        let at = |revision| Batch { revision, floor: self.floor, ..Batch::default() };
        let mut batches: Vec<Batch> = Vec::new();
        for record in &self.records {
            let Some(container) = &record.container else { continue };
            let names = vec![(container.name.clone(), container.id.parse().ok())];
            let put = vec![Arc::new(record.clone())];
            batches.push(Batch { put, names, ..at(self.revision) });
        }
        for event in &self.events {
            batches.push(Batch { events: vec![Arc::new(event.clone())], ..at(self.revision) });
        }
        for (id, revision, entry) in &self.why {
            let why = vec![(id.clone(), *revision, Some(entry.clone()))];
            batches.push(Batch { why, ..at(self.revision) });
        }
        for (revision, gone) in &self.gone {
            batches.push(Batch { gone: vec![(*revision, Some(gone.clone()))], ..at(self.revision) });
        }
        let requests = self.requests.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        batches.push(Batch { requests, ..at(self.revision) });
        batches
    }
}

/// sled panics on some kinds of damage, so it is opened and read to the end where that is an answer.
fn attempt(path: &Path) -> Result<(Disk, Content), String> {
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<_, String> {
        let disk = Disk::open(path).map_err(|error| error.to_string())?;
        let content = disk.content()?;
        Ok((disk, content))
    }));
    opened.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("sled panicked").to_owned())
    })
}

impl Disk {
    fn open(path: &Path) -> sled::Result<Self> {
        let existed = path.join("db").exists();
        let db = sled::Config::default()
            .path(path)
            .cache_capacity(CACHE)
            // Our own writer flushes; sled's timer would do it a second time.
            .flush_every_ms(None)
            .open()?;
        let tree = |name| db.open_tree(name);
        let disk = Self {
            path: path.to_owned(),
            container: tree("container")?,
            name: tree("name")?,
            request: tree("request")?,
            event: tree("event")?,
            meta: tree("meta")?,
            why: tree("why")?,
            gone: tree("gone")?,
            db,
        };
        if !existed {
            disk.meta.insert("schema", &SCHEMA.to_be_bytes())?;
            disk.db.flush()?;
            File::open(path.join("db"))?.sync_all()?;
            for folder in [Some(path), path.parent()].into_iter().flatten() {
                sync_dir(open_dir(folder)?)?;
            }
        }
        Ok(disk)
    }

    fn size(&self) -> u64 {
        std::fs::metadata(self.path.join("db")).map_or(0, |about| about.len())
    }

    pub(super) fn flusher(&self, revision: u64) -> Result<Flusher, OpenError> {
        let path = self.path.join("db");
        let failed = |doing, source| OpenError::Io { doing, path: path.clone(), source };
        // To write, because blocks ahead of its end are set aside through it.
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(|source| failed("open the database file", source))?;
        Flusher::start(self.db.clone(), file, revision)
            .map_err(|source| failed("start the writer of", source))
    }

    fn content(&self) -> Result<Content, String> {
        let failed = |error: sled::Error| error.to_string();
        match self.meta.get("schema").map_err(failed)?.map(|v| number(&v)) {
            Some(Some(1)) => {}
            other => return Err(format!("layout version {other:?} is not known")),
        }
        let meta = |key| -> Result<u64, String> {
            Ok(self.meta.get(key).map_err(failed)?.and_then(|value| number(&value)).unwrap_or(0))
        };
        let mut content =
            Content { revision: meta("revision")?, floor: meta("floor")?, ..Content::default() };
        let mut bytes: Vec<u8> = Vec::new();
        let mut current: Option<Vec<u8>> = None;
        for entry in &self.container {
            let (key, value) = entry.map_err(failed)?;
            let id = key.get(..64).ok_or("a container's key is too short")?.to_vec();
            if current.as_ref().is_some_and(|before| *before != id) {
                content.records.push(record::decode(&std::mem::take(&mut bytes)).map_err(text)?);
            }
            bytes.extend_from_slice(&value);
            current = Some(id);
        }
        if current.is_some() {
            content.records.push(record::decode(&bytes).map_err(text)?);
        }
        for entry in &self.request {
            let (key, value) = entry.map_err(failed)?;
            let key = String::from_utf8(key.to_vec()).map_err(text)?;
            content.requests.insert(key, RequestRecord::decode(&*value).map_err(text)?);
        }
        for entry in &self.event {
            let (_, value) = entry.map_err(failed)?;
            content.events.push(Event::decode(&*value).map_err(text)?);
        }
        self.pasts(&mut content)?;
        Ok(content)
    }

    fn pasts(&self, content: &mut Content) -> Result<(), String> {
        for entry in &self.why {
            let (key, value) = entry.map_err(text)?;
            let (id, revision) = key.split_at_checked(64).ok_or("a key of a past is too short")?;
            let id = String::from_utf8(id.to_vec()).map_err(text)?;
            let revision = number(revision).ok_or("a key of a past has no revision")?;
            content.why.push((id, revision, WhyEntry::decode(&*value).map_err(text)?));
        }
        for entry in &self.gone {
            let (key, value) = entry.map_err(text)?;
            let revision = number(&key).ok_or("a removed container has no revision")?;
            content.gone.push((revision, GoneRecord::decode(&*value).map_err(text)?));
        }
        Ok(())
    }

    /// Writes a change as one transaction, into sled's buffers.
    pub(super) fn apply(&self, batch: &Batch) -> Result<(), String> {
        let trees =
            (&self.container, &self.name, &self.request, &self.event, &self.meta, &self.why, &self.gone);
        let parts = self.part_changes(batch);
        let written: TransactionResult<()> =
            trees.transaction(|(container, name, request, event, meta, why, gone)| {
                for (key, bytes) in &parts {
                    match bytes {
                        Some(bytes) => container.insert(key.as_slice(), bytes.as_slice())?,
                        None => container.remove(key.as_slice())?,
                    };
                }
                for (key, id) in &batch.names {
                    match id {
                        Some(id) => name.insert(key.as_bytes(), id.as_str())?,
                        None => name.remove(key.as_bytes())?,
                    };
                }
                for (key, value) in &batch.requests {
                    match value {
                        Some(value) => request.insert(key.as_bytes(), value.encode_to_vec())?,
                        None => request.remove(key.as_bytes())?,
                    };
                }
                for told in &batch.events {
                    event.insert(&told.revision.to_be_bytes(), told.encode_to_vec())?;
                }
                for revision in &batch.forgotten {
                    event.remove(&revision.to_be_bytes())?;
                }
                for (id, revision, entry) in &batch.why {
                    let key = [id.as_bytes(), &revision.to_be_bytes()].concat();
                    match entry {
                        Some(entry) => why.insert(key, entry.encode_to_vec())?,
                        None => why.remove(key)?,
                    };
                }
                for (revision, record) in &batch.gone {
                    match record {
                        Some(record) => gone.insert(&revision.to_be_bytes(), record.encode_to_vec())?,
                        None => gone.remove(&revision.to_be_bytes())?,
                    };
                }
                meta.insert("floor", &batch.floor.to_be_bytes())?;
                meta.insert("revision", &batch.revision.to_be_bytes())?;
                Ok(())
            });
        written.map_err(|error| match error {
            TransactionError::Storage(error) => error.to_string(),
            TransactionError::Abort(()) => "aborted".to_owned(),
        })
    }

    /// The parts that a change writes, and those of an earlier, longer form that it takes away.
    fn part_changes(&self, batch: &Batch) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut changes = Vec::new();
        for record in &batch.put {
            let Some(container) = &record.container else { continue };
            let parts = record::parts(record);
            changes.extend(self.part_keys(&container.id).skip(parts.len()).map(|key| (key, None)));
            let numbered = (0..=u8::MAX).zip(parts);
            changes.extend(numbered.map(|(part, bytes)| (part_key(&container.id, part), Some(bytes))));
        }
        if let Some(id) = &batch.removed {
            changes.extend(self.part_keys(id.as_str()).map(|key| (key, None)));
        }
        changes
    }

    fn part_keys(&self, id: &str) -> impl Iterator<Item = Vec<u8>> {
        self.container.scan_prefix(id.as_bytes()).keys().filter_map(Result::ok).map(|key| key.to_vec())
    }

    #[cfg(test)]
    pub(super) fn insert_raw(&self, id: &str, bytes: &[u8]) {
        self.container.insert(part_key(id, 0), bytes).unwrap();
        self.db.flush().unwrap();
    }
}

fn part_key(id: &str, part: u8) -> Vec<u8> {
    let mut key = id.as_bytes().to_vec();
    key.push(part);
    key
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn number(bytes: &[u8]) -> Option<u64> {
    match bytes.len() {
        4 => bytes.try_into().ok().map(|bytes| u32::from_be_bytes(bytes).into()),
        8 => bytes.try_into().ok().map(u64::from_be_bytes),
        _ => None,
    }
}

/// Raises the generation above everything that was ever given, and makes that durable before anybody is answered.
pub(super) fn raise_generation(root: &Path, last_revision: u64) -> Result<u64, OpenError> {
    let path = root.join("generation");
    let failed = |doing, source| OpenError::Io { doing, path: path.clone(), source };
    let before = match read_bounded(&path, 64) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(failed("read", error)),
        Ok(bytes) => {
            let content = String::from_utf8_lossy(&bytes).trim().to_owned();
            content.parse().map_err(|_| OpenError::Generation { path: path.clone(), content })?
        }
    };
    let next = before.max(last_revision >> 40) + 1;
    if next > LAST_GENERATION {
        return Err(OpenError::Generation { path, content: next.to_string() });
    }
    let folder = open_dir(root).map_err(|source| failed("open the folder of", source))?;
    write_atomic(&folder, "generation", format!("{next}\n").as_bytes(), Durability::Synced)
        .map_err(|source| failed("write", source))?;
    Ok(next)
}
