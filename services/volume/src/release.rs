//! `Release`: a container no longer uses its volumes.
//!
//! The volumes go before the record that names them, so that a crash between is repaired by asking again. What a driver
//! holds for it goes after: a driver that is away keeps nobody from being removed.

use std::collections::BTreeSet;

use davit_proto::id::{ContainerId, Name};
use davit_proto::status::chain;

use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::volumes::Volumes;

impl Volumes {
    /// Ends all uses of a container, and removes the volumes that it did not name when asked to and nobody else has
    /// them. Once more is no error.
    pub fn release(&self, container_id: &ContainerId, remove_anonymous: bool) -> Result<(), Error> {
        let uses = self.state().usage.of(container_id).cloned();
        let Some(uses) = uses else { return Ok(()) };
        if remove_anonymous {
            for (target, name) in &uses.by_target {
                if !uses.called.contains(target) && self.goes_with(name, container_id) {
                    self.discard(name, container_id)?;
                }
            }
        }
        pass(failpoint::DISCARDED)?;
        self.state().usage.forget(container_id)?;
        let names: BTreeSet<&Name> = uses.by_target.values().collect();
        self.settle(names, container_id.as_str());
        Ok(())
    }

    /// Ends a container's use of what it called by name and sees at some paths. What it did not name stays its own until
    /// its end. Once more is no error.
    pub fn release_at(&self, container_id: &ContainerId, targets: &[String]) -> Result<(), Error> {
        let mut state = self.state();
        let Some(mut uses) = state.usage.of(container_id).cloned() else { return Ok(()) };
        let mut gone = BTreeSet::new();
        for target in targets {
            if uses.called.remove(target) {
                gone.extend(uses.by_target.remove(target));
            }
        }
        gone.retain(|name| !uses.by_target.values().any(|used| used == name));
        state.usage.record(container_id, uses)?;
        drop(state);
        self.settle(&gone, container_id.as_str());
        Ok(())
    }

    fn goes_with(&self, name: &Name, container_id: &ContainerId) -> bool {
        let state = self.state();
        let anonymous = state.records.get(name).is_some_and(|record| record.anonymous);
        anonymous && !state.usage.holders(name).iter().any(|holder| holder != container_id)
    }

    /// Removes a container's own volume. One whose driver is away stays, unused, for a prune.
    fn discard(&self, name: &Name, container_id: &ContainerId) -> Result<(), Error> {
        match self.take(name, Some(container_id)) {
            Ok(trash) => crate::volumes::delete_later(vec![trash]),
            Err(Error::NotFound(_) | Error::InUse { .. } | Error::Busy(_)) => {}
            Err(error @ (Error::DriverAway { .. } | Error::Driver { .. } | Error::NoDriver(_))) => {
                tracing::warn!(volume = %name, error = chain(&error), "left a volume without a name");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
