//! What containers stand on: bridges and the firewall, made when the first one needs them, compared afterwards, and
//! never rebuilt.

use std::collections::HashMap;
use std::io;

use ipnet::Ipv4Net;

use crate::error::Error;
use crate::firewall::{self, Firewall};
use crate::ipam::{self, Range};
use crate::link::{self, Connection, Link};
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
    pub others: Vec<(Ipv4Net, String)>,
    /// Another range may be chosen: nobody holds an address, and nobody asked for this one.
    pub movable: bool,
}

impl Ground {
    /// Ground on which nothing was looked at yet.
    pub fn new(firewall: Firewall, instance: &str) -> Self {
        Self { firewall, mark: format!("davit {instance}"), ready: HashMap::new() }
    }

    /// The number of a network's bridge, when it was found right.
    pub fn index(&self, network: &NetworkId) -> Option<u32> {
        self.ready.get(network).copied()
    }

    /// Forgets that a bridge was right.
    pub fn doubt(&mut self, network: &NetworkId) {
        self.ready.remove(network);
    }

    /// Makes sure of a network's bridge and of the firewall. Answers with the range that the network has now, when
    /// that is another one than it had.
    pub fn ensure(&mut self, demand: &Demand) -> Result<Option<Range>, Error> {
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
                let range = self.choose(&connection, demand, bridge)?;
                let moved = Bridge { range, ..bridge.clone() };
                self.admit(&moved)?;
                link::create_bridge(&connection, moved.link.as_str(), Mac::of(range.gateway), &self.mark)
                    .map_err(Error::kernel(format!("make bridge {}", moved.link)))?;
                let made = link::find(&connection, moved.link.as_str()).map_err(asked)?;
                let made = made.ok_or_else(|| asked(io::ErrorKind::NotFound.into()))?;
                self.settle(&connection, network, &moved, made.index)?;
                tracing::info!(bridge = %moved.link, subnet = %range.subnet, "made a bridge");
                Ok((range != bridge.range).then_some(range))
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

    /// A link of the bridge's name must be our bridge with the network's gateway.
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
        let has: Vec<Ipv4Net> =
            addresses.into_iter().filter(|(index, _)| *index == found.index).map(|(_, net)| net).collect();
        let wanted = gateway(&bridge.range);
        // Without any address it was left half made by a crash, and is finished.
        if has.is_empty() || has.contains(&wanted) {
            return Ok(());
        }
        let has = has.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(taken(format!("it has {has} and not {wanted}; remove it with 'ip link delete {}'", bridge.link)))
    }

    /// The range for a bridge that is not there: the network's, unless the host uses it.
    fn choose(&self, connection: &Connection, demand: &Demand, bridge: &Bridge) -> Result<Range, Error> {
        let network = &demand.network;
        let mut taken = host_ranges(connection)?;
        taken.extend(demand.others.iter().cloned());
        let Some(by) = user_of(&bridge.range.subnet, &taken) else { return Ok(bridge.range) };
        let refused = |range: &Ipv4Net, by: &str| Error::RangeTaken {
            range: range.to_string(),
            network: network.name.to_string(),
            by: by.to_owned(),
        };
        if !demand.movable || network.name.as_str() != BRIDGE {
            return Err(refused(&bridge.range.subnet, by));
        }
        let nets: Vec<Ipv4Net> = taken.iter().map(|(net, _)| *net).collect();
        let free = ipam::free_subnet(&nets).ok_or_else(|| refused(&bridge.range.subnet, by))?;
        tracing::warn!(taken = %bridge.range.subnet, %by, instead = %free, "the default network's range is in use");
        Range::new(free).map_err(|error| Error::invalid("subnet", free, error))
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
        sysctl::ipv6_off(bridge.link.as_str()).map_err(failed("switch off IPv6 on"))?;
        // The guard is in place, so the bridge may carry what comes from the host's own loopback.
        sysctl::set_route_localnet(&bridge.link, !bridge.internal)
            .map_err(failed("set route_localnet on"))?;
        link::add_address(connection, index, gateway(&bridge.range))
            .map_err(failed("give its address to"))?;
        link::up(connection, index).map_err(failed("bring up"))?;
        self.ready.insert(network.id.clone(), index);
        Ok(())
    }

    fn admit(&mut self, bridge: &Bridge) -> Result<(), Error> {
        Ok(self.firewall.admit(in_table(bridge))?)
    }
}

/// The ranges that the host has routes or addresses in, and by which link.
pub fn host_ranges(connection: &Connection) -> Result<Vec<(Ipv4Net, String)>, Error> {
    let mut ranges: Vec<(Ipv4Net, String)> = Vec::new();
    let named = |index: Option<u32>| match index {
        Some(index) => format!("link number {index}"),
        None => "a route".to_owned(),
    };
    let routes = link::routes(connection).map_err(Error::kernel("list routes"))?;
    ranges.extend(routes.into_iter().map(|(index, net)| (net, named(index))));
    let addresses = link::addresses(connection).map_err(Error::kernel("list addresses"))?;
    ranges.extend(addresses.into_iter().map(|(index, net)| (net.trunc(), named(Some(index)))));
    Ok(ranges.into_iter().filter(|(net, _)| net.prefix_len() > 0).collect())
}

/// Who uses a range or a part of it.
pub fn user_of<'a>(net: &Ipv4Net, taken: &'a [(Ipv4Net, String)]) -> Option<&'a str> {
    taken.iter().find(|(other, _)| ipam::overlaps(net, other)).map(|(_, by)| by.as_str())
}

fn gateway(range: &Range) -> Ipv4Net {
    Ipv4Net::new(range.gateway, range.subnet.prefix_len())
        .expect("it is the length of a range that was checked")
}

/// A bridge as the firewall has it.
pub fn in_table(bridge: &Bridge) -> firewall::Bridge {
    let subnets = vec![bridge.range.subnet.into()];
    firewall::Bridge { link: bridge.link.clone(), subnets, internal: bridge.internal }
}

/// The name of a new network's bridge, from its id.
pub fn bridge_name(id: &NetworkId) -> Result<LinkName, Error> {
    let digits: String = id.as_str().chars().take(12).collect();
    Ok(format!("dvb{digits}").parse()?)
}
