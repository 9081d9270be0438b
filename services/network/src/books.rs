//! The books: which networks there are, and which container holds what. Files first, memory after.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;

use davit_proto::id::{ContainerId, Name};
use ipnet::IpNet;

use crate::error::Error;
use crate::holding::{Files, Holding, Wired};
use crate::linger::Lingering;
use crate::network::{Network, NetworkId};
use crate::port::Publication;
use crate::store::{Cursor, Store};

/// Digits of an id that stand for the whole.
const SHORT_ID: usize = 12;

/// The books.
#[derive(Debug)]
pub struct Books {
    store: Store,
    files: Files,
    networks: BTreeMap<Name, Network>,
    holdings: BTreeMap<ContainerId, Holding>,
    /// What cannot be read of the holdings.
    torn: BTreeMap<ContainerId, Error>,
    addresses: HashMap<NetworkId, BTreeMap<IpAddr, ContainerId>>,
    /// By network, and whether they are of IPv4.
    cursors: HashMap<(NetworkId, bool), Cursor>,
    lingering: Lingering,
}

impl Books {
    /// Opens the service's folder and reads all.
    pub fn open(path: &Path, instance: &str) -> Result<Self, Error> {
        let store = Store::open(path)?;
        let (files, holdings) = Files::open(&path.join(".lease"))?;
        let networks = store.load()?.into_iter().map(|network| (network.name.clone(), network)).collect();
        let mut books = Self {
            store,
            files,
            networks,
            holdings: BTreeMap::new(),
            torn: BTreeMap::new(),
            addresses: HashMap::new(),
            cursors: HashMap::new(),
            lingering: Lingering::new(instance),
        };
        for (container_id, holding) in holdings {
            match holding {
                Ok(holding) => books.enter(container_id, holding),
                Err(error) => drop(books.torn.insert(container_id, error)),
            }
        }
        Ok(books)
    }

    /// Takes the holdings out that cannot be read, each with what is wrong with it. Their files stay.
    pub fn take_torn(&mut self) -> BTreeMap<ContainerId, Error> {
        std::mem::take(&mut self.torn)
    }

    /// Forgets a holding that could not be read.
    pub fn forget_torn(&self, container_id: &ContainerId) -> Result<(), Error> {
        self.files.remove(container_id)
    }

    /// All networks.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values()
    }

    /// A network by its name.
    pub fn named(&self, name: &str) -> Option<&Network> {
        self.networks().find(|network| network.name.as_str() == name)
    }

    /// A network by its id.
    pub fn by_id(&self, id: &NetworkId) -> Option<&Network> {
        self.networks().find(|network| network.id == *id)
    }

    /// A network by what a person calls it: name, id, or the beginning of one id.
    pub fn find(&self, text: &str) -> Result<&Network, Error> {
        if let Some(network) = self.named(text) {
            return Ok(network);
        }
        let mut matching = self.networks().filter(|n| !text.is_empty() && n.id.as_str().starts_with(text));
        match (matching.next(), matching.next()) {
            (Some(network), None) => Ok(network),
            (Some(_), Some(_)) => Err(Error::Ambiguous(shown(text))),
            (None, _) => Err(Error::NotFound(shown(text))),
        }
    }

    /// A network that a container is to be on, or to leave. Records outlive networks: what was a name must not become
    /// the beginning of another one's id, so only a short id or a longer beginning counts as one.
    pub fn of_container(&self, text: &str) -> Result<&Network, Error> {
        if text.len() < SHORT_ID && self.named(text).is_none() {
            return Err(Error::NotFound(shown(text)));
        }
        self.find(text)
    }

    /// Writes a network down, new or changed. A record that could not be read is never replaced.
    pub fn put(&mut self, network: Network) -> Result<(), Error> {
        if !self.networks.contains_key(&network.name) {
            self.store.require_absent(&network.name)?;
        }
        self.store.write(&network)?;
        self.networks.insert(network.name.clone(), network);
        Ok(())
    }

    /// Strikes a network out that nobody is on.
    pub fn strike(&mut self, name: &Name) -> Result<(), Error> {
        if let Some(network) = self.networks.get(name) {
            let holders: Vec<String> = self.members(&network.id).iter().map(ToString::to_string).collect();
            if !holders.is_empty() {
                return Err(Error::InUse { name: name.to_string(), holders });
            }
            self.store.remove(network)?;
            self.cursors.retain(|(id, _), _| *id != network.id);
            self.addresses.remove(&network.id);
            self.networks.remove(name);
        }
        Ok(())
    }

    /// The ranges of all networks but one.
    pub fn ranges(&self, but: Option<&NetworkId>) -> Vec<(IpNet, String)> {
        let others = self.networks().filter(|network| Some(&network.id) != but);
        let of_one = |network: &Network| {
            let by = format!("network {}", network.name);
            let ranges = network.bridge.iter().flat_map(|bridge| &bridge.ranges);
            ranges.map(move |range| (range.subnet, by.clone())).collect::<Vec<_>>()
        };
        others.flat_map(of_one).collect()
    }

    /// What a container holds.
    pub fn holding(&self, container_id: &ContainerId) -> Option<&Holding> {
        self.holdings.get(container_id)
    }

    /// All that is held.
    pub fn holdings(&self) -> impl Iterator<Item = (&ContainerId, &Holding)> {
        self.holdings.iter()
    }

    /// Containers on a network.
    pub fn members(&self, network: &NetworkId) -> Vec<ContainerId> {
        let members = self.holdings.iter().filter(|(_, holding)| holding.on(network).is_some());
        members.map(|(container_id, _)| container_id.clone()).collect()
    }

    /// Who has an address of a network.
    pub fn owner(&self, network: &NetworkId, address: IpAddr) -> Option<&ContainerId> {
        self.addresses.get(network)?.get(&address)
    }

    /// Whether nobody has an address of a network, and nobody who had it may still answer for it.
    pub fn is_free(&self, network: &NetworkId, address: IpAddr) -> bool {
        self.owner(network, address).is_none() && !self.lingering.answers(network, address)
    }

    /// Makes sure that nobody who had an address answers for it any more; or any address of the network.
    pub fn silence(&mut self, network: &NetworkId, address: Option<IpAddr>) -> Result<(), Error> {
        let holdings = &self.holdings;
        let is_on = |id: &ContainerId| holdings.get(id).is_some_and(|holding| holding.on(network).is_some());
        let ended = self.lingering.end(network, address, is_on);
        ended.map_err(Error::kernel("remove the link of a container that is no more"))
    }

    /// Nobody answers for these addresses of a network any more: the link that they were on is gone.
    pub fn silenced(&mut self, network: &NetworkId, addresses: impl Iterator<Item = IpAddr>) {
        self.lingering.over(network, addresses);
    }

    /// Who, other than this container, published ports that these ones clash with.
    pub fn publisher(&self, port: &Publication, but: &ContainerId) -> Option<&ContainerId> {
        let others = self.holdings.iter().filter(|(owner, _)| *owner != but);
        let mut clashing =
            others.filter(|(_, holding)| holding.ports.iter().any(|other| other.clashes(port)));
        clashing.next().map(|(owner, _)| owner)
    }

    /// Where the next address of a network is looked for, of one family.
    pub fn cursor(&mut self, network: &Network, ipv4: bool) -> Result<&mut Cursor, Error> {
        let key = (network.id.clone(), ipv4);
        if !self.cursors.contains_key(&key) {
            let cursor = self.store.cursor(&network.name, ipv4)?;
            self.cursors.insert(key.clone(), cursor);
        }
        Ok(self.cursors.get_mut(&key).expect("it was put there just now"))
    }

    /// Writes down what a container holds from now on.
    pub fn hold(&mut self, container_id: &ContainerId, holding: Holding) -> Result<(), Error> {
        if self.holdings.get(container_id) == Some(&holding) {
            return Ok(());
        }
        self.files.write(container_id, &holding)?;
        let before = self.leave(container_id);
        self.enter(container_id.clone(), holding);
        self.let_go(container_id, before);
        Ok(())
    }

    /// Forgets what a container holds.
    pub fn forget(&mut self, container_id: &ContainerId) -> Result<(), Error> {
        self.files.remove(container_id)?;
        let before = self.leave(container_id);
        self.let_go(container_id, before);
        Ok(())
    }

    /// All published ports.
    pub fn publications(&self) -> Vec<Publication> {
        self.holdings.values().flat_map(|holding| holding.ports.iter().copied()).collect()
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    fn enter(&mut self, container_id: ContainerId, holding: Holding) {
        for lease in &holding.leases {
            if let Some(wired) = &lease.wired {
                let taken = self.addresses.entry(lease.network_id.clone()).or_default();
                taken.extend(wired.addresses().map(|ip| (ip, container_id.clone())));
            }
        }
        self.holdings.insert(container_id, holding);
    }

    /// Addresses that a container has no more may still be answered for by it.
    fn let_go(&mut self, container_id: &ContainerId, before: Option<Holding>) {
        for lease in before.iter().flat_map(|holding| &holding.leases) {
            for ip in lease.wired.iter().flat_map(Wired::addresses) {
                if self.owner(&lease.network_id, ip).is_none() {
                    self.lingering.add(&lease.network_id, ip, container_id);
                }
            }
        }
    }

    fn leave(&mut self, container_id: &ContainerId) -> Option<Holding> {
        let holding = self.holdings.remove(container_id)?;
        for lease in &holding.leases {
            if let (Some(wired), Some(taken)) = (&lease.wired, self.addresses.get_mut(&lease.network_id)) {
                for ip in wired.addresses() {
                    taken.remove(&ip);
                }
            }
        }
        Some(holding)
    }
}

/// A foreign text as an error may repeat it.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}
