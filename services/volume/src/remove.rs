//! `Remove` and `Prune`: volumes that nobody uses go.

use davit_proto::id::{ContainerId, Name};
use davit_proto::status::chain;

use crate::error::Error;
use crate::filter::Filter;
use crate::local;
use crate::store::Trash;
use crate::volume::LOCAL;
use crate::volumes::{State, Volumes, delete_later};

/// What a prune removed.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Names.
    pub names: Vec<Name>,
    /// Bytes of disk that come free.
    pub reclaimed: u64,
}

impl Volumes {
    /// Removes a volume that nobody uses. With force also one whose driver no longer answers: what the driver has of it
    /// is the driver's then.
    pub fn remove(&self, name: &Name, force: bool) -> Result<(), Error> {
        let trash = match self.take(name, None) {
            Err(Error::NotFound(_)) if force => return Ok(()),
            Err(error @ (Error::DriverAway { .. } | Error::NoDriver(_))) if force => {
                tracing::warn!(volume = %name, error = chain(&error), "forgot a volume whose driver is away");
                let _turn = self.turns().take(name);
                self.state().take(name, None)?
            }
            other => other?,
        };
        delete_later(vec![trash]);
        Ok(())
    }

    /// Takes a volume away, unless somebody else than one container uses it; answers with what is to be deleted.
    pub fn take(&self, name: &Name, except: Option<&ContainerId>) -> Result<Trash, Error> {
        let _turn = self.turns().take(name);
        let record = {
            let mut state = self.state();
            let record = state.free(name, except)?;
            if record.is_plain() {
                return state.take(name, except);
            }
            record
        };
        // Whoever wants to use it from now on waits for the turn, and makes it anew.
        if record.driver == LOCAL {
            let folder = self.state().store.data(name);
            local::unmount(&folder)?;
        } else {
            let driver = self.drivers().get(&record.driver)?;
            if let Some(holder) = except {
                driver.unmount(name, holder.as_str())?;
            }
            driver.remove(name)?;
        }
        self.state().gone(name)
    }

    /// Removes all volumes that nobody uses and the filter admits: those without a name, or all. One that its driver
    /// does not let go is left, and told of in the log.
    pub fn prune(&self, all: bool, filter: &Filter) -> Result<Pruned, Error> {
        let all = all || filter.all();
        let unused = self.list(filter).into_iter().filter(|volume| volume.holders.is_empty());
        let unused: Vec<_> = unused.filter(|volume| all || volume.record.anonymous).collect();
        let mut pruned = Pruned::default();
        for volume in unused {
            let name = volume.record.name.clone();
            let foreign = (volume.record.driver != LOCAL).then(|| self.measure(&volume)).flatten();
            let trash = match self.take(&name, None) {
                Ok(trash) => trash,
                // Somebody began to use or removed it since it was listed.
                Err(Error::InUse { .. } | Error::NotFound(_) | Error::Busy(_)) => continue,
                Err(error @ (Error::DriverAway { .. } | Error::Driver { .. } | Error::NoDriver(_))) => {
                    tracing::warn!(volume = %name, error = chain(&error), "left an unused volume");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let bytes = foreign.unwrap_or_else(|| trash.size());
            pruned.reclaimed = pruned.reclaimed.saturating_add(bytes);
            pruned.names.push(name);
            delete_later(vec![trash]);
        }
        Ok(pruned)
    }
}

impl State {
    /// A volume's record, if nobody else than one container uses it.
    fn free(&self, name: &Name, except: Option<&ContainerId>) -> Result<crate::volume::Record, Error> {
        let record = self.records.get(name).ok_or_else(|| Error::NotFound(name.to_string()))?;
        let holders = self.usage.holders(name);
        let holders: Vec<String> =
            holders.iter().filter(|holder| Some(*holder) != except).map(ToString::to_string).collect();
        if !holders.is_empty() {
            return Err(Error::InUse { name: name.to_string(), holders });
        }
        if self.visits.contains_key(name) {
            return Err(Error::Busy(name.to_string()));
        }
        Ok(record.clone())
    }

    fn take(&mut self, name: &Name, except: Option<&ContainerId>) -> Result<Trash, Error> {
        self.free(name, except)?;
        self.gone(name)
    }

    fn gone(&mut self, name: &Name) -> Result<Trash, Error> {
        let trash = self.store.remove(name)?;
        self.records.remove(name);
        self.paths.remove(name);
        tracing::debug!(volume = %name, "removed a volume");
        Ok(trash)
    }
}
