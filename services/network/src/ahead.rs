//! Namespaces that were wired before anybody said whose they are. Nothing has run in them, so what was made there is
//! there still; only the host's ends may have changed, by a bridge that somebody took away.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use davit_proto::id::ContainerId;

use crate::error::Error;
use crate::holding::{NetnsId, Wired};
use crate::link;
use crate::networks::{Endpoint, Networks};
use crate::pair::host_names;

/// What this process wired for containers that have no name yet.
#[derive(Debug, Default)]
pub struct Ahead {
    all: Mutex<HashMap<ContainerId, (NetnsId, Vec<Wired>)>>,
}

impl Ahead {
    /// A namespace was wired, and its container has no name.
    pub fn note(&self, container_id: &ContainerId, netns: NetnsId, endpoints: &[Endpoint]) {
        self.lock().insert(container_id.clone(), (netns, places(endpoints)));
    }

    /// From now on something may run there.
    pub fn take(&self, container_id: &ContainerId) -> Option<(NetnsId, Vec<Wired>)> {
        self.lock().remove(container_id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, (NetnsId, Vec<Wired>)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn places(endpoints: &[Endpoint]) -> Vec<Wired> {
    endpoints.iter().filter_map(|endpoint| endpoint.lease.wired.clone()).collect()
}

impl Networks {
    /// Whether a container has these places already, since before it had a name. Asked once: the next call looks at
    /// everything again.
    pub fn was_wired_ahead(
        &self,
        container_id: &ContainerId,
        netns: NetnsId,
        endpoints: &[Endpoint],
    ) -> Result<bool, Error> {
        let Some((of, had)) = self.shared().ahead.take(container_id) else { return Ok(false) };
        if of != netns || had.is_empty() || had != places(endpoints) {
            return Ok(false);
        }
        let failed = || Error::kernel(format!("look at the links of container {container_id}"));
        let host = link::open().map_err(failed())?;
        for endpoint in endpoints {
            let id = &endpoint.network.id;
            let mut names = host_names(&self.shared().instance, container_id, id);
            let found = names.next().map(|name| link::find(&host, &name)).transpose().map_err(failed())?;
            let bridge = self.ground().index(id);
            let in_place = |link: link::Link| link.up && link.master.is_some() && link.master == bridge;
            if !found.flatten().is_some_and(in_place) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
