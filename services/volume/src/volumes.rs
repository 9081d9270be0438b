//! The volumes of an engine: one lock over what is on disk and in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use davit_proto::id::{ContainerId, Name};

use crate::error::Error;
use crate::filter::Filter;
use crate::store::{DATA, Store, Trash};
use crate::usage::Usage;
use crate::volume::{Record, Volume, Wanted};

/// Handle of all volumes; clones share them.
#[derive(Debug, Clone)]
pub struct Volumes {
    state: Arc<Mutex<State>>,
}

/// What the lock guards.
#[derive(Debug)]
pub struct State {
    /// On disk.
    pub store: Store,
    /// By name.
    pub records: BTreeMap<Name, Record>,
    /// Who uses them.
    pub usage: Usage,
}

impl Volumes {
    /// Opens the volumes below an engine's root, and sweeps what a crash left.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let path = std::path::absolute(root).map_err(Error::file("resolve", root))?.join("volume");
        let store = Store::open(&path)?;
        let leftovers = store.leftovers()?;
        let records = store.load()?;
        let usage = Usage::open(&path.join(".use"))?;
        delete_later(leftovers);
        Ok(Self { state: Arc::new(Mutex::new(State { store, records, usage })) })
    }

    /// The state. A panic of another holder left it consistent: disk is written before memory.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a volume; one that exists is answered as it is.
    pub fn create(&self, wanted: Wanted) -> Result<Volume, Error> {
        let mut state = self.state();
        let name = wanted.name.clone();
        state.ensure(wanted)?;
        state.volume(&name)
    }

    /// One volume.
    pub fn inspect(&self, name: &Name) -> Result<Volume, Error> {
        self.state().volume(name)
    }

    /// All volumes that a filter admits.
    pub fn list(&self, filter: &Filter) -> Vec<Volume> {
        let state = self.state();
        let mut holders = state.usage.by_volume();
        let volumes = state.records.values().map(|record| Volume {
            mountpoint: state.mountpoint(&record.name),
            holders: holders.remove(&record.name).unwrap_or_default(),
            record: record.clone(),
        });
        volumes.filter(|volume| filter.admits(volume)).collect()
    }

    /// Volumes that a filter admits, with the bytes of disk that each takes.
    pub fn disk_usage(&self, filter: &Filter) -> Vec<(Volume, Option<u64>)> {
        let measured = self.list(filter).into_iter().map(|volume| {
            let folder = Path::new(&volume.mountpoint).parent();
            let size = folder.and_then(|folder| davit_sys::file::open_dir(folder).ok());
            let size = size.map(|folder| crate::size::disk_usage(folder, DATA.as_ref()));
            (volume, size)
        });
        measured.collect()
    }

    /// Containers that use anything.
    pub fn holders(&self) -> Vec<ContainerId> {
        self.state().usage.containers()
    }
}

impl State {
    /// Makes a volume unless it is there.
    pub fn ensure(&mut self, wanted: Wanted) -> Result<(), Error> {
        if self.records.contains_key(&wanted.name) {
            return Ok(());
        }
        let record = wanted.record();
        self.store.create(&record)?;
        tracing::debug!(volume = %record.name, "made a volume");
        self.records.insert(record.name.clone(), record);
        Ok(())
    }

    /// A volume as it is now.
    pub fn volume(&self, name: &Name) -> Result<Volume, Error> {
        let record = self.records.get(name).ok_or_else(|| Error::NotFound(name.to_string()))?;
        Ok(Volume {
            record: record.clone(),
            mountpoint: self.mountpoint(name),
            holders: self.usage.holders(name),
        })
    }

    /// Takes a volume away, unless it is used; answers with what is to be deleted.
    pub fn take(&mut self, name: &Name) -> Result<Trash, Error> {
        let volume = self.volume(name)?;
        if !volume.holders.is_empty() {
            let holders = volume.holders.iter().map(ToString::to_string).collect();
            return Err(Error::InUse { name: name.to_string(), holders });
        }
        let trash = self.store.remove(name)?;
        self.records.remove(name);
        tracing::debug!(volume = %name, "removed a volume");
        Ok(trash)
    }

    fn mountpoint(&self, name: &Name) -> String {
        self.store.data(name).display().to_string()
    }
}

/// Deletes what is out of sight on a thread of its own: nobody waits for it, and a crash only postpones it.
pub fn delete_later(trash: Vec<Trash>) {
    if trash.is_empty() {
        return;
    }
    let spawned = std::thread::Builder::new()
        .name("volume-trash".to_owned())
        .spawn(move || trash.into_iter().for_each(Trash::delete));
    if let Err(error) = spawned {
        tracing::warn!(%error, "left removed volumes on disk until the next start");
    }
}
