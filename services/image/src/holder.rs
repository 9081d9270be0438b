//! Holders: the containers that use images, one file each under `use/`.
//!
//! A record is written when a container is prepared and is there when that is answered. Making it survive a power cut
//! costs as much as the rest of a start, so it happens beside it, for several at once; the controller prepares a
//! container again before each start, which would write a lost record anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use davit_proto::id::{ContainerId, Digest};
use davit_sys::file::{self, Durability, OFlags};
use serde::{Deserialize, Serialize};

use crate::content::make_dirs;
use crate::document::Descriptor;

const FOLDER: &str = "use";
const BYTES: usize = 64 << 10;

/// A record of use cannot be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("{action} the image use of container {container_id}")]
pub struct HolderError {
    action: &'static str,
    container_id: String,
    #[source]
    source: io::Error,
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The manifest of the image.
    pub manifest: Descriptor,
    /// Image id.
    pub image_id: Digest,
    /// The reference that it was found by; empty when it was found by id.
    pub reference: String,
}

/// All containers that use images.
#[derive(Debug)]
pub struct Holders {
    dir: Arc<OwnedFd>,
    known: Mutex<BTreeMap<ContainerId, Holder>>,
    /// Records that cannot be read: what they hold is unknown, so nothing may be collected.
    unknown: Mutex<BTreeSet<ContainerId>>,
    syncing: Option<Sender<ContainerId>>,
}

impl Holders {
    /// Reads the records below `root`.
    pub fn open(root: &Path) -> io::Result<Self> {
        let path = root.join(FOLDER);
        make_dirs(&path)?;
        let dir = Arc::new(file::open_dir(&path)?);
        let (mut known, mut unknown) = (BTreeMap::new(), BTreeSet::new());
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok()) else {
                continue;
            };
            match read(&entry.path()) {
                Ok(holder) => {
                    known.insert(id, holder);
                }
                Err(error) => {
                    tracing::warn!(container_id = %id, %error, "unreadable record of image use, keeping all content");
                    unknown.insert(id);
                }
            }
        }
        let (syncing, written) = channel();
        let of_thread = Arc::clone(&dir);
        let started =
            thread::Builder::new().name("use-sync".to_owned()).spawn(move || sync(&of_thread, &written));
        let syncing = started.is_ok().then_some(syncing);
        Ok(Self { dir, known: Mutex::new(known), unknown: Mutex::new(unknown), syncing })
    }

    /// What a container uses.
    pub fn get(&self, container_id: &ContainerId) -> Option<Holder> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(container_id).cloned()
    }

    /// Records a use.
    pub fn add(&self, container_id: &ContainerId, holder: Holder) -> Result<(), HolderError> {
        let failed =
            |source| HolderError { action: "record", container_id: container_id.to_string(), source };
        let json = serde_json::to_vec(&holder).map_err(|e| failed(e.into()))?;
        let durability = if self.syncing.is_some() { Durability::Cached } else { Durability::Synced };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        file::write_atomic(&*self.dir, name(container_id), &json, durability).map_err(failed)?;
        known.insert(container_id.clone(), holder);
        drop(known);
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).remove(container_id);
        if let Some(syncing) = &self.syncing {
            // The thread lives as long as this end of the queue.
            let _ = syncing.send(container_id.clone());
        }
        Ok(())
    }

    /// Ends a use; one that is not there is no error. Tells what was used.
    pub fn remove(&self, container_id: &ContainerId) -> Result<Option<Holder>, HolderError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match file::remove_file_at(&*self.dir, name(container_id).as_ref()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(HolderError { action: "end", container_id: container_id.to_string(), source });
            }
            _ => {}
        }
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).remove(container_id);
        Ok(known.remove(container_id))
    }

    /// Every container that uses something, also those whose records cannot be read.
    pub fn container_ids(&self) -> Vec<ContainerId> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        known.keys().chain(unknown.iter()).cloned().collect()
    }

    /// What is used, by whom.
    pub fn all(&self) -> BTreeMap<ContainerId, Holder> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether all records could be read.
    pub fn complete(&self) -> bool {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

fn name(container_id: &ContainerId) -> String {
    format!("{container_id}.json")
}

fn read(path: &Path) -> io::Result<Holder> {
    Ok(serde_json::from_slice(&file::read_bounded(path, BYTES)?)?)
}

/// Syncs the records that were written, as many at once as came meanwhile.
fn sync(dir: &OwnedFd, written: &Receiver<ContainerId>) {
    while let Ok(first) = written.recv() {
        let batch: BTreeSet<ContainerId> = std::iter::once(first).chain(written.try_iter()).collect();
        let result =
            batch.iter().try_for_each(|id| match file::open_at(dir, name(id).as_ref(), OFlags::RDONLY, 0) {
                Ok(fd) => File::from(fd).sync_data(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) => Err(e),
            });
        if let Err(error) = result.and_then(|()| file::sync_dir(dir)) {
            tracing::warn!(%error, "could not sync records of image use");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest;

    #[test]
    fn records_outlive_their_writer_and_end_once() {
        let dir = tempfile::tempdir().unwrap();
        let holders = Holders::open(dir.path()).unwrap();
        let id: ContainerId = "ab".repeat(32).parse().unwrap();
        let holder = Holder {
            manifest: Descriptor::new("m", digest(b"m"), 1),
            image_id: digest(b"c"),
            reference: "docker.io/library/a:1".to_owned(),
        };
        holders.add(&id, holder.clone()).unwrap();
        assert_eq!(holders.get(&id), Some(holder.clone()));
        let again = Holders::open(dir.path()).unwrap();
        assert_eq!(again.all().get(&id), Some(&holder));
        assert_eq!(again.remove(&id).unwrap(), Some(holder));
        assert_eq!(again.remove(&id).unwrap(), None);
        assert!(Holders::open(dir.path()).unwrap().container_ids().is_empty());
    }

    #[test]
    fn an_unreadable_record_still_counts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let id: ContainerId = "cd".repeat(32).parse().unwrap();
        std::fs::write(dir.path().join(FOLDER).join(name(&id)), "").unwrap();
        let holders = Holders::open(dir.path()).unwrap();
        assert!(!holders.complete());
        assert_eq!(holders.container_ids(), std::slice::from_ref(&id));
        holders.remove(&id).unwrap();
        assert!(holders.complete());
    }
}
