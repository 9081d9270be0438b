//! Who uses what: one file a container. The file is the use: while it is there, no volume it names is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use davit_proto::id::{ContainerId, Name};
use davit_sys::file::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::make_private;

/// Largest file that is read.
const MAX_RECORD: usize = 4 << 20;

/// All that one container uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uses {
    /// Form of this file; 1.
    pub version: u32,
    /// Volume by path inside the container.
    pub by_target: BTreeMap<String, Name>,
    /// The paths whose volume was called by its name: such a one never goes with the container, also when nobody named
    /// it when it was made, as with the volumes of another container.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub called: BTreeSet<String>,
}

impl Uses {
    /// Nothing.
    pub fn none() -> Self {
        Self { version: 1, by_target: BTreeMap::new(), called: BTreeSet::new() }
    }
}

/// The uses of all containers, on disk and in memory.
#[derive(Debug)]
pub struct Usage {
    path: PathBuf,
    dir: OwnedFd,
    by_container: BTreeMap<ContainerId, Uses>,
}

impl Usage {
    /// Reads what is on disk. A file that cannot be read is an error: without it a volume in use might be removed.
    pub fn open(path: &Path) -> Result<Self, Error> {
        make_private(path).map_err(Error::file("create", path))?;
        let dir = file::open_dir(path).map_err(Error::file("open", path))?;
        let mut by_container = BTreeMap::new();
        for entry in fs::read_dir(path).map_err(Error::file("list", path))? {
            let entry = entry.map_err(Error::file("list", path))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with('.') {
                // What a crash left of a write; the file itself is whole.
                file::remove_file_at(&dir, name.as_ref()).map_err(Error::file("remove", &entry.path()))?;
                continue;
            }
            let Some(Ok(container_id)) = name.strip_suffix(".json").map(str::parse) else { continue };
            by_container.insert(container_id, read(&entry.path())?);
        }
        Ok(Self { path: path.to_owned(), dir, by_container })
    }

    /// What a container uses.
    pub fn of(&self, container_id: &ContainerId) -> Option<&Uses> {
        self.by_container.get(container_id)
    }

    /// Who uses a volume.
    pub fn holders(&self, name: &Name) -> BTreeSet<ContainerId> {
        let uses = self.by_container.iter().filter(|(_, uses)| uses.by_target.values().any(|n| n == name));
        uses.map(|(container_id, _)| container_id.clone()).collect()
    }

    /// Who uses each volume.
    pub fn by_volume(&self) -> BTreeMap<Name, BTreeSet<ContainerId>> {
        let mut all: BTreeMap<Name, BTreeSet<ContainerId>> = BTreeMap::new();
        for (container_id, uses) in &self.by_container {
            for name in uses.by_target.values() {
                all.entry(name.clone()).or_default().insert(container_id.clone());
            }
        }
        all
    }

    /// All containers that use anything.
    pub fn containers(&self) -> Vec<ContainerId> {
        self.by_container.keys().cloned().collect()
    }

    /// Records what a container uses; survives a power cut when this returns.
    pub fn record(&mut self, container_id: &ContainerId, uses: Uses) -> Result<(), Error> {
        if self.by_container.get(container_id) == Some(&uses) {
            return Ok(());
        }
        let name = file_name(container_id);
        let path = self.path.join(&name);
        let bytes =
            serde_json::to_vec(&uses).map_err(|source| Error::Record { path: path.clone(), source })?;
        file::write_atomic(&self.dir, &name, &bytes, Durability::Synced)
            .map_err(Error::file("write", &path))?;
        self.by_container.insert(container_id.clone(), uses);
        Ok(())
    }

    /// Forgets a container. Not synced: a use that comes back after a power cut is released again.
    pub fn forget(&mut self, container_id: &ContainerId) -> Result<(), Error> {
        let name = file_name(container_id);
        match file::remove_file_at(&self.dir, name.as_ref()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &self.path.join(name))(error));
            }
            _ => {}
        }
        self.by_container.remove(container_id);
        Ok(())
    }
}

fn file_name(container_id: &ContainerId) -> String {
    format!("{container_id}.json")
}

fn read(path: &Path) -> Result<Uses, Error> {
    let bytes = file::read_bounded(path, MAX_RECORD).map_err(Error::file("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Record { path: path.to_owned(), source })
}
