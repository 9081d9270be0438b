//! `Release`: a container no longer uses its volumes.
//!
//! The volumes go before the record that names them, so that a crash between is repaired by asking again.

use davit_proto::id::ContainerId;

use crate::error::Error;
use crate::volumes::{Volumes, delete_later};

impl Volumes {
    /// Ends all uses of a container, and removes the volumes that it did not name when asked to and nobody else has
    /// them. Once more is no error.
    pub fn release(&self, container_id: &ContainerId, remove_anonymous: bool) -> Result<(), Error> {
        let mut state = self.state();
        let Some(uses) = state.usage.of(container_id).cloned() else { return Ok(()) };
        let mut trash = Vec::new();
        if remove_anonymous {
            for (target, name) in &uses.by_target {
                if uses.called.contains(target) {
                    continue;
                }
                let anonymous = state.records.get(name).is_some_and(|record| record.anonymous);
                let others = state.usage.holders(name).iter().any(|holder| holder != container_id);
                if anonymous && !others {
                    trash.push(state.store.remove(name)?);
                    state.records.remove(name);
                }
            }
        }
        state.usage.forget(container_id)?;
        drop(state);
        delete_later(trash);
        Ok(())
    }
}
