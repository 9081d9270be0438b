//! `Create`, `Remove`, `Prune`: networks that people make. A bridge comes with the first container.

use std::collections::BTreeMap;
use std::net::IpAddr;

use davit_proto::id::Name;
use ipnet::IpNet;

use crate::books::Books;
use crate::error::Error;
use crate::filter::Filter;
use crate::ground::{bridge_name, host_ranges, user_of};
use crate::ipam::{self, Range};
use crate::link::{self, Connection};
use crate::network::{Bridge, Driver, LinkName, Network};
use crate::networks::{Networks, Populated};
use crate::sysctl;

/// Smallest packet that a link with IPv6 must carry whole.
const MIN_MTU_IPV6: u32 = 1280;

/// What a network is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: Name,
    /// Its ranges; those of a family that it has and has none of come from the pool.
    pub ranges: Vec<Range>,
    /// IPv6 too.
    pub ipv6: bool,
    /// No way out.
    pub internal: bool,
    /// Name of its bridge; none for one of our choice.
    pub link: Option<LinkName>,
    /// Largest packet; none for the kernel's own choice.
    pub mtu: Option<u32>,
    /// Addresses that no container is given, by what they are kept for.
    pub kept: BTreeMap<String, IpAddr>,
    /// Its containers do not reach each other by it.
    pub isolated: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options as they were given.
    pub options: BTreeMap<String, String>,
}

impl Networks {
    /// Makes a network with a bridge.
    pub fn create(&self, wanted: Wanted) -> Result<Populated, Error> {
        let connection = link::open().map_err(Error::kernel("open a connection for links"))?;
        let host = host_ranges(&connection)?;
        check_ipv6(&wanted)?;
        let mut network = Network::new(wanted.name.clone(), Driver::Bridge, None)?;
        let link = wanted.link.clone().map_or_else(|| bridge_name(&network.id), Ok)?;
        let mut books = self.books();
        if books.named(wanted.name.as_str()).is_some() {
            return Err(Error::Exists(wanted.name.to_string()));
        }
        require_free(&books, &connection, &wanted.name, &link)?;
        // A range that is both has the name that a person knows.
        let taken = [books.ranges(None), host].concat();
        let ranges = choose(&wanted, &taken, (&self.shared().instance, network.id.as_str()))?;
        network.bridge = Some(Bridge {
            internal: wanted.internal,
            mtu: wanted.mtu,
            kept: wanted.kept,
            isolated: wanted.isolated,
            ..Bridge::new(link, ranges)
        });
        network.labels = wanted.labels;
        network.options = wanted.options;
        books.put(network.clone())?;
        Ok(Populated { network, endpoints: Vec::new() })
    }

    /// Removes a network that nobody is on.
    pub fn remove(&self, text: &str) -> Result<(), Error> {
        let mut ground = self.ground();
        let network = {
            let books = self.books();
            let network = books.find(text)?;
            if network.is_built_in() {
                return Err(Error::BuiltIn(network.name.to_string()));
            }
            let holders: Vec<String> = books.members(&network.id).iter().map(ToString::to_string).collect();
            if !holders.is_empty() {
                return Err(Error::InUse { name: network.name.to_string(), holders });
            }
            network.clone()
        };
        ground.remove(&network)?;
        // Looked at again: somebody may have joined meanwhile, who finds or makes the bridge anew.
        self.books().strike(&network.name)
    }

    /// Removes the networks that nobody is on and the filter admits.
    pub fn prune(&self, filter: &Filter) -> Result<Vec<Name>, Error> {
        let unused = self.list().into_iter().filter(|populated| {
            !populated.network.is_built_in() && populated.endpoints.is_empty() && filter.admits(populated)
        });
        let mut removed = Vec::new();
        for Populated { network, .. } in unused {
            match self.remove(network.id.as_str()) {
                Ok(()) => removed.push(network.name),
                // Somebody joined or removed it since it was listed.
                Err(Error::InUse { .. } | Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}

/// The name of a bridge must be neither another network's nor on the host.
fn require_free(
    books: &Books,
    connection: &Connection,
    network: &Name,
    link: &LinkName,
) -> Result<(), Error> {
    let taken = |why| Error::BridgeTaken { link: link.to_string(), network: network.to_string(), why };
    let has_it = |network: &&Network| network.bridge.as_ref().is_some_and(|bridge| bridge.link == *link);
    if let Some(other) = books.networks().find(has_it) {
        return Err(taken(format!("it is the bridge of network {}", other.name)));
    }
    match link::find(connection, link.as_str()).map_err(Error::kernel(format!("look at link {link}")))? {
        Some(_) => Err(taken("the host has a link of that name".to_owned())),
        None => Ok(()),
    }
}

fn check_ipv6(wanted: &Wanted) -> Result<(), Error> {
    if !wanted.ipv6 && wanted.ranges.iter().all(Range::is_ipv4) {
        return Ok(());
    }
    if !sysctl::has_ipv6() {
        return Err(Error::invalid("ipv6", &wanted.name, "cannot be had: this host's kernel has no IPv6"));
    }
    match wanted.mtu {
        Some(mtu) if mtu < MIN_MTU_IPV6 => {
            Err(Error::invalid("mtu", mtu, format!("must be at least {MIN_MTU_IPV6} with IPv6")))
        }
        _ => Ok(()),
    }
}

/// The ranges of a new network: those that were asked for, and one from the pool for a family without.
fn choose(
    wanted: &Wanted,
    taken: &[(IpNet, String)],
    (instance, id): (&str, &str),
) -> Result<Vec<Range>, Error> {
    let refused = |range: String, by: &str| Error::RangeTaken {
        range,
        network: wanted.name.to_string(),
        by: by.to_owned(),
    };
    let mut ranges: Vec<Range> = Vec::new();
    for range in &wanted.ranges {
        if let Some(other) = ranges.iter().find(|other| ipam::overlaps(&other.subnet, &range.subnet)) {
            return Err(Error::invalid("subnet", range.subnet, format!("overlaps {}", other.subnet)));
        }
        if let Some(by) = user_of(&range.subnet, taken) {
            return Err(refused(range.subnet.to_string(), by));
        }
        ranges.push(*range);
    }
    let nets: Vec<IpNet> = taken.iter().map(|(net, _)| *net).chain(ranges.iter().map(|r| r.subnet)).collect();
    let none_left = || refused("of the pool".to_owned(), "others");
    let range = |net| Range::new(net).map_err(|error| Error::invalid("subnet", net, error));
    if !ranges.iter().any(Range::is_ipv4) {
        let free = ipam::free_subnet(ipam::pool(), &nets).ok_or_else(none_left)?;
        ranges.insert(0, range(free)?);
    }
    if wanted.ipv6 && ranges.iter().all(Range::is_ipv4) {
        let free = ipam::free_subnet(ipam::private_pool(instance, id), &nets).ok_or_else(none_left)?;
        ranges.push(range(free)?);
    }
    Ok(ranges)
}
