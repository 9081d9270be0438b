//! From the wire: everything is checked here, once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use davit_proto::id::Name;
use davit_proto::network::{
    AttachRequest, CreateRequest, DetachRequest, EndpointRequest, NameLink, PublishedPort, Subnet,
};
use davit_proto::types::Filter as WireFilter;
use ipnet::IpNet;

use crate::attach::{Request, Wanted as WantedEndpoint};
use crate::create::Wanted;
use crate::detach;
use crate::error::Error;
use crate::filter::Filter;
use crate::holding::{Link, NetnsId};
use crate::ipam::Range;
use crate::lease::MAX_NETWORKS;
use crate::netns::Reference;
use crate::network::LinkName;
use crate::port::Wish;

/// Ports that one container may publish.
const MAX_PORTS: usize = 1 << 16;
/// Further names that one container may have on a network.
const MAX_ALIASES: usize = 64;
/// Names that one container alone may find others by.
const MAX_LINKS: usize = 256;
/// Ranges that one network may have.
const MAX_SUBNETS: usize = 64;
/// Addresses that one network may keep from containers.
const MAX_KEPT: usize = 256;
/// Largest packets that a link can be told.
const MTU: RangeInclusive<u32> = 68..=65535;
/// Bytes that all labels of a network may have together.
const MAX_LABELS: usize = 256 << 10;

pub fn attach(request: AttachRequest) -> Result<Request, Error> {
    bounded("endpoints", request.endpoints.len(), MAX_NETWORKS)?;
    bounded("links", request.links.len(), MAX_LINKS)?;
    let container_id = request.container_id.parse()?;
    let netns = netns(request.netns_pid, request.netns_fd, request.netns_inode)?;
    let endpoints = request.endpoints.into_iter().map(endpoint).collect::<Result<_, Error>>()?;
    let ports = wishes(&request.ports)?;
    let name = Some(request.container_name).filter(|name| !name.is_empty());
    let name = name.map(|name| name.parse()).transpose()?;
    let links = request.links.into_iter().map(link).collect::<Result<_, Error>>()?;
    Ok(Request { container_id, name, links, netns, endpoints, ports })
}

fn link(wire: NameLink) -> Result<Link, Error> {
    Ok(Link { name: wire.name.parse()?, container_id: wire.container_id.parse()? })
}

pub fn detach(request: DetachRequest) -> Result<detach::Request, Error> {
    Ok(detach::Request {
        container_id: request.container_id.parse()?,
        network: request.network,
        netns: netns(request.netns_pid, request.netns_fd, request.netns_inode)?,
    })
}

fn netns(pid: i32, fd: i32, inode: u64) -> Result<Option<Reference>, Error> {
    if pid == 0 {
        return Ok(None);
    }
    let pid = u32::try_from(pid).map_err(|_| Error::invalid("netns_pid", pid, "must be positive"))?;
    let fd = u32::try_from(fd).map_err(|_| Error::invalid("netns_fd", fd, "must not be negative"))?;
    Ok(Some(Reference { id: NetnsId { pid, inode }, fd }))
}

fn endpoint(wire: EndpointRequest) -> Result<WantedEndpoint, Error> {
    bounded("aliases", wire.aliases.len(), MAX_ALIASES)?;
    for alias in &wire.aliases {
        alias.parse::<Name>()?;
    }
    let mac = match wire.mac.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| Error::invalid("mac", text, error))?),
    };
    Ok(WantedEndpoint {
        network: wire.network,
        ipv4: address("ipv4", &wire.ipv4)?,
        ipv6: address("ipv6", &wire.ipv6)?,
        mac,
        aliases: wire.aliases,
    })
}

/// Ports, those in a row as one.
pub fn wishes(ports: &[PublishedPort]) -> Result<Vec<Wish>, Error> {
    bounded("ports", ports.len(), MAX_PORTS)?;
    let wishes = ports.iter().map(port).collect::<Result<Vec<_>, _>>()?;
    Ok(Wish::in_rows(wishes))
}

fn port(wire: &PublishedPort) -> Result<Wish, Error> {
    Wish::parse(&wire.host_ip, wire.host_port, wire.container_port, &wire.protocol)
}

pub fn wanted(request: CreateRequest) -> Result<Wanted, Error> {
    let name: Name = request.name.parse()?;
    if !matches!(request.driver.as_str(), "" | "bridge") {
        return Err(Error::Unserved { what: "network driver", value: request.driver });
    }
    bounded("subnets", request.subnets.len(), MAX_SUBNETS)?;
    let options: BTreeMap<String, String> = request.options.into_iter().collect();
    let BridgeOptions { link, mtu, isolated } = bridge_options(&options)?;
    let ranges = request.subnets.iter().filter_map(|subnet| range(subnet).transpose());
    let ranges = ranges.collect::<Result<Vec<_>, Error>>()?;
    Ok(Wanted {
        name,
        kept: kept(&request.subnets, &ranges)?,
        ranges,
        ipv6: request.ipv6,
        internal: request.internal,
        link,
        mtu,
        isolated,
        labels: labels(request.labels.into_iter().collect())?,
        options,
    })
}

/// Addresses that are kept from containers, each of one of the ranges.
fn kept(subnets: &[Subnet], ranges: &[Range]) -> Result<BTreeMap<String, IpAddr>, Error> {
    let mut kept = BTreeMap::new();
    for (name, text) in subnets.iter().flat_map(|subnet| &subnet.aux_addresses) {
        let address: Option<IpAddr> = text.parse().ok();
        let address = address.filter(|ip| ranges.iter().any(|range| range.is_leasable(*ip)));
        let address =
            address.ok_or_else(|| Error::invalid("aux_addresses", text, "must be a host of its subnet"))?;
        kept.insert(name.clone(), address);
    }
    bounded("aux_addresses", kept.len(), MAX_KEPT)?;
    Ok(kept)
}

/// What of a bridge the options choose.
#[derive(Debug, Default)]
struct BridgeOptions {
    link: Option<LinkName>,
    mtu: Option<u32>,
    isolated: bool,
}

/// Reads options by docker's names, or by their short forms.
fn bridge_options(options: &BTreeMap<String, String>) -> Result<BridgeOptions, Error> {
    let mut chosen = BridgeOptions::default();
    let mut seen = Vec::new();
    for (key, value) in options {
        let short = match key.as_str() {
            "com.docker.network.bridge.name" | "name" => "name",
            "com.docker.network.driver.mtu" | "mtu" => "mtu",
            "com.docker.network.bridge.enable_icc" | "icc" => "icc",
            _ => {
                let rule = "is not served; those that are: com.docker.network.bridge.name (or name), \
                            com.docker.network.driver.mtu (or mtu), com.docker.network.bridge.enable_icc (or icc)";
                return Err(Error::invalid("option", key, rule));
            }
        };
        if seen.contains(&short) {
            return Err(Error::invalid("option", key, "is given twice, once by its short form"));
        }
        seen.push(short);
        match short {
            "name" => chosen.link = Some(value.parse()?),
            "mtu" => {
                let number = value.parse().ok().filter(|mtu| MTU.contains(mtu));
                let rule = || format!("must be between {} and {}", MTU.start(), MTU.end());
                chosen.mtu = Some(number.ok_or_else(|| Error::invalid("mtu", value, rule()))?);
            }
            _ => {
                chosen.isolated =
                    !truth(value).ok_or_else(|| Error::invalid("icc", value, "must be true or false"))?
            }
        }
    }
    Ok(chosen)
}

/// Docker's words for yes and no.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A subnet without a range stands for one from the pool.
fn range(subnet: &Subnet) -> Result<Option<Range>, Error> {
    if subnet.cidr.is_empty() {
        for (field, value) in [("gateway", &subnet.gateway), ("ip_range", &subnet.ip_range)] {
            if !value.is_empty() {
                return Err(Error::invalid(field, value, "wants a subnet that it is in"));
            }
        }
        return Ok(None);
    }
    let invalid = |error| Error::invalid("subnet", &subnet.cidr, error);
    let mut range = Range::new(net("subnet", &subnet.cidr)?).map_err(invalid)?;
    if !subnet.gateway.is_empty() {
        let gateway = subnet.gateway.parse();
        range.gateway =
            gateway.map_err(|_| Error::invalid("gateway", &subnet.gateway, "must be an IP address"))?;
    }
    if !subnet.ip_range.is_empty() {
        range.part = Some(net("ip_range", &subnet.ip_range)?.trunc());
    }
    range.checked().map(Some).map_err(invalid)
}

fn net(field: &'static str, text: &str) -> Result<IpNet, Error> {
    text.parse().map_err(|_| Error::invalid(field, text, "must be a range like 172.20.0.0/16 or fd00:1::/64"))
}

fn address<T: FromStr>(field: &'static str, text: &str) -> Result<Option<T>, Error> {
    let rule = if field == "ipv4" { "must be an IPv4 address" } else { "must be an IPv6 address" };
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Error::invalid(field, text, rule)),
    }
}

fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    if let Some(key) = labels.keys().find(|key| key.is_empty() || key.contains(['=', '\n', '\0'])) {
        return Err(Error::invalid(
            "label",
            key,
            "a label's name may not be empty or hold '=', newline or NUL",
        ));
    }
    bounded("labels", labels.iter().map(|(key, value)| key.len() + value.len()).sum(), MAX_LABELS)?;
    Ok(labels)
}

pub fn filter(conditions: Vec<WireFilter>) -> Result<Filter, Error> {
    Filter::parse(conditions.into_iter().map(|condition| (condition.key, condition.value)))
}

fn bounded(field: &'static str, count: usize, most: usize) -> Result<(), Error> {
    if count <= most { Ok(()) } else { Err(Error::invalid(field, count, format!("at most {most}"))) }
}
