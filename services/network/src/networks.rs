//! The networks of an engine: books, ground, and one turn at a time for each container.
//!
//! Locks are taken in this order and never back: a container's turn, the ground, the books, the names. What is
//! wired ahead is locked alone.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use davit_proto::id::{ContainerId, Name};

use crate::Config;
use crate::ahead::Ahead;
use crate::books::Books;
use crate::error::Error;
use crate::firewall::Firewall;
use crate::ground::{self, Demand, Ground};
use crate::holding::{Holding, Lease};
use crate::ipam::{self, Range};
use crate::link::Traffic;
use crate::lost;
use crate::names::Names;
use crate::network::{BRIDGE, Bridge, Driver, HOST, NONE, Network, NetworkId};
use crate::sweep::Sweep;

/// Containers with the same hash wait for each other.
const TURNS: usize = 64;

/// Handle of all networks; clones share them.
#[derive(Debug, Clone)]
pub struct Networks {
    shared: Arc<Shared>,
}

/// What the handles share.
#[derive(Debug)]
pub struct Shared {
    /// Names this engine among those of the host.
    pub instance: String,
    explicit_subnet: bool,
    turns: [Mutex<()>; TURNS],
    ground: Mutex<Ground>,
    books: Mutex<Books>,
    /// Namespaces that were wired before anything ran in them.
    pub ahead: Ahead,
    /// The files by which containers find each other.
    pub names: Names,
    /// What connections are to be forgotten for.
    pub sweep: Arc<Sweep>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.sweep.end();
    }
}

/// A container's place on a network.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The container.
    pub container_id: ContainerId,
    /// The network.
    pub network: Network,
    /// What it holds there.
    pub lease: Lease,
    /// Its name.
    pub name: Option<Name>,
    /// What passed through its interface, where somebody counted.
    pub traffic: Option<Traffic>,
}

impl Holding {
    /// A container's place on a network, when it has one.
    pub fn place(&self, container_id: &ContainerId, network: &Network) -> Option<Endpoint> {
        Some(Endpoint {
            container_id: container_id.clone(),
            name: self.name.clone(),
            network: network.clone(),
            lease: self.on(&network.id)?.clone(),
            traffic: None,
        })
    }
}

/// A network and who is on it.
#[derive(Debug, Clone)]
pub struct Populated {
    /// The network.
    pub network: Network,
    /// Who is on it.
    pub endpoints: Vec<Endpoint>,
}

impl Networks {
    /// Opens the networks below an engine's root, and makes the ground right for the containers that are there.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let root = std::path::absolute(&config.root).map_err(Error::file("resolve", &config.root))?;
        let mut books = Books::open(&root.join("network"), config.instance.as_str())?;
        make_built_in(&mut books, config)?;
        lost::forget_torn(&mut books, config.instance.as_str())?;
        let mut firewall = Firewall::new(table_name(config.instance.as_str()), books.path().join(".closed"));
        if let Err(error) = lost::clear(&mut books, &mut firewall, config.instance.as_str()) {
            let error = davit_proto::status::chain(&error);
            tracing::error!(error, "could not look for what nobody gave back");
        }
        let names = Names::open(&config.run, &books)?;
        let used = used(&books).filter_map(|network| network.bridge.as_ref()).map(ground::in_table);
        firewall.adopt(used, books.publications().into_iter());
        let networks = Self {
            shared: Arc::new(Shared {
                instance: config.instance.to_string(),
                explicit_subnet: config.bridge_subnet.is_some(),
                turns: std::array::from_fn(|_| Mutex::new(())),
                ground: Mutex::new(Ground::new(firewall, config.instance.as_str())),
                books: Mutex::new(books),
                ahead: Ahead::default(),
                names,
                sweep: Arc::default(),
            }),
        };
        networks.recover();
        Ok(networks)
    }

    /// What the handles share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A handle of what others share.
    pub fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Waits for a container's turn.
    pub fn turn(&self, container_id: &ContainerId) -> MutexGuard<'_, ()> {
        lock(self.place_in_turn(container_id))
    }

    /// A container's turn, when it can be had at once.
    pub fn try_turn(&self, container_id: &ContainerId) -> Option<MutexGuard<'_, ()>> {
        match self.place_in_turn(container_id).try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn place_in_turn(&self, container_id: &ContainerId) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        container_id.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % TURNS as u64).expect("it is below 64");
        self.shared.turns.get(index).expect("it is below their number")
    }

    /// The ground.
    pub fn ground(&self) -> MutexGuard<'_, Ground> {
        lock(&self.shared.ground)
    }

    /// The books.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.shared.books)
    }

    /// Makes sure of a network's bridge, and writes down the ranges that it got. Answers with its number.
    pub fn ensure(&self, id: &NetworkId) -> Result<u32, Error> {
        let mut ground = self.ground();
        if let Some(index) = ground.index(id) {
            return Ok(index);
        }
        let demand = {
            let books = self.books();
            let network = books.by_id(id).ok_or_else(|| Error::NotFound(id.to_string()))?.clone();
            let movable = !self.shared.explicit_subnet && books.members(id).is_empty();
            Demand { network, others: books.ranges(Some(id)), movable }
        };
        if let Some(ranges) = ground.ensure(&demand)? {
            let bridge = demand.network.bridge.map(|bridge| Bridge { ranges, ..bridge });
            self.books().put(Network { bridge, ..demand.network })?;
        }
        ground.index(id).ok_or_else(|| Error::NotFound(id.to_string()))
    }

    /// One network, by what a person calls it. Nothing is counted.
    pub fn look_up(&self, text: &str) -> Result<Populated, Error> {
        let books = self.books();
        let network = books.find(text)?.clone();
        Ok(Populated { endpoints: endpoints(&books, &network), network })
    }

    /// All networks.
    pub fn list(&self) -> Vec<Populated> {
        let books = self.books();
        let populated =
            |network: &Network| Populated { endpoints: endpoints(&books, network), network: network.clone() };
        books.networks().map(populated).collect()
    }

    /// Containers that hold anything.
    pub fn holders(&self) -> Vec<ContainerId> {
        self.books().holdings().map(|(container_id, _)| container_id.clone()).collect()
    }

    /// What was given to containers before must hold again: their bridges are compared and the firewall is loaded.
    /// A failure is told and leaves the service running; the next attach meets it again and answers with it.
    fn recover(&self) {
        let used: Vec<NetworkId> = used(&self.books()).map(|network| network.id.clone()).collect();
        for id in used {
            if let Err(error) = self.ensure(&id) {
                let error = davit_proto::status::chain(&error);
                tracing::error!(network = %id, error, "could not restore a network that containers use");
            }
        }
    }
}

/// A panic of another holder left the state consistent: disk and kernel are told before memory.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Networks with a bridge and containers on it.
fn used(books: &Books) -> impl Iterator<Item = &Network> {
    books.networks().filter(|network| network.bridge.is_some() && !books.members(&network.id).is_empty())
}

fn endpoints(books: &Books, network: &Network) -> Vec<Endpoint> {
    books.holdings().filter_map(|(container_id, holding)| holding.place(container_id, network)).collect()
}

/// The default engine's table is `davit`, another one's `davit-<instance>`.
fn table_name(instance: &str) -> String {
    if instance == crate::INSTANCE { instance.to_owned() } else { format!("davit-{instance}") }
}

/// Every engine has three networks. The bridge's link and range follow the configuration as long as nobody is on it.
fn make_built_in(books: &mut Books, config: &Config) -> Result<(), Error> {
    for (name, driver) in [(HOST, Driver::Host), (NONE, Driver::Null)] {
        if books.named(name).is_none() {
            books.put(Network::new(name.parse()?, driver, None)?)?;
        }
    }
    let wanted = config.bridge_subnet.map(|net| range(net.into())).transpose()?;
    let Some(had) = books.named(BRIDGE).cloned() else {
        let first = ipam::pool().next().expect("the pool has ranges");
        let range = wanted.map_or_else(|| range(first), Ok)?;
        let bridge = Bridge::new(config.bridge.clone(), vec![range]);
        return books.put(Network::new(BRIDGE.parse()?, Driver::Bridge, Some(bridge))?);
    };
    let Some(bridge) = had.bridge.clone() else {
        return Err(Error::invalid("network", BRIDGE, "its record tells of no bridge"));
    };
    let ranges = wanted.map_or_else(|| bridge.ranges.clone(), |range| vec![range]);
    let now = Bridge { link: config.bridge.clone(), ranges, ..bridge.clone() };
    if now == bridge {
        return Ok(());
    }
    if books.members(&had.id).is_empty() {
        return books.put(Network { bridge: Some(now), ..had });
    }
    tracing::warn!(
        link = %bridge.link,
        "the default network keeps its bridge and range until its containers are gone"
    );
    Ok(())
}

fn range(net: ipnet::IpNet) -> Result<Range, Error> {
    Range::new(net).map_err(|error| Error::invalid("subnet", net, error))
}
