//! Our table in the host's firewall: a model of what is to hold, and the kernel made to hold it.
//!
//! The table is loaded whole, by one transaction, when the first bridge is needed, when a bridge comes or goes, and
//! when somebody else took it away. A container only adds and deletes elements.
//!
//! Order: the guard chain is there before any bridge may carry 127.0.0.0/8, and no bridge may while it is not.

mod element;
mod forwarding;
mod map;
mod nft;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use forwarding::{Families, Forwarding};
pub use nft::LoadError;
pub use table::Bridge;
use table::Table;

use crate::network::LinkName;
use crate::port::{HostPort, Publication};
use crate::sysctl;

/// What went wrong with the firewall.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The table was not loaded.
    #[error("load table inet {0}")]
    Load(String, #[source] LoadError),
    /// A question or a change of elements failed.
    #[error("{0} of table inet {1}")]
    Element(&'static str, String, #[source] io::Error),
    /// A setting of the kernel could not be read or made.
    #[error("{0}")]
    Setting(&'static str, #[source] io::Error),
}

/// The table.
#[derive(Debug)]
pub struct Firewall {
    /// Its name.
    table: String,
    forwarding: Forwarding,
    bridges: Vec<Bridge>,
    ports: BTreeMap<HostPort, Publication>,
    /// The generation of the kernel's tables that our table was last seen whole in; none before it was loaded.
    seen: Option<u32>,
    /// What was seen of other tables, and in which generation.
    drops: Option<(u32, Vec<String>)>,
}

impl Firewall {
    /// A table that is not loaded. `mark` is a file of ours.
    pub fn new(table: String, mark: PathBuf) -> Self {
        Self {
            table,
            forwarding: Forwarding::new(mark),
            bridges: Vec::new(),
            ports: BTreeMap::new(),
            seen: None,
            drops: None,
        }
    }

    /// Takes over what containers hold, and the bridges that they are on, without telling the kernel. All of it is in
    /// the first table that is loaded: without one of the bridges, connections that begin then would lead nowhere.
    pub fn adopt(&mut self, bridges: impl Iterator<Item = Bridge>, ports: impl Iterator<Item = Publication>) {
        self.bridges.extend(bridges);
        self.ports.extend(ports.map(|port| (port.host, port)));
    }

    /// Makes a bridge part of the table, which is loaded when it is not. To be called before the bridge is up.
    pub fn admit(&mut self, bridge: Bridge) -> Result<(), FirewallError> {
        if self.seen.is_some() && self.bridges.contains(&bridge) {
            return Ok(());
        }
        let before = self.bridges.clone();
        self.bridges.retain(|other| other.link != bridge.link);
        self.bridges.push(bridge);
        self.load().inspect_err(|_| self.bridges = before)
    }

    /// Ends a bridge's part.
    pub fn dismiss(&mut self, bridge: &Bridge) -> Result<(), FirewallError> {
        self.bridges.retain(|other| other.link != bridge.link);
        if self.seen.is_some() { self.load() } else { Ok(()) }
    }

    /// Leads ports to a container.
    pub fn publish(&mut self, ports: &[Publication]) -> Result<(), FirewallError> {
        self.change(&[], ports)
    }

    /// Leads ports nowhere any more.
    pub fn withdraw(&mut self, ports: &[Publication]) -> Result<(), FirewallError> {
        self.change(ports, &[])
    }

    /// Leads some ports nowhere any more and others to a container, all at one moment.
    pub fn change(&mut self, gone: &[Publication], fresh: &[Publication]) -> Result<(), FirewallError> {
        let fresh: Vec<Publication> =
            fresh.iter().filter(|port| self.ports.get(&port.host) != Some(port)).copied().collect();
        if gone.is_empty() && fresh.is_empty() {
            return Ok(());
        }
        let before = self.ports.clone();
        self.enter(gone, &fresh);
        let changed = match element::change(&self.table, gone, &fresh) {
            Ok(()) => self.was_us(),
            // Somebody took the table away; it comes back with these ports or not at all.
            Err(error) if element::is_missing(&error) => self.load(),
            Err(error) => Err(FirewallError::Element("change elements", self.table.clone(), error)),
        };
        changed.inspect_err(|_| self.ports = before)
    }

    fn enter(&mut self, gone: &[Publication], fresh: &[Publication]) {
        for port in gone {
            self.ports.remove(&port.host);
        }
        self.ports.extend(fresh.iter().map(|port| (port.host, *port)));
    }

    /// Looks whether somebody else changed our table or switched forwarding off, and puts it right. Says whether it
    /// had to.
    pub fn repair(&mut self) -> Result<bool, FirewallError> {
        if self.seen.is_none() {
            return Ok(false);
        }
        let mut repaired = false;
        if self.was_touched()? {
            let generation = self.generation()?;
            if self.is_whole()? {
                self.seen = Some(generation);
            } else {
                self.load()?;
                repaired = true;
            }
        }
        if !self.forwarding.is_on(self.needed())? {
            self.load()?;
            repaired = true;
        }
        Ok(repaired)
    }

    /// Whether the table was loaded by us.
    pub fn is_loaded(&self) -> bool {
        self.seen.is_some()
    }

    /// Loads the table, or loads it anew.
    pub fn load(&mut self) -> Result<(), FirewallError> {
        let needed = self.needed();
        self.forwarding.prepare(needed)?;
        let open = self.bridges.iter().filter(|bridge| !bridge.internal);
        let open: Vec<LinkName> = open.map(|bridge| bridge.link.clone()).collect();
        // Between a flush and this transaction there is no guard.
        if element::count(&self.table).ok().flatten().is_none() {
            for link in &open {
                route_localnet(link, false)?;
            }
        }
        let ports: Vec<Publication> = self.ports.values().copied().collect();
        nft::load(&self.in_text(&ports).text())
            .map_err(|error| FirewallError::Load(self.table.clone(), error))?;
        self.forwarding.switch_on(needed)?;
        for link in &open {
            route_localnet(link, true)?;
        }
        let generation = self.generation()?;
        self.seen = self.is_whole()?.then_some(generation).or(Some(generation.wrapping_sub(1)));
        Ok(())
    }

    /// Warnings about other tables that drop what is forwarded. Looked for again when anybody changed a table.
    pub fn foreign_drops(&mut self) -> Vec<String> {
        let found = element::generation().and_then(|now| match &self.drops {
            Some((then, _)) if *then == now => Ok(None),
            _ => Ok(Some((now, element::foreign_drops(&self.table)?))),
        });
        match found {
            Ok(None) => {}
            Ok(Some((now, chains))) => {
                let drops = chains.iter().map(|chain| foreign_drop(chain)).collect();
                self.drops = Some((now, drops));
            }
            Err(error) => tracing::warn!(%error, "could not look for other firewalls"),
        }
        self.drops.iter().flat_map(|(_, drops)| drops.clone()).collect()
    }

    fn generation(&self) -> Result<u32, FirewallError> {
        let generation = element::generation();
        generation.map_err(|error| FirewallError::Element("ask the generation", self.table.clone(), error))
    }

    /// After one change of ours: when it was the only one since, the table is still whole.
    fn was_us(&mut self) -> Result<(), FirewallError> {
        let generation = self.generation()?;
        let before = generation.wrapping_sub(1);
        if self.seen == Some(before) {
            self.seen = Some(generation);
        }
        if let Some((then, _)) = self.drops.as_mut().filter(|(then, _)| *then == before) {
            *then = generation;
        }
        Ok(())
    }

    /// Whether anybody but us changed any table since ours was last seen whole.
    fn was_touched(&self) -> Result<bool, FirewallError> {
        Ok(self.seen != Some(self.generation()?))
    }

    fn is_whole(&self) -> Result<bool, FirewallError> {
        let count = element::count(&self.table);
        let count =
            count.map_err(|error| FirewallError::Element("count rules", self.table.clone(), error))?;
        let elements = self.ports.values().map(map::count).sum();
        Ok(count == Some((self.in_text(&[]).rules(), elements)))
    }

    /// What the host has to forward: IPv6 only where a network has it.
    fn needed(&self) -> Families {
        let mut subnets = self.bridges.iter().flat_map(|bridge| &bridge.subnets);
        Families { ipv4: true, ipv6: subnets.any(|subnet| subnet.addr().is_ipv6()) }
    }

    fn in_text<'a>(&'a self, ports: &'a [Publication]) -> Table<'a> {
        Table { name: &self.table, bridges: &self.bridges, ports, closed: self.forwarding.closed() }
    }
}

/// A bridge that is not there yet gets its setting when it is made.
fn route_localnet(link: &LinkName, on: bool) -> Result<(), FirewallError> {
    match sysctl::set_route_localnet(link, on) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => setting("set route_localnet", other),
    }
}

fn setting<T>(what: &'static str, result: io::Result<T>) -> Result<T, FirewallError> {
    result.map_err(|error| FirewallError::Setting(what, error))
}

fn foreign_drop(chain: &str) -> String {
    format!(
        "another firewall drops forwarded traffic by default (chain {chain}): published ports and the containers' \
         way out may not work until it admits them"
    )
}
