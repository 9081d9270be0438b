//! Addresses that came free while their former holder may still answer.
//!
//! A lease ends when its container does, and the kernel takes the namespace down a moment later, or much later when
//! somebody else holds it open. As long as the host's end of its link is there, the address is not given to another.
//! After a start of the service there are none: links that belong to no lease are removed then.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;

use davit_proto::id::ContainerId;

use crate::link;
use crate::network::NetworkId;
use crate::pair::host_names;

/// So many are kept before the first look at which of them are over.
const MANY: usize = 512;

/// Names of one system call: the receipts must fit the socket's buffer.
const BATCH: usize = 64;

/// The addresses, and who had them.
#[derive(Debug)]
pub struct Lingering {
    instance: String,
    of: HashMap<(NetworkId, IpAddr), ContainerId>,
    /// How many there may be before the next look.
    look_at: usize,
}

impl Lingering {
    /// None, of this engine.
    pub fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), of: HashMap::new(), look_at: MANY }
    }

    /// A container's address came free.
    pub fn add(&mut self, network: &NetworkId, address: IpAddr, container_id: &ContainerId) {
        self.of.insert((network.clone(), address), container_id.clone());
        if self.of.len() >= self.look_at {
            if let Err(error) = self.look() {
                tracing::warn!(%error, "could not look which former links are gone");
            }
            self.look_at = self.of.len().saturating_mul(2).max(MANY);
        }
    }

    /// Whether an address may still be answered for. When that cannot be found out it may.
    pub fn answers(&self, network: &NetworkId, address: IpAddr) -> bool {
        let Some(container_id) = self.of.get(&(network.clone(), address)) else { return false };
        let is_there = || -> io::Result<bool> {
            let host = link::open()?;
            for name in host_names(&self.instance, container_id, network) {
                if link::find(&host, &name)?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        is_there().unwrap_or(true)
    }

    /// Nobody answers for these addresses any more.
    pub fn over(&mut self, network: &NetworkId, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            self.of.remove(&(network.clone(), address));
        }
    }

    /// Makes an address, or all of a network's, answer no more: the links go, but those of containers that are on the
    /// network again.
    pub fn end(
        &mut self,
        network: &NetworkId,
        address: Option<IpAddr>,
        is_on: impl Fn(&ContainerId) -> bool,
    ) -> io::Result<()> {
        let ends =
            |key: &(NetworkId, IpAddr)| key.0 == *network && address.is_none_or(|address| address == key.1);
        let ending = self.of.iter().filter(|(key, container_id)| ends(key) && !is_on(container_id));
        let names: Vec<String> =
            ending.flat_map(|(_, container_id)| host_names(&self.instance, container_id, network)).collect();
        if !names.is_empty() {
            let host = link::open()?;
            names.chunks(BATCH).try_for_each(|names| link::remove_named(&host, names))?;
        }
        self.of.retain(|key, _| !ends(key));
        Ok(())
    }

    fn look(&mut self) -> io::Result<()> {
        let links = link::all(&link::open()?)?;
        let names: HashSet<String> = links.into_iter().map(|link| link.name).collect();
        let instance = &self.instance;
        self.of.retain(|(network, _), container_id| {
            host_names(instance, container_id, network).any(|name| names.contains(&name))
        });
        Ok(())
    }
}
