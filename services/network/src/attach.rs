//! `Attach`: a container's namespace is wired to networks and its ports are published. First attach, a later
//! connect, and the same once more are the same call.
//!
//! Order: bridge and firewall, then the lease on disk, then the kernel. Whatever a crash cuts off is finished by
//! asking again, or undone by Release.

use std::io;
use std::net::Ipv4Addr;

use davit_proto::id::{ContainerId, Name};
use ipnet::Ipv4Net;
use rustix::io::Errno;

use crate::error::Error;
use crate::holding::{self, Holding, NetnsId, Wired};
use crate::lease::{Holder, Join};
use crate::link::{self, Address, Connection, Veth};
use crate::mac::Mac;
use crate::netns::{Netns, Reference};
use crate::network::{Driver, Network};
use crate::networks::{Endpoint, Networks};
use crate::port::Wish;
use crate::resolve;

/// Names that are tried for the host's end of a pair. More than one is needed while the kernel still takes down the
/// namespace of an earlier life.
const ATTEMPTS: u32 = 16;

/// What a container asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The container.
    pub container_id: ContainerId,
    /// Its name.
    pub name: Option<Name>,
    /// Names that it alone finds others by.
    pub links: Vec<holding::Link>,
    /// Its namespace; none when it shares the host's.
    pub netns: Option<Reference>,
    /// Networks, by what a person calls them.
    pub endpoints: Vec<Wanted>,
    /// Ports.
    pub ports: Vec<Wish>,
}

/// A network that a container asks for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name, id, or the beginning of one id.
    pub network: String,
    /// Address.
    pub ipv4: Option<Ipv4Addr>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// Further names.
    pub aliases: Vec<String>,
}

/// What it got.
#[derive(Debug, Clone)]
pub struct Attached {
    /// In the order of the request.
    pub endpoints: Vec<Endpoint>,
    /// Text of its resolv.conf.
    pub resolv_conf: String,
    /// File that tells its shim which names it resolves; empty for a container without a resolver.
    pub names: String,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Networks {
    /// Wires a container.
    pub fn attach(&self, request: &Request) -> Result<Attached, Error> {
        let _turn = self.turn(&request.container_id);
        let (networks, joins) = self.resolve(request)?;
        for network in networks.iter().filter(|network| network.bridge.is_some()) {
            self.ensure(&network.id)?;
        }
        let netns = request.netns.map(|reference| reference.id);
        self.end_earlier_life(&request.container_id, netns)?;
        let holder = Holder {
            container_id: request.container_id.clone(),
            netns,
            name: request.name.clone(),
            links: request.links.clone(),
        };
        let given = self.books().lease(&holder, &joins, &request.ports)?;
        let mut endpoints = Vec::with_capacity(joins.len());
        for join in &joins {
            let books = self.books();
            let network = books.by_id(&join.network).cloned();
            let lease = given.holding.on(&join.network).cloned();
            let (Some(network), Some(lease)) = (network, lease) else {
                return Err(Error::NotFound(join.network.to_string()));
            };
            let (container_id, name) = (request.container_id.clone(), given.holding.name.clone());
            endpoints.push(Endpoint { container_id, network, lease, name });
        }
        let mut warnings = given.warnings;
        if let Some(reference) = request.netns {
            self.wire(reference, &endpoints, &mut warnings)?;
        }
        self.tell_names(&request.container_id)?;
        if !given.holding.ports.is_empty() {
            let mut ground = self.ground();
            ground.firewall.publish(&given.holding.ports)?;
            warnings.extend(ground.firewall.foreign_drops());
            self.shared().sweep.published();
        }
        let resolv_conf = resolv_conf(&networks, &mut warnings);
        let names = self.names_path(&request.container_id);
        Ok(Attached { endpoints, resolv_conf, names, warnings })
    }

    /// The ports of an earlier life lead nowhere any more; its addresses stay the container's.
    fn end_earlier_life(&self, container_id: &ContainerId, netns: Option<NetnsId>) -> Result<(), Error> {
        let Some(had) = self.books().holding(container_id).cloned() else { return Ok(()) };
        if had.netns == netns || had.ports.is_empty() {
            return Ok(());
        }
        self.ground().firewall.withdraw(&had.ports)?;
        self.shared().sweep.released(&had.ports, std::iter::empty());
        self.books().hold(container_id, Holding { ports: Vec::new(), ..had })
    }

    fn resolve(&self, request: &Request) -> Result<(Vec<Network>, Vec<Join>), Error> {
        let (mut networks, mut joins): (Vec<Network>, Vec<Join>) = (Vec::new(), Vec::new());
        let books = self.books();
        for wanted in &request.endpoints {
            let network = books.find(&wanted.network)?;
            if networks.iter().any(|other| other.id == network.id) {
                return Err(Error::invalid("endpoints", &network.name, "may be given once"));
            }
            if network.driver != Driver::Bridge && (wanted.ipv4.is_some() || wanted.mac.is_some()) {
                return Err(Error::invalid("endpoints", &network.name, "has no addresses to ask for"));
            }
            if (network.driver == Driver::Host) != request.netns.is_none() {
                let rule = "wants a network namespace unless the network is the host's";
                return Err(Error::invalid("netns_pid", request.netns.map_or(0, |n| n.id.pid), rule));
            }
            networks.push(network.clone());
            joins.push(Join {
                network: network.id.clone(),
                ipv4: wanted.ipv4,
                mac: wanted.mac,
                aliases: wanted.aliases.clone(),
            });
        }
        if joins.is_empty() {
            return Err(Error::invalid("endpoints", "", "at least one network must be named"));
        }
        if networks.len() > 1 && networks.iter().any(|network| network.driver != Driver::Bridge) {
            return Err(Error::invalid("endpoints", "host or none", "cannot be joined together with others"));
        }
        Ok((networks, joins))
    }

    /// Makes the links and configures them, the namespace open no longer than that takes.
    fn wire(
        &self,
        reference: Reference,
        endpoints: &[Endpoint],
        warnings: &mut Vec<String>,
    ) -> Result<(), Error> {
        let wired = endpoints.iter().any(|endpoint| endpoint.lease.wired.is_some());
        let netns = if wired { Netns::open_for_names(reference, warnings)? } else { Netns::open(reference)? };
        let host = link::open().map_err(Error::kernel("open a connection for links"))?;
        for (n, endpoint) in endpoints.iter().enumerate() {
            let (Some(bridge), Some(wired)) = (&endpoint.network.bridge, &endpoint.lease.wired) else {
                link::loopback_up(netns.links()).map_err(Error::kernel("bring up loopback"))?;
                continue;
            };
            // An address that was another container's a moment ago takes no flow of its with it.
            if self.shared().sweep.is_fresh(wired.ipv4.into()) {
                self.sweep();
            }
            let index = self.plug(&host, &netns, endpoint, wired)?;
            let range = bridge.range;
            let address = Ipv4Net::new(wired.ipv4, range.subnet.prefix_len());
            let address = address.map_err(|_| Error::invalid("subnet", range.subnet, "has no prefix"))?;
            let gateway = (n == 0 && !bridge.internal).then_some(range.gateway);
            link::configure(netns.links(), index, &Address { address, gateway }).map_err(Error::kernel(
                format!("configure {} of {}", wired.interface, endpoint.container_id),
            ))?;
        }
        Ok(())
    }

    /// Makes a pair, and answers with the number of the container's end. A bridge that somebody removed is made
    /// again, once.
    fn plug(
        &self,
        host: &Connection,
        netns: &Netns,
        endpoint: &Endpoint,
        wired: &Wired,
    ) -> Result<u32, Error> {
        let id = &endpoint.network.id;
        match self.pair(host, netns, endpoint, wired, self.ensure(id)?) {
            Err(Error::Kernel { source, .. })
                if link::is(&source, Errno::INVAL) || link::is(&source, Errno::NODEV) =>
            {
                self.ground().doubt(id);
                self.pair(host, netns, endpoint, wired, self.ensure(id)?)
            }
            other => other,
        }
    }

    fn pair(
        &self,
        host: &Connection,
        netns: &Netns,
        endpoint: &Endpoint,
        wired: &Wired,
        bridge: u32,
    ) -> Result<u32, Error> {
        let failed = || Error::kernel(format!("make the link of container {}", endpoint.container_id));
        let look = || link::find(netns.links(), &wired.interface).map_err(failed());
        for attempt in 0..ATTEMPTS {
            let name = host_name(&self.shared().instance, endpoint, attempt);
            let veth = Veth { host: &name, bridge, peer: &wired.interface, mac: wired.mac };
            match link::create_veth(host, &veth, netns) {
                Ok(()) if attempt > 0 => learn(host, &name, wired.mac).map_err(failed())?,
                Err(error) if link::is(&error, Errno::EXIST) => match look()? {
                    Some(found) if found.mac == Some(wired.mac) => return Ok(found.index),
                    Some(_) => {
                        return Err(Error::InterfaceTaken {
                            container_id: endpoint.container_id.to_string(),
                            interface: wired.interface.clone(),
                        });
                    }
                    // The name belongs to an earlier life's pair.
                    None => continue,
                },
                other => other.map_err(failed())?,
            }
            return look()?.map(|found| found.index).ok_or_else(|| failed()(io::ErrorKind::NotFound.into()));
        }
        Err(failed()(io::Error::from(Errno::EXIST)))
    }
}

/// The bridge may remember that the hardware address is behind the earlier life's port.
fn learn(host: &Connection, name: &str, mac: Mac) -> io::Result<()> {
    match link::find(host, name)? {
        Some(port) => link::learn(host, port.index, mac),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The host's end of a pair is named by a hash, so that no name that a person chose reaches the kernel.
fn host_name(instance: &str, endpoint: &Endpoint, attempt: u32) -> String {
    let parts =
        [instance, endpoint.container_id.as_str(), endpoint.network.id.as_str(), &attempt.to_string()];
    // FNV-1a: the same on every version, for a name must be found again.
    let hash = parts.join("/").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("dv{:013x}", hash >> 12)
}

fn resolv_conf(networks: &[Network], warnings: &mut Vec<String>) -> String {
    let host = resolve::of_host();
    if !networks.iter().any(|network| network.bridge.is_some()) {
        return host;
    }
    let forward =
        networks.iter().any(|network| network.bridge.as_ref().is_some_and(|bridge| !bridge.internal));
    if forward && !resolve::has_server(&host) {
        warnings.push("the host names no resolver: names outside will not resolve".to_owned());
    }
    resolve::for_bridge(&host)
}
