//! `Release`: all that a container holds comes free. Called when its namespace is gone, which took the links with it:
//! nothing is deleted one by one.

use davit_proto::id::ContainerId;

use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::holding::Wired;
use crate::networks::Networks;

impl Networks {
    /// Frees all of a container. The kernel forgets before the record does, so that a crash between is repaired by
    /// asking again. Once more is no error.
    pub fn release(&self, container_id: &ContainerId) -> Result<(), Error> {
        let _turn = self.turn(container_id);
        self.release_in_turn(container_id)
    }

    /// The same, for whoever has the container's turn.
    pub fn release_in_turn(&self, container_id: &ContainerId) -> Result<(), Error> {
        self.shared().ahead.take(container_id);
        let Some(holding) = self.books().holding(container_id).cloned() else {
            // A crash may have cut off what follows below.
            return self.tell_names(container_id);
        };
        self.ground().firewall.withdraw(&holding.ports)?;
        pass(failpoint::WITHDRAWN)?;
        self.books().forget(container_id)?;
        pass(failpoint::FORGOTTEN)?;
        self.tell_names(container_id)?;
        let addresses = holding.leases.iter().filter_map(|lease| lease.wired.as_ref());
        self.shared().sweep.released(&holding.ports, addresses.flat_map(Wired::addresses));
        Ok(())
    }
}
