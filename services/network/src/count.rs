//! What passed through containers' interfaces, for whoever inspects a network. Nobody else pays for it: the kernel
//! counts anyway.

use crate::error::Error;
use crate::link::{self, Traffic};
use crate::networks::{Endpoint, Networks, Populated};
use crate::pair::host_names;

impl Networks {
    /// One network by what a person calls it, with what passed through each interface.
    pub fn inspect(&self, text: &str) -> Result<Populated, Error> {
        let mut populated = self.look_up(text)?;
        if populated.endpoints.iter().any(|endpoint| endpoint.lease.wired.is_some()) {
            let host = link::open().map_err(Error::kernel("open a connection for links"))?;
            for endpoint in &mut populated.endpoints {
                endpoint.traffic = self.count(&host, endpoint)?;
            }
        }
        Ok(populated)
    }

    /// From the host's end, which cannot be hidden from us, and so with the directions exchanged.
    fn count(&self, host: &link::Connection, endpoint: &Endpoint) -> Result<Option<Traffic>, Error> {
        if endpoint.lease.wired.is_none() {
            return Ok(None);
        }
        for name in host_names(&self.shared().instance, &endpoint.container_id, &endpoint.network.id) {
            let counted = link::traffic(host, &name);
            let failed =
                Error::kernel(format!("count what passed through the link of {}", endpoint.container_id));
            if let Some(traffic) = counted.map_err(failed)? {
                return Ok(Some(traffic.mirrored()));
            }
        }
        Ok(None)
    }
}
