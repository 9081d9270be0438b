//! `Attach`: a container's namespace is wired to networks and its ports are published. First attach, a later
//! connect, and the same once more are the same call.
//!
//! Order: bridge and firewall, then the lease on disk, then the kernel. Whatever a crash cuts off is finished by
//! asking again, or undone by Release.

use std::net::{Ipv4Addr, Ipv6Addr};

use davit_proto::id::{ContainerId, Name};

use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::holding::{self, Holding, NetnsId};
use crate::lease::{Given, Holder, Join};
use crate::mac::Mac;
use crate::netns::Reference;
use crate::network::{Driver, Network};
use crate::networks::{Endpoint, Networks};
use crate::port::Wish;
use crate::resolve;

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
    /// Networks.
    pub endpoints: Vec<Wanted>,
    /// Ports.
    pub ports: Vec<Wish>,
}

/// A network that a container asks for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name, or its id.
    pub network: String,
    /// Address.
    pub ipv4: Option<Ipv4Addr>,
    /// Address of the other family.
    pub ipv6: Option<Ipv6Addr>,
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
        let given = self.lease(&holder, &joins, &request.ports)?;
        pass(failpoint::LEASED)?;
        let endpoints = self.endpoints(&request.container_id, &given.holding, &joins)?;
        let mut warnings = given.warnings;
        if let Some(reference) = request.netns {
            let ways_out = self.books().ways_out(&given.holding);
            if !self.was_wired_ahead(&request.container_id, reference.id, &endpoints)? {
                warnings.extend(self.wire(reference, &endpoints, &ways_out)?);
            }
            if request.name.is_none() {
                self.shared().ahead.note(&request.container_id, reference.id, &endpoints);
            }
        }
        pass(failpoint::WIRED)?;
        self.tell_names(&request.container_id)?;
        pass(failpoint::NAMED)?;
        if !given.holding.ports.is_empty() {
            let mut ground = self.ground();
            ground.firewall.publish(&given.holding.ports)?;
            warnings.extend(ground.firewall.foreign_drops());
            self.shared().sweep.published();
            pass(failpoint::PUBLISHED)?;
        }
        let resolv_conf = resolv_conf(&networks, &mut warnings);
        let names = self.names_path(&request.container_id);
        Ok(Attached { endpoints, resolv_conf, names, warnings })
    }

    /// Gives a container what it asks for. Where a network has no address left, what nobody gave back is looked for,
    /// and those who had one and are no more are silenced.
    fn lease(&self, holder: &Holder, joins: &[Join], wishes: &[Wish]) -> Result<Given, Error> {
        let given = self.books().lease(holder, joins, wishes);
        if !matches!(given, Err(Error::Exhausted(_))) {
            return given;
        }
        self.free_lost(&holder.container_id)?;
        let mut books = self.books();
        joins.iter().try_for_each(|join| books.silence(&join.network, None))?;
        books.lease(holder, joins, wishes)
    }

    /// The places that were asked for, in the order of the request.
    fn endpoints(
        &self,
        container_id: &ContainerId,
        holding: &Holding,
        joins: &[Join],
    ) -> Result<Vec<Endpoint>, Error> {
        let books = self.books();
        let place = |join: &Join| {
            let endpoint =
                books.by_id(&join.network).and_then(|network| holding.place(container_id, network));
            endpoint.ok_or_else(|| Error::NotFound(join.network.to_string()))
        };
        joins.iter().map(place).collect()
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
            let network = books.of_container(&wanted.network)?;
            if networks.iter().any(|other| other.id == network.id) {
                return Err(Error::invalid("endpoints", &network.name, "may be given once"));
            }
            let wants = wanted.ipv4.is_some() || wanted.ipv6.is_some() || wanted.mac.is_some();
            if network.driver != Driver::Bridge && wants {
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
                ipv6: wanted.ipv6,
                mac: wanted.mac,
                aliases: wanted.aliases.clone(),
            });
        }
        if joins.is_empty() {
            return Err(Error::invalid("endpoints", "", "at least one network must be named"));
        }
        Ok((networks, joins))
    }
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
