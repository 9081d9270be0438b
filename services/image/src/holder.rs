//! Holders: the containers that use images, one file each under `use/`.
//!
//! A record is written when a container is prepared, and is there when that is answered. It waits for no disk, because
//! that would cost as much as the rest of a start: its bytes are sent on their way, and the file system's next commit,
//! which the controller's own record of the container asks for, makes it durable. The controller prepares a container
//! again before each start, so even a lost record comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use davit_proto::id::{ContainerId, Digest};
use davit_sys::file::{self, Durability, OFlags};
use serde::{Deserialize, Serialize};

use crate::content::{make_dirs, sweep_temporary};
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
    /// Further images, which it mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounted: Vec<Mounted>,
}

/// A further image of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mounted {
    /// What was asked for.
    pub asked: String,
    /// The manifest of the image.
    pub manifest: Descriptor,
    /// Image id.
    pub image_id: Digest,
    /// The reference that it was found by; empty when it was found by id.
    pub reference: String,
}

impl Holder {
    /// Each image of it by itself, once.
    fn each(&self) -> Vec<Self> {
        let own = Self { mounted: Vec::new(), ..self.clone() };
        let mut all = vec![own];
        for Mounted { manifest, image_id, reference, .. } in self.mounted.clone() {
            if all.iter().all(|known| known.manifest != manifest) {
                all.push(Self { manifest, image_id, reference, mounted: Vec::new() });
            }
        }
        all
    }

    /// The manifests of all its images.
    pub fn manifests(&self) -> Vec<Descriptor> {
        self.each().into_iter().map(|holder| holder.manifest).collect()
    }
}

/// Who uses what: a container and an image at a time, and so a container as often as it uses images.
#[derive(Debug, Clone)]
pub struct Held(Vec<(ContainerId, Holder)>);

impl Held {
    /// Containers and images.
    pub fn iter(&self) -> impl Iterator<Item = (&ContainerId, &Holder)> {
        self.0.iter().map(|(container_id, holder)| (container_id, holder))
    }

    /// Images.
    pub fn values(&self) -> impl Iterator<Item = &Holder> {
        self.0.iter().map(|(_, holder)| holder)
    }

    /// Images.
    pub fn into_values(self) -> impl Iterator<Item = Holder> {
        self.0.into_iter().map(|(_, holder)| holder)
    }
}

impl IntoIterator for Held {
    type Item = (ContainerId, Holder);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// All containers that use images.
#[derive(Debug)]
pub struct Holders {
    dir: OwnedFd,
    known: Mutex<BTreeMap<ContainerId, Holder>>,
    /// Records that cannot be read: what they hold is unknown, so nothing may be collected.
    unknown: Mutex<BTreeSet<ContainerId>>,
}

impl Holders {
    /// Reads the records below `root`.
    pub fn open(root: &Path) -> io::Result<Self> {
        let path = root.join(FOLDER);
        make_dirs(&path)?;
        sweep_temporary(&path)?;
        let dir = file::open_dir(&path)?;
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
        Ok(Self { dir, known: Mutex::new(known), unknown: Mutex::new(unknown) })
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
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        file::write_atomic(&self.dir, name(container_id), &json, Durability::Cached).map_err(failed)?;
        known.insert(container_id.clone(), holder);
        drop(known);
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).remove(container_id);
        self.start_writeback(container_id).map_err(failed)
    }

    /// Has the kernel write the record's bytes without waiting for them. Otherwise they would stay in memory for half a
    /// minute, whoever commits.
    fn start_writeback(&self, container_id: &ContainerId) -> io::Result<()> {
        let record = file::open_at(&self.dir, name(container_id).as_ref(), OFlags::RDONLY, 0)?;
        Ok(rustix::fs::fadvise(record, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    /// Ends a use; one that is not there is no error. Tells what was used.
    pub fn remove(&self, container_id: &ContainerId) -> Result<Option<Holder>, HolderError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match file::remove_file_at(&self.dir, name(container_id).as_ref()) {
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
    pub fn all(&self) -> Held {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let each = |(container_id, holder): (&ContainerId, &Holder)| -> Vec<_> {
            holder.each().into_iter().map(|one| (container_id.clone(), one)).collect()
        };
        Held(known.iter().flat_map(each).collect())
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
            mounted: Vec::new(),
        };
        holders.add(&id, holder.clone()).unwrap();
        assert_eq!(holders.get(&id), Some(holder.clone()));
        let again = Holders::open(dir.path()).unwrap();
        assert_eq!(again.all().into_iter().collect::<Vec<_>>(), [(id.clone(), holder.clone())]);
        assert_eq!(again.remove(&id).unwrap(), Some(holder));
        assert_eq!(again.remove(&id).unwrap(), None);
        assert!(Holders::open(dir.path()).unwrap().container_ids().is_empty());
    }

    #[test]
    fn each_image_of_a_container_is_held_once() {
        let further = |asked: &str, bytes: &[u8]| Mounted {
            asked: asked.to_owned(),
            manifest: Descriptor::new("m", digest(bytes), 1),
            image_id: digest(bytes),
            reference: asked.to_owned(),
        };
        let holder = Holder {
            manifest: Descriptor::new("m", digest(b"own"), 1),
            image_id: digest(b"own"),
            reference: String::new(),
            mounted: vec![further("a", b"a"), further("own", b"own"), further("b", b"a")],
        };
        let images: Vec<_> = holder.each().into_iter().map(|one| one.image_id).collect();
        assert_eq!(images, [digest(b"own"), digest(b"a")]);
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
