//! A container's links: made, configured inside its namespace, and taken away again.
//!
//! The host's end of a pair is found by its name, which follows from the container and the network: so it is found
//! whatever became of the other end, and also when the namespace is no more.

use std::io;
use std::net::IpAddr;

use davit_proto::id::ContainerId;
use rustix::io::Errno;

use crate::error::Error;
use crate::holding::Wired;
use crate::lease::WaysOut;
use crate::link::{self, Connection, Inside, Link, Veth};
use crate::mac::Mac;
use crate::netns::{Netns, Reference};
use crate::network::{Bridge, NetworkId};
use crate::networks::{Endpoint, Networks};
use crate::pair::host_names;
use crate::sysctl;

/// The container's end of a pair.
#[derive(Debug, Clone, Copy)]
struct Plugged {
    /// Its number inside.
    index: u32,
    /// It was made by this call.
    is_new: bool,
}

impl Networks {
    /// Makes the links and configures them, the namespace open no longer than that takes. Answers with what a person should know.
    pub fn wire(
        &self,
        reference: Reference,
        endpoints: &[Endpoint],
        ways_out: &WaysOut,
    ) -> Result<Vec<String>, Error> {
        let mut warnings = Vec::new();
        let wired = endpoints.iter().any(|endpoint| endpoint.lease.wired.is_some());
        let netns =
            if wired { Netns::open_for_names(reference, &mut warnings)? } else { Netns::open(reference)? };
        let host = link::open().map_err(Error::kernel("open a connection for links"))?;
        for endpoint in endpoints {
            let (Some(bridge), Some(wired)) = (&endpoint.network.bridge, &endpoint.lease.wired) else {
                link::loopback_up(netns.links()).map_err(Error::kernel("bring up loopback"))?;
                continue;
            };
            // An address that was another container's a moment ago takes no flow of its with it.
            if wired.addresses().any(|ip| self.shared().sweep.is_fresh(ip)) {
                self.sweep();
            }
            let plugged = self.plug(&host, &netns, endpoint, wired)?;
            if wired.ipv6.is_some() {
                let on = netns.within(|| sysctl::ipv6_on(&wired.interface));
                on.map_err(Error::kernel(format!("switch on IPv6 on {} inside", wired.interface)))?;
            }
            let inside = inside(bridge, wired, ways_out, plugged.is_new);
            link::configure(netns.links(), plugged.index, &inside).map_err(Error::kernel(format!(
                "configure {} of {}",
                wired.interface, endpoint.container_id
            )))?;
        }
        Ok(warnings)
    }

    /// Takes a container's link to a network away, and answers when it is gone. One that is not there is no error.
    pub fn unplug(&self, container_id: &ContainerId, network: &NetworkId) -> Result<(), Error> {
        let failed = || Error::kernel(format!("remove the link of container {container_id}"));
        let host = link::open().map_err(failed())?;
        let names: Vec<String> = host_names(&self.shared().instance, container_id, network).collect();
        link::remove_named(&host, &names).map_err(failed())
    }

    /// Sends what a container has no other way for by this place of its, unless it has a way already.
    pub fn lead_out(&self, netns: &Netns, bridge: &Bridge, wired: &Wired, ipv4: bool) -> Result<(), Error> {
        let failed = || Error::kernel(format!("make {} the way out", wired.interface));
        let found = link::find(netns.links(), &wired.interface).map_err(failed())?;
        match (found, gateway(bridge, wired, ipv4)) {
            (Some(found), Some(gateway)) => link::lead(netns.links(), found.index, gateway).map_err(failed()),
            // The container removed or renamed it itself.
            _ => Ok(()),
        }
    }

    /// Makes a pair. A bridge that somebody removed is made again, once.
    fn plug(
        &self,
        host: &Connection,
        netns: &Netns,
        endpoint: &Endpoint,
        wired: &Wired,
    ) -> Result<Plugged, Error> {
        let id = &endpoint.network.id;
        match self.pair(host, netns, endpoint, (wired, self.ensure(id)?)) {
            Err(Error::Kernel { source, .. })
                if link::is(&source, Errno::INVAL) || link::is(&source, Errno::NODEV) =>
            {
                self.ground().doubt(id);
                self.pair(host, netns, endpoint, (wired, self.ensure(id)?))
            }
            other => other,
        }
    }

    fn pair(
        &self,
        host: &Connection,
        netns: &Netns,
        endpoint: &Endpoint,
        (wired, bridge): (&Wired, u32),
    ) -> Result<Plugged, Error> {
        let failed = || Error::kernel(format!("make the link of container {}", endpoint.container_id));
        let look = || link::find(netns.links(), &wired.interface).map_err(failed());
        let names = host_names(&self.shared().instance, &endpoint.container_id, &endpoint.network.id);
        for (attempt, name) in names.enumerate() {
            let of = endpoint.network.bridge.as_ref();
            let veth = Veth {
                host: &name,
                bridge,
                peer: &wired.interface,
                mac: wired.mac,
                mtu: of.and_then(|bridge| bridge.mtu),
                isolated: of.is_some_and(|bridge| bridge.isolated),
            };
            match link::create_veth(host, &veth, netns) {
                Ok(()) if attempt > 0 => learn(host, &name, wired.mac).map_err(failed())?,
                Err(error) if link::is(&error, Errno::EXIST) => {
                    let other = link::find(host, &name).map_err(failed())?;
                    match look()? {
                        Some(found) if is_ours(&found, other.as_ref(), wired.mac) => {
                            // The bridge may be another one since: then the pair lies beside it.
                            if let Some(port) = other.filter(|port| port.master != Some(bridge)) {
                                link::join(host, port.index, bridge).map_err(failed())?;
                            }
                            return Ok(Plugged { index: found.index, is_new: false });
                        }
                        Some(_) => {
                            return Err(Error::InterfaceTaken {
                                container_id: endpoint.container_id.to_string(),
                                interface: wired.interface.clone(),
                            });
                        }
                        // The name belongs to an earlier life's pair.
                        None => continue,
                    }
                }
                Err(error) if link::is(&error, Errno::XFULL) => {
                    return Err(Error::Full(endpoint.network.name.to_string()));
                }
                other => other.map_err(failed())?,
            }
            let found = look()?.ok_or_else(|| failed()(io::ErrorKind::NotFound.into()))?;
            return Ok(Plugged { index: found.index, is_new: true });
        }
        Err(failed()(io::Error::from(Errno::EXIST)))
    }
}

/// Whether a link inside is the one that we made: by its hardware address, or by the host's end of it, for what runs
/// inside may have changed the address.
fn is_ours(found: &Link, host: Option<&Link>, mac: Mac) -> bool {
    found.mac == Some(mac) || host.is_some_and(|host| found.kind == "veth" && found.peer == Some(host.index))
}

fn inside(bridge: &Bridge, wired: &Wired, ways_out: &WaysOut, is_new: bool) -> Inside {
    let addresses = wired.addresses().filter_map(|ip| Some(bridge.range_of(ip)?.net_of(ip)));
    let leads = |ipv4: &bool| ways_out.leads(&wired.interface, *ipv4);
    let gateways = [true, false].into_iter().filter(leads).filter_map(|ipv4| gateway(bridge, wired, ipv4));
    Inside { addresses: addresses.collect(), gateways: gateways.collect(), takes_over: is_new }
}

/// Where everything else goes from a container's place, of one family; nowhere from an internal network.
pub fn gateway(bridge: &Bridge, wired: &Wired, ipv4: bool) -> Option<IpAddr> {
    let ip = wired.addresses().find(|ip| ip.is_ipv4() == ipv4)?;
    bridge.range_of(ip).filter(|_| !bridge.internal).map(|range| range.gateway)
}

/// The bridge may remember that the hardware address is behind the earlier life's port.
fn learn(host: &Connection, name: &str, mac: Mac) -> io::Result<()> {
    match link::find(host, name)? {
        Some(port) => link::learn(host, port.index, mac),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}
