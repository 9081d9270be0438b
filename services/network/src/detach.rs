//! `Detach`: a container leaves one of its networks and goes on.
//!
//! Order: published ports first lead to where they lead to afterwards, then the link goes, and its address comes free
//! when it is gone. The next network in order that has a way out becomes the way out; ports lead to its address, and
//! nowhere when there is none. Whatever a crash cuts off is finished by asking again, or undone by Attach.

use davit_proto::id::ContainerId;

use crate::error::Error;
use crate::holding::{Holding, Wired};
use crate::netns::{Netns, Reference};
use crate::network::{Bridge, NetworkId};
use crate::networks::Networks;
use crate::port::Publication;

/// Which network a container leaves.
#[derive(Debug, Clone)]
pub struct Request {
    /// The container.
    pub container_id: ContainerId,
    /// The network: its name, or its id.
    pub network: String,
    /// The container's namespace; none when it has none any more.
    pub netns: Option<Reference>,
}

impl Networks {
    /// Takes a network from a container. One that it is not on is no error.
    pub fn detach(&self, request: &Request) -> Result<(), Error> {
        let container_id = &request.container_id;
        let _turn = self.turn(container_id);
        self.shared().ahead.take(container_id);
        let network = self.books().of_container(&request.network)?.id.clone();
        let Some(had) = self.books().holding(container_id).cloned() else { return Ok(()) };
        let Some(lease) = had.on(&network).cloned() else { return Ok(()) };
        if had.netns.is_none() {
            return Err(Error::invalid("network", &request.network, "is the host's own and cannot be left"));
        }
        let left = self.turn_ports_away(container_id, &had, &network)?;
        if lease.wired.is_some() {
            self.unplug(container_id, &network)?;
            self.take_over(request, (&had, &left))?;
        }
        let mut books = self.books();
        if left.leases.is_empty() {
            books.forget(container_id)?;
        } else {
            books.hold(container_id, left)?;
        }
        books.silenced(&network, lease.wired.iter().flat_map(Wired::addresses));
        drop(books);
        self.tell_names(container_id)?;
        self.shared().sweep.released(&had.ports, lease.wired.iter().flat_map(Wired::addresses));
        Ok(())
    }

    /// Leads published ports to what the container has without a network. Answers with what it holds then; the
    /// books keep the lease until its link is gone.
    fn turn_ports_away(
        &self,
        container_id: &ContainerId,
        had: &Holding,
        network: &NetworkId,
    ) -> Result<Holding, Error> {
        let mut left = had.clone();
        left.leases.retain(|lease| lease.network_id != *network);
        left.ports = self.books().retarget(&left, &had.ports);
        if left.ports != had.ports {
            let gone: Vec<Publication> =
                had.ports.iter().filter(|port| !left.ports.contains(port)).copied().collect();
            self.ground().firewall.change(&gone, &left.ports)?;
            self.books().hold(container_id, Holding { ports: left.ports.clone(), ..had.clone() })?;
        }
        Ok(left)
    }

    /// The way out that went with a link is given by the next network that has one, in each family.
    fn take_over(&self, request: &Request, (had, left): (&Holding, &Holding)) -> Result<(), Error> {
        let next: Vec<(bool, Bridge, Wired)> = {
            let books = self.books();
            let next = |ipv4| {
                let next = books.way_out(left, ipv4)?;
                let of = left.leases.iter().find(|lease| lease.wired.as_ref() == Some(next))?;
                let went = books.way_out(had, ipv4) != Some(next);
                went.then_some((ipv4, books.by_id(&of.network_id)?.bridge.clone()?, next.clone()))
            };
            [true, false].into_iter().filter_map(next).collect()
        };
        let Some(reference) = request.netns.filter(|_| !next.is_empty()) else { return Ok(()) };
        let netns = match Netns::open(reference) {
            // Who has no namespace any more needs no way out of it.
            Err(error) if error.says_gone() => return Ok(()),
            other => other?,
        };
        next.iter().try_for_each(|(ipv4, bridge, wired)| self.lead_out(&netns, bridge, wired, *ipv4))
    }
}
