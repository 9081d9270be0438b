//! What happened to each container and why, as `why` tells it: a bounded past for each, kept for a while after its
//! removal. Pure, like the rest of the index.

use std::collections::{HashMap, VecDeque};

use davit_proto::container::WhyEntry;
use davit_proto::store::GoneRecord;

use super::Unresolved;
use super::disk::Batch;

/// Entries kept of one container.
pub(super) const ENTRIES: usize = 100;
/// Containers whose past is kept after their removal.
pub(super) const GONE: usize = 200;
/// Most bytes of a sentence: part of it may come from a container.
const SENTENCE: usize = 1 << 10;

/// One change, as a person is told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// What changed.
    pub change: String,
    /// Why, and by whom; may be empty.
    pub cause: String,
}

/// A container's past.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Its id.
    pub id: String,
    /// Its name, when it was removed.
    pub name: Option<String>,
    /// Its entries, oldest first.
    pub entries: Vec<WhyEntry>,
}

#[derive(Debug, Default)]
pub(super) struct Whys {
    entries: HashMap<String, VecDeque<(u64, WhyEntry)>>,
    gone: VecDeque<(u64, GoneRecord)>,
}

impl Whys {
    pub(super) fn new(entries: Vec<(String, u64, WhyEntry)>, gone: Vec<(u64, GoneRecord)>) -> Self {
        let mut whys = Self { gone: gone.into(), ..Self::default() };
        for (id, revision, entry) in entries {
            whys.entries.entry(id).or_default().push_back((revision, entry));
        }
        whys
    }

    /// Adds an entry, and drops the oldest when there are too many.
    pub(super) fn note(
        &mut self,
        id: &str,
        revision: u64,
        at: prost_types::Timestamp,
        note: Note,
        batch: &mut Batch,
    ) {
        let cut = |mut text: String| {
            text.truncate(text.floor_char_boundary(SENTENCE));
            text
        };
        let entry = WhyEntry { at: Some(at), change: cut(note.change), cause: cut(note.cause) };
        let entries = self.entries.entry(id.to_owned()).or_default();
        entries.push_back((revision, entry.clone()));
        batch.why.push((id.to_owned(), revision, Some(entry)));
        while entries.len() > ENTRIES {
            if let Some((oldest, _)) = entries.pop_front() {
                batch.why.push((id.to_owned(), oldest, None));
            }
        }
    }

    /// The container was removed: its past is kept in the place of the oldest.
    pub(super) fn keep(&mut self, revision: u64, gone: GoneRecord, batch: &mut Batch) {
        batch.gone.push((revision, Some(gone.clone())));
        self.gone.push_back((revision, gone));
        while self.gone.len() > GONE {
            if let Some((oldest, gone)) = self.gone.pop_front() {
                batch.gone.push((oldest, None));
                self.forget(&gone.container_id, batch);
            }
        }
    }

    /// The container never was.
    pub(super) fn forget(&mut self, id: &str, batch: &mut Batch) {
        for (revision, _) in self.entries.remove(id).unwrap_or_default() {
            batch.why.push((id.to_owned(), revision, None));
        }
    }

    /// The entries of a container, oldest first.
    pub(super) fn of(&self, id: &str) -> Vec<WhyEntry> {
        self.entries
            .get(id)
            .map(|entries| entries.iter().map(|(_, entry)| entry.clone()).collect())
            .unwrap_or_default()
    }

    /// A container that was removed: by full id, by the name it had, the last one of several, or by the beginning of
    /// its id.
    pub(super) fn find(&self, text: &str) -> Result<Past, Unresolved> {
        let missing = || Unresolved::NotFound(text.chars().take(200).collect());
        if text.is_empty() {
            return Err(missing());
        }
        let newest = || self.gone.iter().rev().map(|(_, gone)| gone);
        let exact =
            newest().find(|gone| gone.container_id == text).or_else(|| newest().find(|g| g.name == text));
        let found = match exact {
            Some(gone) => gone,
            None => {
                let mut matching = newest().filter(|gone| gone.container_id.starts_with(text));
                match (matching.next(), matching.next()) {
                    (None, _) => return Err(missing()),
                    (Some(gone), None) => gone,
                    (Some(_), Some(_)) => return Err(Unresolved::Ambiguous(text.to_owned())),
                }
            }
        };
        let id = found.container_id.clone();
        Ok(Past { entries: self.of(&id), name: Some(found.name.clone()), id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(id: &str, name: &str) -> GoneRecord {
        GoneRecord { container_id: id.into(), name: name.into() }
    }

    #[test]
    fn the_past_is_bounded_and_what_is_dropped_is_written() {
        let mut whys = Whys::default();
        let mut batch = Batch::default();
        for n in 0..150_u64 {
            let note = Note { change: n.to_string(), cause: String::new() };
            whys.note("a", n, prost_types::Timestamp::default(), note, &mut batch);
        }
        assert_eq!(whys.of("a").len(), ENTRIES);
        assert_eq!(whys.of("a")[0].change, "50");
        assert_eq!(batch.why.iter().filter(|(_, _, entry)| entry.is_none()).count(), 50);
        let mut batch = Batch::default();
        for n in 0..=GONE {
            let id = if n == 0 { "a".to_owned() } else { format!("b{n}") };
            whys.keep(1000 + n as u64, gone(&id, "web"), &mut batch);
        }
        assert_eq!(batch.why.len(), ENTRIES, "all of the first one");
        assert!(whys.of("a").is_empty() && whys.find("a").is_err());
    }

    #[test]
    fn the_removed_are_found_by_id_name_and_prefix() {
        let mut whys = Whys::default();
        let mut batch = Batch::default();
        for (n, (id, name)) in [("aa11", "web"), ("aa22", "db"), ("bb33", "web")].into_iter().enumerate() {
            whys.keep(n as u64, gone(id, name), &mut batch);
        }
        assert_eq!(whys.find("web").unwrap().id, "bb33", "the last of that name");
        assert_eq!(whys.find("aa11").unwrap().name.as_deref(), Some("web"));
        assert_eq!(whys.find("bb").unwrap().id, "bb33");
        assert_eq!(whys.find("aa").unwrap_err(), Unresolved::Ambiguous("aa".into()));
        assert_eq!(whys.find("c").unwrap_err(), Unresolved::NotFound("c".into()));
    }
}
