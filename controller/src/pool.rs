//! Shims that are prepared before anybody asks: of the shape that nearly all containers have, with the ids that these
//! will have, and on the default bridge already. Whoever makes a container that fits takes one and goes on with the
//! second half; whoever does not find one makes its own.
//!
//! An item is no container: it has no record, no name and no place in any list. Its shim holds a pipe to this engine
//! and ends with it, and what is left of it then is found by the mark in its folder.

mod demand;
mod item;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use davit_proto::container::ContainerSpec;
use davit_proto::id::ContainerId;
use davit_proto::network::Network as Found;
use davit_proto::status::chain;
use davit_proto::task::Shape;
use tokio::sync::Notify;

use crate::container::network::BRIDGE;
use crate::container::shape::{self, Network};
use crate::engine::Engine;
use crate::error::Error;
use demand::Demand;

pub use item::Item;

/// How long a container that took an item is given for its start, before its successor competes for processors and for the
/// kernel's locks of mounts and cgroups. Longer costs whoever starts many in a row.
const BREATH: Duration = Duration::from_millis(12);
/// How often it is looked whether there are too many.
const TICK: Duration = Duration::from_secs(10);
/// Pauses after an item that could not be made.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What an item is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A container on the default bridge.
    Bridged,
    /// One with a network namespace that nothing was put into.
    Alone,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Bridged, Self::Alone];

    /// Which items a container can take; none when it is of another shape.
    #[must_use]
    pub fn of(spec: &ContainerSpec, shape: &Shape) -> Option<Self> {
        if !spec.cgroup_parent.is_empty() || *shape != shape::default().ok()? {
            return None;
        }
        match shape::network(spec).ok()? {
            Network::Wired(endpoints) => match endpoints.as_slice() {
                [one]
                    if one.network == BRIDGE
                        && one.ipv4.is_empty()
                        && one.ipv6.is_empty()
                        && one.mac.is_empty() =>
                {
                    Some(Self::Bridged)
                }
                _ => Some(Self::Alone),
            },
            Network::None => Some(Self::Alone),
            Network::Host | Network::Container(_) => None,
        }
    }
}

/// The items of one kind.
#[derive(Debug)]
struct Shelf {
    kind: Kind,
    demand: Demand,
    /// The oldest first.
    items: VecDeque<Item>,
}

#[derive(Debug)]
struct Shelves {
    all: [Shelf; 2],
    /// Ids of items, from their making on and until they are containers or nothing; and of containers that are gone
    /// before their shims are.
    hidden: HashSet<ContainerId>,
    closed: bool,
}

/// All items.
#[derive(Debug)]
pub struct Pool {
    shelves: Mutex<Shelves>,
    asked: Notify,
    /// Held by whoever makes items.
    making: tokio::sync::Mutex<()>,
}

/// What is to be done next.
enum Step {
    Make(Kind, Duration),
    End(Box<Item>),
    /// Nothing, for so long or until somebody asks.
    Rest(Option<Duration>),
    Close,
}

impl Pool {
    /// A pool that is empty, and will hold so many of each kind at most.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let all = Kind::ALL.map(|kind| Shelf { kind, demand: Demand::new(most), items: VecDeque::new() });
        let shelves = Shelves { all, hidden: HashSet::new(), closed: most == 0 };
        Self { shelves: Mutex::new(shelves), asked: Notify::new(), making: tokio::sync::Mutex::default() }
    }

    /// An item for a container, if there is one that fits. One that is on no network yet can be put on any.
    pub fn take(&self, kind: Kind) -> Option<Item> {
        let mut shelves = self.lock();
        if shelves.closed {
            return None;
        }
        let mut found = shelves.shelf(kind).items.pop_front();
        if found.is_none() && kind == Kind::Bridged {
            found = shelves.shelf(Kind::Alone).items.pop_front();
        }
        shelves.shelf(kind).demand.ask(found.is_some(), Instant::now());
        drop(shelves);
        self.asked.notify_one();
        found
    }

    /// Takes an item back that was not used after all. Answers with it when there is no place for it any more.
    ///
    /// # Errors
    /// With the item, when the pool is closed.
    pub fn put(&self, item: Item) -> Result<(), Box<Item>> {
        let mut shelves = self.lock();
        if shelves.closed {
            return Err(Box::new(item));
        }
        shelves.shelf(item.kind).items.push_front(item);
        Ok(())
    }

    /// What has this id is no container, and shall not be taken for one while it holds something.
    pub fn conceal(&self, id: &ContainerId) {
        self.lock().hidden.insert(id.clone());
    }

    /// It is a container now, or nothing.
    pub fn reveal(&self, id: &ContainerId) {
        self.lock().hidden.remove(id);
    }

    /// Takes those out of a network's list who are no containers, or are none any more.
    pub fn hide(&self, network: &mut Found) {
        let shelves = self.lock();
        let is_hidden = |id: &str| id.parse().is_ok_and(|id: ContainerId| shelves.hidden.contains(&id));
        network.endpoints.retain(|endpoint| !is_hidden(&endpoint.container_id));
    }

    /// How many items are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.lock().all.iter().map(|shelf| shelf.items.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> Step {
        let mut shelves = self.lock();
        if shelves.closed {
            return Step::Close;
        }
        let mut any = false;
        for shelf in &mut shelves.all {
            let target = shelf.demand.target(Instant::now());
            any |= target > 0;
            if shelf.items.len() > target {
                return shelf.items.pop_front().map_or(Step::Rest(None), |item| Step::End(Box::new(item)));
            }
            if shelf.items.len() < target {
                let breath = if shelf.items.is_empty() { Duration::ZERO } else { BREATH };
                return Step::Make(shelf.kind, breath);
            }
        }
        Step::Rest(any.then_some(TICK))
    }
}

impl Shelves {
    fn shelf(&mut self, kind: Kind) -> &mut Shelf {
        let [bridged, alone] = &mut self.all;
        match kind {
            Kind::Bridged => bridged,
            Kind::Alone => alone,
        }
    }
}

/// Keeps as many items as those who ask are worth, until the pool is closed. One at a time: what is started now goes
/// first.
pub async fn keep(engine: Arc<Engine>) {
    let pool = &engine.pool;
    let mut pause = FIRST_PAUSE;
    loop {
        match pool.step() {
            Step::Close => return,
            Step::Rest(limit) => rest(pool, limit).await,
            Step::End(item) => end(&engine, *item).await,
            Step::Make(kind, breath) => {
                tokio::time::sleep(breath).await;
                match add(&engine, kind).await {
                    Ok(()) => pause = FIRST_PAUSE,
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "failed to prepare a shim ahead");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                }
            }
        }
    }
}

async fn rest(pool: &Pool, limit: Option<Duration>) {
    let asked = pool.asked.notified();
    match limit {
        // Nobody who did not ask is waited for.
        Some(limit) => drop(tokio::time::timeout(limit, asked).await),
        None => asked.await,
    }
}

/// Makes one more item.
async fn add(engine: &Arc<Engine>, kind: Kind) -> Result<(), Error> {
    let _making = engine.pool.making.lock().await;
    let id = ContainerId::generate()
        .map_err(|error| Error::io("make a container id")(std::io::Error::other(error)))?;
    engine.pool.conceal(&id);
    let item = item::make(engine, &id, kind).await?;
    give_back(engine, item).await;
    tracing::debug!(container_id = %id, ?kind, ready = engine.pool.ready(), "prepared a shim ahead");
    Ok(())
}

/// Puts an item on its shelf, or ends it when there is none any more.
pub async fn give_back(engine: &Arc<Engine>, item: Item) {
    if let Err(item) = engine.pool.put(item) {
        end(engine, *item).await;
    }
}

async fn end(engine: &Arc<Engine>, item: Item) {
    let id = item.id.clone();
    drop(item.into_prepared());
    item::end(engine, &id).await;
}

/// An item's shim has ended by itself, or was killed.
async fn lost(engine: &Arc<Engine>, id: &ContainerId) {
    let found = {
        let mut shelves = engine.pool.lock();
        let place = |shelf: &Shelf| shelf.items.iter().position(|item| item.id == *id);
        shelves.all.iter_mut().find_map(|shelf| place(shelf).and_then(|at| shelf.items.remove(at)))
    };
    if let Some(item) = found {
        tracing::warn!(container_id = %id, "a prepared shim has ended");
        end(engine, item).await;
        engine.pool.asked.notify_one();
    }
}

/// No item is made while somebody has this.
#[derive(Debug)]
pub struct Quiet<'a> {
    _making: tokio::sync::MutexGuard<'a, ()>,
}

/// Ends all items that are on the default bridge: somebody wants an address that one of them may have. None when there
/// were none.
pub async fn yield_addresses(engine: &Arc<Engine>) -> Option<Quiet<'_>> {
    let making = engine.pool.making.lock().await;
    let items = std::mem::take(&mut engine.pool.lock().shelf(Kind::Bridged).items);
    if items.is_empty() {
        return None;
    }
    end_all(engine, items).await;
    Some(Quiet { _making: making })
}

/// Ends all items, for good: the engine stops.
pub async fn close(engine: &Arc<Engine>) {
    engine.pool.lock().closed = true;
    engine.pool.asked.notify_one();
    // One that is in the making is ended by its maker.
    let _making = engine.pool.making.lock().await;
    let items: Vec<Item> =
        engine.pool.lock().all.iter_mut().flat_map(|shelf| shelf.items.drain(..)).collect();
    end_all(engine, items).await;
}

async fn end_all(engine: &Arc<Engine>, items: impl IntoIterator<Item = Item>) {
    futures_util::future::join_all(items.into_iter().map(|item| end(engine, item))).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::container::{EndpointSpec, Namespaces};

    fn on(endpoints: Vec<EndpointSpec>) -> ContainerSpec {
        ContainerSpec { networks: endpoints, ..ContainerSpec::default() }
    }

    fn kind(spec: &ContainerSpec) -> Option<Kind> {
        Kind::of(spec, &shape::of(spec).unwrap())
    }

    #[test]
    fn what_fits_takes_an_item_of_its_kind() {
        let named = |network: &str| EndpointSpec { network: network.to_owned(), ..EndpointSpec::default() };
        assert_eq!(kind(&ContainerSpec::default()), Some(Kind::Bridged));
        assert_eq!(kind(&on(vec![named("bridge")])), Some(Kind::Bridged));
        assert_eq!(kind(&on(vec![named("none")])), Some(Kind::Alone));
        assert_eq!(kind(&on(vec![named("other")])), Some(Kind::Alone));
        assert_eq!(kind(&on(vec![named("bridge"), named("other")])), Some(Kind::Alone));
        assert_eq!(kind(&on(vec![named("host")])), None);
        assert_eq!(kind(&on(vec![named("container:x")])), None);
        for asking in [
            EndpointSpec { ipv4: "172.17.0.9".into(), ..EndpointSpec::default() },
            EndpointSpec { ipv6: "fd00::9".into(), ..EndpointSpec::default() },
            EndpointSpec { mac: "02:00:00:00:00:01".into(), ..EndpointSpec::default() },
        ] {
            assert_eq!(kind(&on(vec![asking])), Some(Kind::Alone), "its address is its own choice");
        }
    }

    #[test]
    fn another_shape_takes_none() {
        let names = |names: Namespaces| ContainerSpec { namespaces: Some(names), ..ContainerSpec::default() };
        for spec in [
            ContainerSpec { privileged: true, ..ContainerSpec::default() },
            ContainerSpec { cgroup_parent: "/mine".into(), ..ContainerSpec::default() },
            ContainerSpec { security_opt: vec!["unmask=/proc/acpi".into()], ..ContainerSpec::default() },
            names(Namespaces { pid: "host".into(), ..Namespaces::default() }),
            names(Namespaces { uts: "host".into(), ..Namespaces::default() }),
            names(Namespaces { ipc: "host".into(), ..Namespaces::default() }),
            names(Namespaces { user: "100000:100000:65536".into(), ..Namespaces::default() }),
        ] {
            assert_eq!(kind(&spec), None, "{spec:?}");
        }
        assert_eq!(
            kind(&names(Namespaces { ipc: "shareable".into(), ..Namespaces::default() })),
            Some(Kind::Bridged)
        );
    }
}
