//! `Publish`: which ports of the host lead to a container, these and no others.
//!
//! Order: the lease file, then the firewall in one transaction, then the flows of what goes. A crash between is made up
//! for by asking again, and by the start of the service, which loads what the files say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use davit_proto::id::ContainerId;

use crate::books::Books;
use crate::error::Error;
use crate::holding::Holding;
use crate::networks::Networks;
use crate::port::{Publication, Wish};

/// What a person is told whose ports lead nowhere.
const NO_ADDRESS: &str = "no port is published: the container has no address of its own";

impl Networks {
    /// Says which ports lead to a container; answers with what a person should know.
    pub fn publish(&self, container_id: &ContainerId, wishes: &[Wish]) -> Result<Vec<String>, Error> {
        let _turn = self.turn(container_id);
        let (had, now, mut warnings) = {
            let mut books = self.books();
            let Some(had) = books.holding(container_id).cloned() else {
                // It left its last network: its ports are led when it joins one again.
                let warning = wishes.first().map(|_| NO_ADDRESS.to_owned());
                return Ok(warning.into_iter().collect());
            };
            let none = Holding { ports: Vec::new(), ..had.clone() };
            let (holding, warnings) = books.lead(container_id, none, wishes)?;
            let now = holding.ports.clone();
            books.hold(container_id, holding)?;
            (had, now, warnings)
        };
        let but = |ports: &[Publication], others: &[Publication]| -> Vec<Publication> {
            ports.iter().filter(|port| !others.contains(port)).copied().collect()
        };
        let (gone, fresh) = (but(&had.ports, &now), but(&now, &had.ports));
        let mut ground = self.ground();
        if let Err(error) = ground.firewall.change(&gone, &now) {
            drop(ground);
            self.books().hold(container_id, had)?;
            return Err(error.into());
        }
        if !fresh.is_empty() {
            warnings.extend(ground.firewall.foreign_drops());
        }
        drop(ground);
        if !(gone.is_empty() && fresh.is_empty()) {
            self.shared().sweep.released(&gone, std::iter::empty());
        }
        Ok(warnings)
    }
}

impl Books {
    /// A holding with further ports, led to the container's first address of each family, and what a person should know
    /// of those that lead nowhere.
    pub fn lead(
        &self,
        container_id: &ContainerId,
        mut holding: Holding,
        wishes: &[Wish],
    ) -> Result<(Holding, Vec<String>), Error> {
        let (ipv4, ipv6) = self.targets(&holding);
        let mut warnings = Vec::new();
        if ipv4.is_none() && ipv6.is_none() && !wishes.is_empty() {
            warnings.push(NO_ADDRESS.to_owned());
            return Ok((holding, warnings));
        }
        for wish in wishes {
            let led = wish.lead(ipv4, ipv6);
            if led.is_empty() && wish.ip != Some(Ipv6Addr::LOCALHOST.into()) {
                let family = if wish.ip.is_some_and(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" };
                warnings.push(format!("port {wish} is not published: the container has no {family} address"));
            }
            for port in led {
                if let Some(owner) = self.publisher(&port, container_id) {
                    return Err(Error::PortTaken { port: wish.to_string(), holder: owner.to_string() });
                }
                let same = |other: &&Publication| other.host.ip == port.host.ip && other.clashes(&port);
                match holding.ports.iter().find(same) {
                    None => holding.ports.push(port),
                    Some(other) if *other == port => {}
                    Some(other) => {
                        let rule = format!("leads to {} already", other.target);
                        return Err(Error::invalid("ports", wish, rule));
                    }
                }
            }
        }
        Ok((holding, warnings))
    }

    /// Ports, led to where they lead to in this holding: answers leave from there, so they go back as they came. Those
    /// of a family that it has no address of are left out.
    pub fn retarget(&self, holding: &Holding, ports: &[Publication]) -> Vec<Publication> {
        let (ipv4, ipv6) = self.targets(holding);
        let led = |port: &Publication| {
            let ip = if port.target.is_ipv4() { ipv4.map(IpAddr::from) } else { ipv6.map(IpAddr::from) };
            Some(Publication { target: SocketAddr::new(ip?, port.target.port()), ..*port })
        };
        ports.iter().filter_map(led).collect()
    }

    /// Where a container's ports lead: to its first address of each family, on a network that has a way out where there
    /// is one.
    fn targets(&self, holding: &Holding) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let place = |ipv4| {
            let mut any = holding.leases.iter().filter_map(|lease| lease.wired.as_ref());
            self.way_out(holding, ipv4).or_else(|| any.find(|wired| ipv4 || wired.ipv6.is_some()))
        };
        (place(true).map(|wired| wired.ipv4), place(false).and_then(|wired| wired.ipv6))
    }
}
