//! What containers stand on: bridges and the firewall, made when the first one needs them, compared afterwards, and
//! never rebuilt.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Error;
use crate::firewall::{self, Firewall};
use crate::ipam::{self, Range};
use crate::link::{self, Connection, Link, NewBridge};
use crate::mac::Mac;
use crate::network::{BRIDGE, Bridge, LinkName, Network, NetworkId};
use crate::sysctl;

/// The bridges that are known to be right, and the table.
#[derive(Debug)]
pub struct Ground {
    /// The table.
    pub firewall: Firewall,
    /// The note on links that are this engine's.
    mark: String,
    /// Bridges that were found right, by their number.
    ready: HashMap<NetworkId, u32>,
}

/// What the rest of the engine says about a network whose bridge is wanted.
#[derive(Debug, Clone)]
pub struct Demand {
    /// The network.
    pub network: Network,
    /// Ranges of the other networks, and whose they are.
    pub others: Vec<(IpNet, String)>,
    /// Another range may be chosen: nobody holds an address, and nobody asked for this one.
    pub movable: bool,
}

impl Ground {
    /// Ground on which nothing was looked at yet.
    pub fn new(firewall: Firewall, instance: &str) -> Self {
        Self { firewall, mark: mark(instance), ready: HashMap::new() }
    }

    /// The number of a network's bridge, when it was found right.
    pub fn index(&self, network: &NetworkId) -> Option<u32> {
        self.ready.get(network).copied()
    }

    /// Forgets that a bridge was right.
    pub fn doubt(&mut self, network: &NetworkId) {
        self.ready.remove(network);
    }

    /// Makes sure of a network's bridge and of the firewall. Answers with the ranges that the network has now,
    /// when those are others than it had.
    pub fn ensure(&mut self, demand: &Demand) -> Result<Option<Vec<Range>>, Error> {
        let network = &demand.network;
        let Some(bridge) = &network.bridge else { return Ok(None) };
        if self.index(&network.id).is_some() && self.firewall.is_loaded() {
            return Ok(None);
        }
        let asked = |source| Error::Kernel { what: format!("look at bridge {}", bridge.link), source };
        let connection = link::open().map_err(asked)?;
        match link::find(&connection, bridge.link.as_str()).map_err(asked)? {
            Some(found) => {
                self.compare(&connection, network, bridge, &found)?;
                self.settle(&connection, network, bridge, found.index)?;
                Ok(None)
            }
            None => {
                let ranges = self.choose(&connection, demand, bridge)?;
                let moved = Bridge { ranges, ..bridge.clone() };
                self.admit(&moved)?;
                let new = NewBridge {
                    name: moved.link.as_str(),
                    mac: mac(&moved)?,
                    alias: &self.mark,
                    mtu: moved.mtu,
                };
                link::create_bridge(&connection, &new)
                    .map_err(Error::kernel(format!("make bridge {}", moved.link)))?;
                let made = link::find(&connection, moved.link.as_str()).map_err(asked)?;
                let made = made.ok_or_else(|| asked(io::ErrorKind::NotFound.into()))?;
                self.settle(&connection, network, &moved, made.index)?;
                tracing::info!(bridge = %moved.link, subnets = shown(gateways(&moved)), "made a bridge");
                Ok((moved.ranges != bridge.ranges).then_some(moved.ranges))
            }
        }
    }

    /// Takes a network's bridge away, when it is ours.
    pub fn remove(&mut self, network: &Network) -> Result<(), Error> {
        let Some(bridge) = &network.bridge else { return Ok(()) };
        self.ready.remove(&network.id);
        let failed = || Error::kernel(format!("remove bridge {}", bridge.link));
        let connection = link::open().map_err(failed())?;
        match link::find(&connection, bridge.link.as_str()).map_err(failed())? {
            Some(found) if found.alias == self.mark => {
                link::remove(&connection, found.index).map_err(failed())?
            }
            _ => {}
        }
        Ok(self.firewall.dismiss(&in_table(bridge))?)
    }

    /// A link of the bridge's name must be our bridge with the network's gateways.
    fn compare(
        &self,
        connection: &Connection,
        network: &Network,
        bridge: &Bridge,
        found: &Link,
    ) -> Result<(), Error> {
        let taken = |why: String| Error::BridgeTaken {
            link: bridge.link.to_string(),
            network: network.name.to_string(),
            why,
        };
        if found.kind != "bridge" || found.alias != self.mark {
            let kind = if found.kind.is_empty() { "link" } else { &found.kind };
            return Err(taken(format!("it is a {kind} that this engine did not make; choose another name")));
        }
        let addresses = link::addresses(connection).map_err(Error::kernel("list addresses"))?;
        let of_link =
            addresses.into_iter().filter(|(index, net)| *index == found.index && !is_automatic(net));
        let has: Vec<IpNet> = of_link.map(|(_, net)| net).collect();
        // Without any address, or with some, it was left half made by a crash, and is finished.
        if has.is_empty() || gateways(bridge).any(|wanted| has.contains(&wanted)) {
            return Ok(());
        }
        let (has, wanted) = (shown(has.into_iter()), shown(gateways(bridge)));
        Err(taken(format!("it has {has} and not {wanted}; remove it with 'ip link delete {}'", bridge.link)))
    }

    /// The ranges for a bridge that is not there: the network's, unless the host uses one of them.
    fn choose(&self, connection: &Connection, demand: &Demand, bridge: &Bridge) -> Result<Vec<Range>, Error> {
        let network = &demand.network;
        let mut taken = host_ranges(connection)?;
        taken.extend(demand.others.iter().cloned());
        let used = |range: &Range| Some((range.subnet, user_of(&range.subnet, &taken)?));
        let Some((range, by)) = bridge.ranges.iter().find_map(used) else { return Ok(bridge.ranges.clone()) };
        let refused = || Error::RangeTaken {
            range: range.to_string(),
            network: network.name.to_string(),
            by: by.to_owned(),
        };
        if !demand.movable || network.name.as_str() != BRIDGE {
            return Err(refused());
        }
        let nets: Vec<IpNet> = taken.iter().map(|(net, _)| *net).collect();
        let free = ipam::free_subnet(ipam::pool(), &nets).ok_or_else(refused)?;
        tracing::warn!(taken = %range, %by, instead = %free, "the default network's range is in use");
        let free = Range::new(free).map_err(|error| Error::invalid("subnet", free, error))?;
        Ok(vec![free])
    }

    fn settle(
        &mut self,
        connection: &Connection,
        network: &Network,
        bridge: &Bridge,
        index: u32,
    ) -> Result<(), Error> {
        let failed = |what: &str| Error::kernel(format!("{what} bridge {}", bridge.link));
        self.admit(bridge)?;
        if bridge.has_ipv6() {
            sysctl::ipv6_on(bridge.link.as_str()).map_err(failed("switch on IPv6 on"))?;
        } else {
            sysctl::ipv6_off(bridge.link.as_str()).map_err(failed("switch off IPv6 on"))?;
        }
        // The guard is in place, so the bridge may carry what comes from the host's own loopback.
        sysctl::set_route_localnet(&bridge.link, !bridge.internal)
            .map_err(failed("set route_localnet on"))?;
        for gateway in gateways(bridge) {
            link::add_address(connection, index, gateway).map_err(failed("give its address to"))?;
        }
        link::up(connection, index).map_err(failed("bring up"))?;
        self.ready.insert(network.id.clone(), index);
        Ok(())
    }

    fn admit(&mut self, bridge: &Bridge) -> Result<(), Error> {
        Ok(self.firewall.admit(in_table(bridge))?)
    }
}

/// The note on links that are an engine's.
pub fn mark(instance: &str) -> String {
    format!("davit {instance}")
}

/// The ranges that the host has routes or addresses in, and by which link.
pub fn host_ranges(connection: &Connection) -> Result<Vec<(IpNet, String)>, Error> {
    let mut ranges: Vec<(IpNet, String)> = Vec::new();
    let named = |index: Option<u32>| match index {
        Some(index) => match link::name(index) {
            Ok(name) => format!("link {name}"),
            // It went meanwhile.
            Err(_) => format!("link number {index}"),
        },
        None => "a route".to_owned(),
    };
    let routes = link::routes(connection).map_err(Error::kernel("list routes"))?;
    ranges.extend(routes.into_iter().map(|(index, net)| (net, named(index))));
    let addresses = link::addresses(connection).map_err(Error::kernel("list addresses"))?;
    ranges.extend(addresses.into_iter().map(|(index, net)| (net.trunc(), named(Some(index)))));
    Ok(ranges.into_iter().filter(|(net, _)| net.prefix_len() > 0).collect())
}

/// Who uses a range or a part of it.
pub fn user_of<'a>(net: &IpNet, taken: &'a [(IpNet, String)]) -> Option<&'a str> {
    taken.iter().find(|(other, _)| ipam::overlaps(net, other)).map(|(_, by)| by.as_str())
}

fn gateways(bridge: &Bridge) -> impl Iterator<Item = IpNet> {
    bridge.ranges.iter().map(Range::gateway_net)
}

/// What the kernel gives a link by itself.
fn is_automatic(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

/// A bridge's hardware address goes with its first gateway, so that caches of neighbours stay right when it comes back.
fn mac(bridge: &Bridge) -> Result<Mac, Error> {
    match bridge.family(true).next().map(|range| range.gateway) {
        Some(IpAddr::V4(gateway)) => Ok(Mac::of(gateway)),
        _ => Err(Error::invalid("subnet", &bridge.link, "has no range of IPv4 in its record")),
    }
}

fn shown(nets: impl Iterator<Item = IpNet>) -> String {
    nets.map(|net| net.to_string()).collect::<Vec<_>>().join(", ")
}

/// A bridge as the firewall has it.
pub fn in_table(bridge: &Bridge) -> firewall::Bridge {
    let subnets = bridge.ranges.iter().map(|range| range.subnet).collect();
    firewall::Bridge { link: bridge.link.clone(), subnets, internal: bridge.internal }
}

/// The name of a new network's bridge, from its id.
pub fn bridge_name(id: &NetworkId) -> Result<LinkName, Error> {
    let digits: String = id.as_str().chars().take(12).collect();
    Ok(format!("dvb{digits}").parse()?)
}
