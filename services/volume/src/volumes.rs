//! The volumes of an engine: one lock over what is on disk and in memory, held for no longer than the disk takes. What
//! may take longer has the volume's turn instead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use davit_proto::id::{ContainerId, Name};
use davit_proto::status::chain;

use crate::driver::{DriverAddress, Drivers};
use crate::error::Error;
use crate::filter::Filter;
use crate::store::{Store, Trash};
use crate::sweep::{Sweeper, sweep};
use crate::turn::Turns;
use crate::usage::Usage;
use crate::volume::{LOCAL, Record, Volume, Wanted};

/// Handle of all volumes; clones share them.
#[derive(Debug, Clone)]
pub struct Volumes {
    shared: Arc<Shared>,
}

/// A handle that keeps nothing.
#[derive(Debug, Clone)]
pub struct WeakVolumes {
    shared: Weak<Shared>,
}

impl WeakVolumes {
    /// The volumes, if somebody still has them.
    pub fn upgrade(&self) -> Option<Volumes> {
        self.shared.upgrade().map(|shared| Volumes { shared })
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    turns: Turns,
    drivers: Drivers,
    sweeper: Sweeper,
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
    /// Calls of our own that hold them.
    pub visits: BTreeMap<Name, BTreeSet<String>>,
    /// Where drivers have mounted theirs.
    pub paths: BTreeMap<Name, String>,
}

impl Volumes {
    /// Opens the volumes below an engine's root, and sweeps what a crash left. On the present runtime, from a thread
    /// that may wait.
    pub fn open(root: &Path, drivers: Vec<DriverAddress>) -> Result<Self, Error> {
        let path = std::path::absolute(root).map_err(Error::file("resolve", root))?.join("volume");
        let store = Store::open(&path)?;
        let leftovers = store.leftovers()?;
        let records = store.load()?;
        let usage = Usage::open(&path.join(".use"))?;
        let drivers = Drivers::new(drivers, store.id()?)?;
        delete_later(leftovers);
        let state = State { store, records, usage, visits: BTreeMap::new(), paths: BTreeMap::new() };
        let (sweeper, waiting) = Sweeper::new();
        let shared = Shared { state: Mutex::new(state), turns: Turns::default(), drivers, sweeper };
        let volumes = Self { shared: Arc::new(shared) };
        volumes.settle_all();
        if volumes.drivers().all().next().is_some() {
            let weak = WeakVolumes { shared: Arc::downgrade(&volumes.shared) };
            std::thread::Builder::new()
                .name("volume-sweep".to_owned())
                .spawn(move || sweep(&weak, &waiting))
                .map_err(Error::file("start a thread for", &path))?;
        }
        Ok(volumes)
    }

    /// The state. A panic of another holder left it consistent: disk is written before memory.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turns of volumes.
    pub fn turns(&self) -> &Turns {
        &self.shared.turns
    }

    /// The drivers beside our own.
    pub fn drivers(&self) -> &Drivers {
        &self.shared.drivers
    }

    /// Who looks again at drivers that were away.
    pub fn sweeper(&self) -> &Sweeper {
        &self.shared.sweeper
    }

    /// Makes a volume; one that exists alike is answered as it is.
    pub fn create(&self, wanted: Wanted) -> Result<Volume, Error> {
        let name = wanted.name.clone();
        let _turn = self.turns().take(&name);
        self.ensure(wanted)?;
        self.state().volume(&name)
    }

    /// One volume, with what its driver says about it. One whose driver is away is known all the same.
    pub fn inspect(&self, name: &Name) -> Result<Volume, Error> {
        let mut volume = self.state().volume(name)?;
        if volume.record.driver == LOCAL {
            return Ok(volume);
        }
        let asked = self.drivers().get(&volume.record.driver).and_then(|driver| driver.inspect(name));
        match asked {
            Ok(told) => {
                if volume.mountpoint.is_empty() && told.mountpoint.starts_with('/') {
                    volume.mountpoint = told.mountpoint.chars().take(4095).collect();
                }
                volume.status = told.status.into_iter().collect();
            }
            Err(error) => {
                volume.status.insert("Error".to_owned(), chain(&error));
            }
        }
        Ok(volume)
    }

    /// All volumes that a filter admits.
    pub fn list(&self, filter: &Filter) -> Vec<Volume> {
        let state = self.state();
        let mut holders = state.usage.by_volume();
        let volumes = state.records.values().map(|record| Volume {
            mountpoint: state.mountpoint(record),
            holders: holders.remove(&record.name).unwrap_or_default(),
            record: record.clone(),
            status: BTreeMap::new(),
        });
        volumes.filter(|volume| filter.admits(volume)).collect()
    }

    /// Containers that use anything.
    pub fn holders(&self) -> Vec<ContainerId> {
        self.state().usage.containers()
    }
}

impl State {
    /// A volume as it is now.
    pub fn volume(&self, name: &Name) -> Result<Volume, Error> {
        let record = self.records.get(name).ok_or_else(|| Error::NotFound(name.to_string()))?;
        Ok(Volume {
            record: record.clone(),
            mountpoint: self.mountpoint(record),
            holders: self.usage.holders(name),
            status: BTreeMap::new(),
        })
    }

    /// Whether anybody holds a volume.
    pub fn is_held(&self, name: &Name) -> bool {
        self.visits.contains_key(name) || !self.usage.holders(name).is_empty()
    }

    /// Whether this one holds a volume: a container, or a call of our own.
    pub fn is_held_by(&self, name: &Name, holder: &str) -> bool {
        let visits = self.visits.get(name).is_some_and(|visits| visits.contains(holder));
        visits || self.usage.holders(name).iter().any(|container_id| container_id.as_str() == holder)
    }

    fn mountpoint(&self, record: &Record) -> String {
        if record.driver == LOCAL {
            return self.store.data(&record.name).display().to_string();
        }
        self.paths.get(&record.name).cloned().unwrap_or_default()
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
