//! Giving addresses and ports: what a container holds after it asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use davit_proto::id::{ContainerId, Name};

use crate::books::Books;
use crate::error::Error;
use crate::holding::{Holding, Lease, Link, NetnsId, Wired};
use crate::ipam;
use crate::mac::Mac;
use crate::network::{Bridge, Network, NetworkId};
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
    /// Wanted address of the other family.
    pub ipv6: Option<Ipv6Addr>,
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

/// The links that everything else leaves a container by, of each family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaysOut {
    /// Of IPv4.
    pub ipv4: Option<String>,
    /// Of IPv6.
    pub ipv6: Option<String>,
}

impl WaysOut {
    /// Whether a link is one of them.
    pub fn leads(&self, interface: &str, ipv4: bool) -> bool {
        let link = if ipv4 { &self.ipv4 } else { &self.ipv6 };
        link.as_deref() == Some(interface)
    }
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

    /// The place that gives a container its way out, of one family: the first one that has one.
    pub fn way_out<'a>(&self, holding: &'a Holding, ipv4: bool) -> Option<&'a Wired> {
        let has_one = |lease: &&Lease| {
            let bridge = self.by_id(&lease.network_id).and_then(|network| network.bridge.as_ref());
            bridge.is_some_and(|bridge| !bridge.internal)
        };
        let wired = holding.leases.iter().filter(has_one).filter_map(|lease| lease.wired.as_ref());
        wired.into_iter().find(|wired| ipv4 || wired.ipv6.is_some())
    }

    /// Its ways out, by the names of their links.
    pub fn ways_out(&self, holding: &Holding) -> WaysOut {
        let link = |ipv4| self.way_out(holding, ipv4).map(|wired| wired.interface.clone());
        WaysOut { ipv4: link(true), ipv6: link(false) }
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
        let wanted = join.ipv4.map(IpAddr::from);
        let IpAddr::V4(ipv4) = self.address((network, bridge), container_id, wanted, true)? else {
            return Err(Error::Exhausted(network.name.to_string()));
        };
        let wanted = join.ipv6.map(IpAddr::from);
        let ipv6 = match bridge.has_ipv6() || wanted.is_some() {
            true => Some(self.address((network, bridge), container_id, wanted, false)?),
            false => None,
        };
        let ipv6 = ipv6.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
        let mac = join.mac.unwrap_or_else(|| Mac::of(ipv4));
        let wired = Wired { ipv4, ipv6, mac, interface: holding.free_interface() };
        Ok(Lease { network_id: network.id.clone(), wired: Some(wired), aliases: join.aliases.clone() })
    }

    /// The address that a container gets on a network, of one family: the wanted one, or the next one that is free.
    fn address(
        &mut self,
        (network, bridge): (&Network, &Bridge),
        container_id: &ContainerId,
        wanted: Option<IpAddr>,
        ipv4: bool,
    ) -> Result<IpAddr, Error> {
        let Some(wanted) = wanted else { return self.next(network, bridge, ipv4) };
        if !bridge.ranges.iter().any(|range| range.is_leasable(wanted)) {
            return Err(Error::invalid(if ipv4 { "ipv4" } else { "ipv6" }, wanted, rule(bridge, ipv4)));
        }
        if let Some(name) = bridge.kept_for(wanted) {
            let rule = format!("is kept for {name:?}");
            return Err(Error::invalid(if ipv4 { "ipv4" } else { "ipv6" }, wanted, rule));
        }
        match self.owner(&network.id, wanted).filter(|owner| *owner != container_id) {
            // Who had it before and is no more answers for it no longer.
            None => self.silence(&network.id, Some(wanted)).map(|()| wanted),
            Some(owner) => Err(Error::AddressTaken {
                address: wanted.to_string(),
                network: network.name.to_string(),
                holder: owner.to_string(),
            }),
        }
    }

    /// The next free address, from the first range that has one.
    fn next(&mut self, network: &Network, bridge: &Bridge, ipv4: bool) -> Result<IpAddr, Error> {
        let at = self.cursor(network, ipv4)?.at();
        let taken = |ip| !self.is_free(&network.id, ip) || bridge.kept_for(ip).is_some();
        let free = bridge.family(ipv4).find_map(|range| ipam::next_free(range, at, taken));
        let ip = free.ok_or_else(|| Error::Exhausted(network.name.to_string()))?;
        self.cursor(network, ipv4)?.set(ipam::after(ip))?;
        Ok(ip)
    }
}

/// What a wanted address must be.
fn rule(bridge: &Bridge, ipv4: bool) -> String {
    let mut hosts = bridge.family(ipv4).map(|range| format!("{} other than {}", range.subnet, range.gateway));
    match hosts.next() {
        Some(first) => {
            hosts.fold(format!("must be a host of {first}"), |rule, next| rule + ", or of " + &next)
        }
        None => "cannot be had: the network has no IPv6".to_owned(),
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
    join.ipv4.is_none_or(|ip| ip == wired.ipv4)
        && join.ipv6.is_none_or(|ip| Some(ip) == wired.ipv6)
        && join.mac.is_none_or(|mac| mac == wired.mac)
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
            has: wired.addresses().map(|ip| format!("{ip}, ")).collect::<String>() + &wired.mac.to_string(),
            wanted: wanted(join),
        }),
        _ => Ok(()),
    }
}

/// What was asked for, as an error says it.
fn wanted(join: &Join) -> String {
    let parts = [
        join.ipv4.map(|ip| ip.to_string()),
        join.ipv6.map(|ip| ip.to_string()),
        join.mac.map(|mac| mac.to_string()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
