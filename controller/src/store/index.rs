//! The index in memory: pure changes that answer with what has to be written. No I/O happens here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use davit_proto::id::ContainerId;
use davit_proto::store::{ContainerRecord, GoneRecord, RequestRecord};
use davit_proto::system::Event;
use davit_proto::time::timestamp;
use tokio::sync::watch;

use super::disk::{Batch, Content};
use super::why::{Note, Past, Whys};
use super::{Change, Seen, TooOld, Watched};

/// Events kept.
pub(super) const EVENTS: usize = 10_000;
/// Request keys kept after their containers are gone.
const REQUESTS: usize = 10_000;
/// Bits of a revision below its generation.
const GENERATION: u32 = 40;

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another container has the name.
    #[error("the name {name:?} is already in use by container {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        holder: ContainerId,
    },
    /// The key came before, with another request.
    #[error("request key {key:?} was used before with another request, for container {holder}")]
    KeyReused {
        /// The key.
        key: String,
        /// What it led to.
        holder: String,
    },
    /// The record is larger than one may be.
    #[error("container description of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// There is no such container any more.
    #[error("no such container: {container}")]
    Gone {
        /// Its id.
        container: ContainerId,
    },
}

/// A text that does not name one container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// It names none.
    #[error("no such container: {0}")]
    NotFound(String),
    /// Several ids begin with it.
    #[error("several container ids begin with {0:?}")]
    Ambiguous(String),
}

/// An event before it has a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Kind of object: "container", "image".
    pub kind: &'static str,
    /// What happened, in docker's words.
    pub action: String,
    /// Id of the object.
    pub id: String,
    /// Further facts.
    pub attributes: HashMap<String, String>,
}

/// What became of a record that a bundle kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopted {
    /// It is in the store.
    Entered,
    /// It is, and one of two containers lost the name that both had.
    NameLost {
        /// The name.
        name: String,
        /// Who is called by its short id now.
        loser: ContainerId,
    },
}

fn revision_of(record: &ContainerRecord) -> u64 {
    record.container.as_ref().map_or(0, |container| container.revision)
}

#[derive(Debug)]
pub(super) struct Index {
    revision: u64,
    floor: u64,
    containers: BTreeMap<String, watch::Sender<Seen>>,
    names: HashMap<String, ContainerId>,
    requests: HashMap<String, RequestRecord>,
    events: VecDeque<Arc<Event>>,
    whys: Whys,
}

impl Index {
    pub(super) fn new(content: Content, generation: u64) -> Self {
        let floor = if content.revision == 0 { generation << GENERATION } else { content.floor };
        let mut index = Self {
            revision: generation << GENERATION,
            floor,
            containers: BTreeMap::new(),
            names: HashMap::new(),
            requests: content.requests,
            events: content.events.into_iter().map(Arc::new).collect(),
            whys: Whys::new(content.why, content.gone),
        };
        for record in content.records {
            let Some(container) = &record.container else { continue };
            if let Ok(id) = container.id.parse() {
                index.names.insert(container.name.clone(), id);
                index
                    .containers
                    .insert(container.id.clone(), watch::Sender::new(Seen::present(Arc::new(record))));
            }
        }
        index
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn oldest(&self) -> u64 {
        self.floor
    }

    pub(super) fn get(&self, id: &ContainerId) -> Option<Arc<ContainerRecord>> {
        Some(self.containers.get(id.as_str())?.borrow().record.clone())
    }

    pub(super) fn watch(&self, id: &ContainerId) -> Option<Watched> {
        Some(self.containers.get(id.as_str())?.subscribe())
    }

    pub(super) fn all(&self) -> Vec<Arc<ContainerRecord>> {
        self.containers.values().map(|slot| slot.borrow().record.clone()).collect()
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn request(&self, key: &str) -> Option<RequestRecord> {
        self.requests.get(key).cloned()
    }

    /// docker's order: the full id, then the name, then the prefix.
    pub(super) fn resolve(&self, text: &str) -> Result<ContainerId, Unresolved> {
        if let Ok(id) = text.parse::<ContainerId>()
            && self.containers.contains_key(text)
        {
            return Ok(id);
        }
        if let Some(id) = self.names.get(text) {
            return Ok(id.clone());
        }
        let missing = || Unresolved::NotFound(text.chars().take(200).collect());
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut matching = self.containers.range(text.to_owned()..).map(|(id, _)| id);
        let mut next = || matching.next().filter(|id| id.starts_with(text));
        match (next(), next()) {
            (None, _) => Err(missing()),
            (Some(id), None) => id.parse().map_err(|_| missing()),
            (Some(_), Some(_)) => Err(Unresolved::Ambiguous(text.to_owned())),
        }
    }

    /// The events after `after`.
    pub(super) fn events(&self, after: u64) -> Result<Vec<Arc<Event>>, TooOld> {
        if after < self.floor || after > self.revision {
            return Err(TooOld { asked: after, oldest: self.floor, newest: self.revision });
        }
        let first = self.events.partition_point(|event| event.revision <= after);
        Ok(self.events.iter().skip(first).cloned().collect())
    }

    /// The container that a repeated request led to, or `None` when the record may go in.
    pub(super) fn check_insert(&self, record: &ContainerRecord) -> Result<Option<ContainerId>, Conflict> {
        if let Some(before) =
            self.requests.get(&record.request_key).filter(|_| !record.request_key.is_empty())
        {
            let holder = before.container_id.clone();
            return match holder.parse() {
                Ok(id) if before.request_hash == record.request_hash => Ok(Some(id)),
                _ => Err(Conflict::KeyReused { key: record.request_key.clone(), holder }),
            };
        }
        let name = record.container.as_ref().map_or("", |container| container.name.as_str());
        match self.names.get(name) {
            Some(holder) => Err(Conflict::NameTaken { name: name.to_owned(), holder: holder.clone() }),
            None => Ok(None),
        }
    }

    pub(super) fn insert(&mut self, record: ContainerRecord, at: SystemTime) -> (u64, Batch) {
        let mut batch = Batch::default();
        if let Some(container) = &record.container
            && let Ok(id) = container.id.parse::<ContainerId>()
        {
            self.names.insert(container.name.clone(), id.clone());
            batch.names.push((container.name.clone(), Some(id)));
            if !record.request_key.is_empty() {
                let request = RequestRecord {
                    container_id: container.id.clone(),
                    request_hash: record.request_hash.clone(),
                };
                self.requests.insert(record.request_key.clone(), request.clone());
                batch.requests.push((record.request_key.clone(), Some(request)));
            }
        }
        self.put(record, &mut batch, self.coming(0), at);
        self.bound_requests(&mut batch);
        (self.finish(&mut batch, Change::default(), None, at), batch)
    }

    pub(super) fn replace(
        &mut self,
        record: ContainerRecord,
        change: Change,
        at: SystemTime,
    ) -> (Arc<ContainerRecord>, Batch) {
        let mut batch = Batch::default();
        let record = self.put(record, &mut batch, self.coming(change.events.len()), at);
        let id = record.container.as_ref().map(|container| container.id.as_str());
        self.finish(&mut batch, change, id, at);
        (record, batch)
    }

    pub(super) fn rename(
        &mut self,
        id: &ContainerId,
        name: &str,
        cause: &str,
        at: SystemTime,
    ) -> Result<(Arc<ContainerRecord>, Option<Batch>), Conflict> {
        let gone = || Conflict::Gone { container: id.clone() };
        let present = self.get(id).ok_or_else(gone)?;
        match self.names.get(name) {
            // Asked twice it is renamed once.
            Some(holder) if holder == id => return Ok((present, None)),
            Some(holder) => {
                return Err(Conflict::NameTaken { name: name.to_owned(), holder: holder.clone() });
            }
            None => {}
        }
        let mut record = ContainerRecord::clone(&present);
        let container = record.container.as_mut().ok_or_else(gone)?;
        let old = std::mem::replace(&mut container.name, name.to_owned());
        let attributes = HashMap::from([
            ("name".to_owned(), name.to_owned()),
            ("oldName".to_owned(), old.clone()),
            ("image".to_owned(), container.spec.as_ref().map(|s| s.image.clone()).unwrap_or_default()),
        ]);
        self.names.remove(&old);
        self.names.insert(name.to_owned(), id.clone());
        let mut batch = Batch::default();
        let note = Note { change: format!("renamed from {old} to {name}"), cause: cause.to_owned() };
        batch.names.push((old, None));
        batch.names.push((name.to_owned(), Some(id.clone())));
        let record = self.put(record, &mut batch, self.coming(1), at);
        let draft = Draft { kind: "container", action: "rename".to_owned(), id: id.to_string(), attributes };
        let change = Change { events: vec![draft], why: Some(note), at: None };
        self.finish(&mut batch, change, Some(id.as_str()), at);
        Ok((record, Some(batch)))
    }

    pub(super) fn remove(
        &mut self,
        id: &ContainerId,
        told: Option<Change>,
        at: SystemTime,
    ) -> Option<(u64, Batch)> {
        let slot = self.containers.remove(id.as_str())?;
        let record = slot.borrow().record.clone();
        slot.send_replace(Seen { record: record.clone(), removed: true });
        let mut batch = Batch { removed: Some(id.clone()), ..Batch::default() };
        let name = record.container.as_ref().map(|container| container.name.clone()).unwrap_or_default();
        if self.names.get(&name) == Some(id) {
            self.names.remove(&name);
            batch.names.push((name, None));
        }
        // A container that nobody was told of was never made: its key is free for another try.
        if told.is_none() && self.requests.remove(&record.request_key).is_some() {
            batch.requests.push((record.request_key.clone(), None));
        }
        match &told {
            None => self.whys.forget(id.as_str(), &mut batch),
            Some(change) => {
                let name =
                    record.container.as_ref().map(|container| container.name.clone()).unwrap_or_default();
                let gone = GoneRecord { container_id: id.to_string(), name };
                self.whys.keep(self.coming(change.events.len()), gone, &mut batch);
            }
        }
        Some((self.finish(&mut batch, told.unwrap_or_default(), Some(id.as_str()), at), batch))
    }

    /// Takes a record that a bundle kept, when it is newer than what is known. Of two that have the same name the
    /// one with the higher revision keeps it; the other one is called by its short id. `told` is what the world has
    /// not heard of it.
    pub(super) fn adopt(
        &mut self,
        mut record: ContainerRecord,
        told: Change,
        at: SystemTime,
    ) -> Option<(Adopted, Batch)> {
        let container = record.container.as_mut()?;
        let id: ContainerId = container.id.parse().ok()?;
        let revision = container.revision;
        let known = self.get(&id);
        if known.as_ref().is_some_and(|known| revision_of(known) >= revision) {
            return None;
        }
        let mut batch = Batch::default();
        if let Some(old) = known.and_then(|known| Some(known.container.as_ref()?.name.clone())) {
            self.names.remove(&old);
            batch.names.push((old, None));
        }
        let mut adopted = Adopted::Entered;
        let wanted = container.name.clone();
        if let Some(holder) = self.names.get(&wanted).cloned() {
            let theirs = self.get(&holder).map_or(0, |record| revision_of(&record));
            let loser = if theirs >= revision { id.clone() } else { holder };
            if loser == id {
                loser.short().clone_into(&mut container.name);
            } else {
                self.call_by_id(&loser, &mut batch, at);
            }
            adopted = Adopted::NameLost { name: wanted, loser };
        }
        self.names.insert(container.name.clone(), id.clone());
        batch.names.push((container.name.clone(), Some(id.clone())));
        self.put(record, &mut batch, self.coming(told.events.len()), at);
        self.finish(&mut batch, told, Some(id.as_str()), at);
        Some((adopted, batch))
    }

    fn call_by_id(&mut self, id: &ContainerId, batch: &mut Batch, at: SystemTime) {
        let Some(record) = self.get(id) else { return };
        let mut record = ContainerRecord::clone(&record);
        if let Some(container) = record.container.as_mut() {
            id.short().clone_into(&mut container.name);
        }
        self.names.insert(id.short().to_owned(), id.clone());
        batch.names.push((id.short().to_owned(), Some(id.clone())));
        self.put(record, batch, self.coming(0), at);
        self.finish(batch, Change::default(), None, at);
    }

    pub(super) fn note(&mut self, draft: Draft, at: SystemTime) -> (u64, Batch) {
        let mut batch = Batch::default();
        let change = Change { events: vec![draft], ..Change::default() };
        (self.finish(&mut batch, change, None, at), batch)
    }

    /// What happened to a container, also to one that was removed.
    pub(super) fn why(&self, text: &str) -> Result<Past, Unresolved> {
        match self.resolve(text) {
            Ok(id) => Ok(Past { entries: self.whys.of(id.as_str()), name: None, id: id.to_string() }),
            Err(Unresolved::NotFound(_)) => self.whys.find(text),
            Err(error) => Err(error),
        }
    }

    /// The revision of the coming change, when so many events are told of it: that of the last one.
    fn coming(&self, events: usize) -> u64 {
        self.revision + u64::try_from(events.max(1)).unwrap_or(u64::MAX)
    }

    /// Puts a record in its slot with the coming revision.
    fn put(
        &mut self,
        mut record: ContainerRecord,
        batch: &mut Batch,
        revision: u64,
        at: SystemTime,
    ) -> Arc<ContainerRecord> {
        record.written_at = Some(timestamp(at));
        let mut key = String::new();
        if let Some(container) = &mut record.container {
            container.revision = revision;
            key.clone_from(&container.id);
        }
        let record = Arc::new(record);
        batch.put.push(record.clone());
        match self.containers.get(&key) {
            Some(slot) => {
                slot.send_replace(Seen::present(record.clone()));
            }
            None => {
                self.containers.insert(key, watch::Sender::new(Seen::present(record.clone())));
            }
        }
        record
    }

    /// Gives the change its revisions, its events, and its place in the container's past.
    fn finish(&mut self, batch: &mut Batch, change: Change, id: Option<&str>, at: SystemTime) -> u64 {
        let at = change.at.unwrap_or_else(|| timestamp(at));
        if change.events.is_empty() {
            self.revision += 1;
        }
        for draft in change.events {
            self.revision += 1;
            let event = Arc::new(Event {
                revision: self.revision,
                at: Some(at),
                r#type: draft.kind.to_owned(),
                action: draft.action,
                id: draft.id,
                attributes: draft.attributes,
            });
            self.events.push_back(event.clone());
            batch.events.push(event);
        }
        batch.revision = self.revision;
        if let (Some(id), Some(note)) = (id, change.why) {
            self.whys.note(id, self.revision, at, note, batch);
        }
        while self.events.len() > EVENTS {
            if let Some(oldest) = self.events.pop_front() {
                self.floor = oldest.revision;
                batch.forgotten.push(oldest.revision);
            }
        }
        batch.floor = self.floor;
        self.revision
    }

    /// Forgets request keys of containers that are gone when there are too many.
    fn bound_requests(&mut self, batch: &mut Batch) {
        if self.requests.len() <= REQUESTS + self.containers.len() {
            return;
        }
        let gone = |request: &RequestRecord| !self.containers.contains_key(&request.container_id);
        let dead: Vec<String> =
            self.requests.iter().filter(|(_, r)| gone(r)).map(|(key, _)| key.clone()).collect();
        for key in dead {
            self.requests.remove(&key);
            batch.requests.push((key, None));
        }
    }
}
