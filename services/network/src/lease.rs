//! Giving addresses and ports: what a container holds after it asked.

use std::net::Ipv4Addr;

use davit_proto::id::{ContainerId, Name};

use crate::books::Books;
use crate::error::Error;
use crate::holding::{Holding, Lease, Link, NetnsId, Wired};
use crate::ipam;
use crate::mac::Mac;
use crate::network::{Network, NetworkId};
use crate::port::Wish;

/// Networks that one container may be on.
pub const MAX_NETWORKS: usize = 64;

/// A network that a container wants to join.
#[derive(Debug, Clone)]
pub struct Join {
    /// The network.
    pub network: NetworkId,
    /// Wanted address.
    pub ipv4: Option<Ipv4Addr>,
    /// Wanted hardware address.
    pub mac: Option<Mac>,
    /// Further names.
    pub aliases: Vec<String>,
}

/// Who joins.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The container.
    pub container_id: ContainerId,
    /// Its namespace; none when it shares the host's.
    pub netns: Option<NetnsId>,
    /// Its name; none when it did not say.
    pub name: Option<Name>,
    /// Names that it alone finds others by; none for those that it has.
    pub links: Vec<Link>,
}

/// What was given.
#[derive(Debug, Clone)]
pub struct Given {
    /// All that the container holds now.
    pub holding: Holding,
    /// What a person should know about its ports.
    pub warnings: Vec<String>,
}

impl Books {
    /// Gives a container its place on each network and its ports, and writes that down. Asked again for the same
    /// namespace, it keeps what it has; with a new one it keeps the addresses of what it asks for, in the order that
    /// it asks, and begins anew with its ports.
    pub fn lease(&mut self, holder: &Holder, joins: &[Join], wishes: &[Wish]) -> Result<Given, Error> {
        let Holder { container_id, netns, name, links } = holder;
        let netns = *netns;
        let (mut holding, former) = match self.holding(container_id).cloned() {
            Some(had) if had.netns == netns => (had, Vec::new()),
            Some(had) => (Holding { name: had.name, ..Holding::none(netns) }, had.leases),
            None => (Holding::none(netns), Vec::new()),
        };
        holding.name = name.clone().or(holding.name);
        if !links.is_empty() {
            holding.links.clone_from(links);
        }
        for join in joins {
            let network = self.by_id(&join.network).cloned();
            let network = network.ok_or_else(|| Error::NotFound(join.network.to_string()))?;
            match holding.leases.iter_mut().find(|lease| lease.network_id == network.id) {
                Some(lease) => {
                    same_address(container_id, &network, lease, join)?;
                    lease.aliases.clone_from(&join.aliases);
                }
                None => {
                    let lease = match former.iter().find(|lease| stays(lease, join)) {
                        Some(lease) => again(lease, &holding, join),
                        None => self.place(container_id, &network, &holding, join)?,
                    };
                    holding.leases.push(lease);
                }
            }
        }
        self.goes_together(&holding)?;
        holding.ports = self.retarget(&holding, &holding.ports);
        let (holding, warnings) = self.lead(container_id, holding, wishes)?;
        self.hold(container_id, holding.clone())?;
        Ok(Given { holding, warnings })
    }

    /// The place that gives a container its way out: the first one that has one.
    pub fn way_out<'a>(&self, holding: &'a Holding) -> Option<&'a Wired> {
        let has_one = |lease: &&Lease| {
            let bridge = self.by_id(&lease.network_id).and_then(|network| network.bridge.as_ref());
            bridge.is_some_and(|bridge| !bridge.internal)
        };
        holding.leases.iter().filter(has_one).find_map(|lease| lease.wired.as_ref())
    }

    /// The host's network and none at all are joined alone.
    fn goes_together(&self, holding: &Holding) -> Result<(), Error> {
        let leases = &holding.leases;
        if let Some(alone) = leases.iter().find(|lease| lease.wired.is_none() && leases.len() > 1) {
            let name = self.by_id(&alone.network_id).map_or("", |network| network.name.as_str());
            return Err(Error::invalid("endpoints", name, "cannot be joined together with other networks"));
        }
        if leases.len() > MAX_NETWORKS {
            let rule = format!("at most {MAX_NETWORKS} networks for one container");
            return Err(Error::invalid("endpoints", leases.len(), rule));
        }
        Ok(())
    }

    fn place(
        &mut self,
        container_id: &ContainerId,
        network: &Network,
        holding: &Holding,
        join: &Join,
    ) -> Result<Lease, Error> {
        let Some(bridge) = &network.bridge else {
            return Ok(Lease { network_id: network.id.clone(), wired: None, aliases: join.aliases.clone() });
        };
        let range = bridge.range;
        let ipv4 = match join.ipv4 {
            Some(wanted) if !range.is_leasable(wanted) => {
                let rule = format!("must be a host of {} other than {}", range.subnet, range.gateway);
                return Err(Error::invalid("ipv4", wanted, rule));
            }
            Some(wanted) => match self.owner(&network.id, wanted).filter(|owner| *owner != container_id) {
                Some(owner) => {
                    return Err(Error::AddressTaken {
                        address: wanted.to_string(),
                        network: network.name.to_string(),
                        holder: owner.to_string(),
                    });
                }
                None => wanted,
            },
            None => self.next(network, &range)?,
        };
        let mac = join.mac.unwrap_or_else(|| Mac::of(ipv4));
        let wired = Wired { ipv4, mac, interface: holding.free_interface() };
        Ok(Lease { network_id: network.id.clone(), wired: Some(wired), aliases: join.aliases.clone() })
    }

    fn next(&mut self, network: &Network, range: &ipam::Range) -> Result<Ipv4Addr, Error> {
        let at = self.cursor(network)?.at();
        let ipv4 = ipam::next_free(range, at, |ip| self.owner(&network.id, ip).is_some())
            .ok_or_else(|| Error::Exhausted(network.name.to_string()))?;
        self.cursor(network)?.set(ipam::after(ipv4))?;
        Ok(ipv4)
    }
}

/// Whether a lease of an earlier life fits what is asked for now.
fn stays(lease: &Lease, join: &Join) -> bool {
    join.network == lease.network_id && lease.wired.as_ref().is_none_or(|wired| fits(wired, join))
}

/// A lease of an earlier life in this one.
fn again(lease: &Lease, holding: &Holding, join: &Join) -> Lease {
    let interface = holding.free_interface();
    let wired = lease.wired.clone().map(|wired| Wired { interface, ..wired });
    Lease { wired, aliases: join.aliases.clone(), ..lease.clone() }
}

fn fits(wired: &Wired, join: &Join) -> bool {
    join.ipv4.is_none_or(|ip| ip == wired.ipv4) && join.mac.is_none_or(|mac| mac == wired.mac)
}

fn same_address(
    container_id: &ContainerId,
    network: &Network,
    lease: &Lease,
    join: &Join,
) -> Result<(), Error> {
    match &lease.wired {
        Some(wired) if !fits(wired, join) => Err(Error::OtherAddress {
            container_id: container_id.to_string(),
            network: network.name.to_string(),
            has: format!("{} ({})", wired.ipv4, wired.mac),
            wanted: join.ipv4.map_or_else(|| "another hardware address".to_owned(), |ip| ip.to_string()),
        }),
        _ => Ok(()),
    }
}
