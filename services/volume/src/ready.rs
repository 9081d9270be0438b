//! A volume is made ready for somebody, and let go: mounted before its first user, unmounted after its last.
//!
//! ```text
//! use recorded (or a visit counted) ─▶ turn ─▶ made? ─▶ mounted? ─▶ path
//! use forgotten                     ─▶ turn ─▶ nobody left? ─▶ unmounted
//! ```
//! Who uses a volume is always known before it is mounted, and mounts are found by the mount table or by the driver's
//! list: whatever is cut off between is put right by whoever comes next, or at the next start.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use davit_proto::id::Name;
use davit_proto::status::{ErrorKind, chain};

use crate::error::Error;
use crate::local;
use crate::options::Medium;
use crate::volume::{LOCAL, Record, Volume, Wanted};
use crate::volumes::Volumes;

impl Volumes {
    /// Makes a volume unless it is there.
    pub fn ensure(&self, wanted: Wanted) -> Result<Record, Error> {
        let known = self.state().records.get(&wanted.name).cloned();
        if let Some(known) = known {
            wanted.agrees(&known)?;
            if !known.unmade {
                return Ok(known);
            }
            self.make_foreign(&known)?;
            return self.record(&known.name);
        }
        let name = wanted.name.clone();
        let record = wanted.record();
        if record.driver == LOCAL {
            let medium = Medium::parse(&record.options)?;
            local::check(&medium)?;
            let mut state = self.state();
            state.store.create(&record, &medium)?;
            state.records.insert(name.clone(), record.clone());
        } else {
            self.drivers().get(&record.driver)?;
            let mut state = self.state();
            state.store.create(&record, &Medium::Folder(None))?;
            state.records.insert(name.clone(), record.clone());
            drop(state);
            if let Err(error) = self.make_foreign(&record) {
                self.forget_unmade(&name);
                return Err(error);
            }
        }
        tracing::debug!(volume = %name, "made a volume");
        self.record(&name)
    }

    fn record(&self, name: &Name) -> Result<Record, Error> {
        let known = self.state().records.get(name).cloned();
        known.ok_or_else(|| Error::NotFound(name.to_string()))
    }

    /// Has the driver make a volume whose record is there, and notes that it did.
    fn make_foreign(&self, record: &Record) -> Result<(), Error> {
        let driver = self.drivers().get(&record.driver)?;
        let global = driver.is_global()?;
        driver.create(&record.name, &record.options)?;
        let made = Record { unmade: false, global, ..record.clone() };
        let mut state = self.state();
        state.store.rewrite(&made)?;
        state.records.insert(made.name.clone(), made);
        Ok(())
    }

    /// A volume that a driver refused to make was never there.
    fn forget_unmade(&self, name: &Name) {
        let mut state = self.state();
        match state.store.remove(name) {
            Ok(trash) => {
                state.records.remove(name);
                drop(state);
                crate::volumes::delete_later(vec![trash]);
            }
            Err(error) => tracing::warn!(volume = %name, error = chain(&error), "left a record of no volume"),
        }
    }

    /// Makes a volume unless it is there, and has it mounted where that is needed. The holder is known already.
    pub fn ready(&self, wanted: Wanted, holder: &str) -> Result<Volume, Error> {
        let name = wanted.name.clone();
        let plain = |record: &Record| record.is_plain();
        if self.state().records.get(&name).is_some_and(plain) {
            // Nothing to mount, and nobody removes it while it is held.
            wanted.agrees(&self.record(&name)?)?;
            return self.state().volume(&name);
        }
        let _turn = self.turns().take(&name);
        let record = self.ensure(wanted)?;
        self.mounted(&record, holder)?;
        self.state().volume(&name)
    }

    /// Has a volume mounted. The caller has its turn.
    fn mounted(&self, record: &Record, holder: &str) -> Result<(), Error> {
        let name = &record.name;
        if record.driver == LOCAL {
            let folder = self.state().store.data(name);
            return match Medium::parse(&record.options)? {
                Medium::Mount(plan) if !local::is_mounted(&folder)? => {
                    local::mount(name.as_str(), &plan, &folder)
                }
                Medium::Mount(_) | Medium::Folder(_) => Ok(()),
            };
        }
        let path = self.drivers().get(&record.driver)?.mount(name, holder).map_err(|error| match error {
            Error::Driver { driver, source, .. } if source.kind == ErrorKind::NotFound => {
                Error::DriverLost { driver, name: name.to_string() }
            }
            other => other,
        })?;
        self.state().paths.insert(name.clone(), path);
        Ok(())
    }

    /// Lets a volume go that somebody no longer holds. What cannot be done now is done later: nobody waits for a
    /// driver that is away.
    pub fn settle<'a>(&self, names: impl IntoIterator<Item = &'a Name>, holder: &str) {
        let mut away = BTreeSet::new();
        for name in names {
            let record = self.state().records.get(name).cloned();
            let Some(record) = record.filter(|record| !record.is_plain()) else { continue };
            if away.contains(&record.driver) {
                continue;
            }
            let _turn = self.turns().take(name);
            let Err(error) = self.let_go(&record, holder) else { continue };
            tracing::warn!(volume = %name, error = chain(&error), "a volume stays mounted for nobody for now");
            if record.driver != LOCAL {
                self.sweeper().look(&record.driver);
                // All of its volumes will be looked at.
                away.insert(record.driver);
            }
        }
    }

    /// Unmounts what nobody holds any more. The caller has the volume's turn.
    fn let_go(&self, record: &Record, holder: &str) -> Result<(), Error> {
        let name = &record.name;
        if record.driver == LOCAL {
            let folder = {
                let state = self.state();
                if state.is_held(name) {
                    return Ok(());
                }
                state.store.data(name)
            };
            return local::unmount(&folder);
        }
        if self.state().is_held_by(name, holder) {
            return Ok(());
        }
        self.drivers().get(&record.driver)?.unmount(name, holder)?;
        let mut state = self.state();
        if !state.is_held(name) {
            state.paths.remove(name);
        }
        Ok(())
    }

    /// Holds a volume for a call of our own: it is mounted and stays, until the answer is dropped.
    pub fn visit(&self, name: &Name) -> Result<Visit, Error> {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let holder = format!("call-{}-{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
        {
            let mut state = self.state();
            if !state.records.contains_key(name) {
                return Err(Error::NotFound(name.to_string()));
            }
            state.visits.entry(name.clone()).or_default().insert(holder.clone());
        }
        let mut visit = Visit { volumes: self.clone(), holder, volume: None, name: name.clone() };
        visit.volume = Some(self.ready(Wanted::named(name.clone()), &visit.holder)?);
        Ok(visit)
    }

    /// Unmounts at the start what nobody holds.
    pub fn settle_all(&self) {
        let records: Vec<Record> = self.state().records.values().cloned().collect();
        for record in records.into_iter().filter(|record| record.driver == LOCAL && !record.is_plain()) {
            self.settle([&record.name], "");
        }
    }
}

/// A volume that a call of our own holds.
#[derive(Debug)]
pub struct Visit {
    volumes: Volumes,
    name: Name,
    holder: String,
    volume: Option<Volume>,
}

impl Visit {
    /// Where its data is.
    pub fn path(&self) -> &std::path::Path {
        self.volume.as_ref().map_or("", |volume| &volume.mountpoint).as_ref()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut state = self.volumes.state();
        if let Some(holders) = state.visits.get_mut(&self.name) {
            holders.remove(&self.holder);
            if holders.is_empty() {
                state.visits.remove(&self.name);
            }
        }
        drop(state);
        self.volumes.settle([&self.name], &self.holder);
    }
}
