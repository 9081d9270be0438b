//! The engine: everything that the operations share. It holds clients and tables, and knows no order of things.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use davit_proto::container::{Container, Phase};
use davit_proto::id::ContainerId;
use davit_proto::image::images_client::ImagesClient;
use davit_proto::network::networks_client::NetworksClient;
use davit_proto::store::ContainerRecord;
use davit_proto::task::TaskState;
use davit_proto::volume::volumes_client::VolumesClient;
use davit_sys::file::{Durability, open_dir, write_atomic};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::task::AbortHandle;
use tonic::transport::Channel;

use crate::config::Config;
use crate::container::copy::Copies;
use crate::container::freeze::Freezes;
use crate::container::release::early;
use crate::container::spec::Host;
use crate::error::Error;
use crate::pool::Pool;
use crate::revive::Cuts;
use crate::shim::{Program, Shim};
use crate::store::{Store, Unresolved};

/// File of the run directory that holds the identity of the boot.
const BOOT: &str = "boot";
/// How long somebody waits for a shim that is being asked, and how long between two looks at first and at last.
const ASKING: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_micros(500);
const TICK: Duration = Duration::from_millis(10);

/// Channels to the three services, embedded or not.
#[derive(Debug, Clone)]
pub struct Services {
    /// Images.
    pub image: Channel,
    /// Volumes.
    pub volume: Channel,
    /// Networks.
    pub network: Channel,
}

/// What was found out about this host at the start.
#[derive(Debug)]
pub struct Facts {
    /// What it is and may give.
    pub host: Host,
    /// The identity of this boot.
    pub boot_id: String,
    /// When it began, or was first seen by an engine.
    pub booted_at: SystemTime,
    /// No engine of this run directory began in this boot before: nothing that ran can run any more.
    pub rebooted: bool,
}

impl Facts {
    /// Finds them out.
    ///
    /// # Errors
    /// When `/proc`, `/sys` or the run directory cannot be read.
    pub fn read(run: &Path) -> io::Result<Self> {
        let host = Host::read()?;
        let boot_id = davit_sys::process::boot_id()?;
        let stat = std::fs::read_to_string("/proc/stat")?;
        let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let seconds = seconds.ok_or_else(|| io::Error::other("/proc/stat has no btime"))?;
        let booted_at = UNIX_EPOCH + Duration::from_secs(seconds);
        let known = match davit_sys::file::read_bounded(&run.join(BOOT), 256) {
            Ok(known) => known,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let rebooted = known != boot_id.as_bytes();
        // Whatever ran before this moment cannot run any more.
        let booted_at = if rebooted { SystemTime::now() } else { booted_at };
        Ok(Self { host, boot_id, booted_at, rebooted })
    }

    /// Remembers that what a restart of the host asks for was done.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remember_boot(&self, run: &Path) -> io::Result<()> {
        write_atomic(open_dir(run)?, BOOT, self.boot_id.as_bytes(), Durability::Cached)
    }
}

/// What the engine knows of a container's shim.
#[derive(Debug)]
struct Contact {
    heard: Heard,
    /// The task that follows it.
    follower: Option<AbortHandle>,
}

/// What was last heard of a shim.
#[derive(Debug, Clone)]
enum Heard {
    /// It lived once, and is being asked.
    Asking,
    /// The same, and the kernel says that it lives: what it wrote down last holds.
    Expected,
    /// It answers.
    Known(Shim, TaskState),
    /// It may live, and does not answer.
    Lost(String),
}

/// The state that all operations share.
#[derive(Debug)]
pub struct Engine {
    /// The settings.
    pub config: Config,
    /// What is wanted.
    pub store: Store,
    /// What was found out about this host at the start.
    pub facts: Facts,
    /// What every shim runs.
    pub program: Arc<Program>,
    services: Services,
    contacts: Mutex<HashMap<ContainerId, Contact>>,
    locks: Mutex<HashMap<ContainerId, Arc<tokio::sync::Mutex<()>>>>,
    /// Who left something that is still to be cleared.
    unsettled: Mutex<HashSet<ContainerId>>,
    recovery: Mutex<Vec<String>>,
    ids: Mutex<()>,
    hosts: Mutex<()>,
    /// Who reads a journal, by the last digit of its container's id.
    readers: [Mutex<()>; 16],
    /// Shims that were killed.
    pub cuts: Cuts,
    /// Helpers that copy files now.
    pub copies: Copies,
    /// Containers that are frozen while they are read.
    pub freezes: Freezes,
    /// Shims that are prepared before anybody asks.
    pub pool: Pool,
    /// Places of containers that are gone while their shims are not.
    pub leaving: Arc<Semaphore>,
}

impl Engine {
    /// Puts the parts together.
    #[must_use]
    pub fn new(config: Config, store: Store, facts: Facts, program: Program, services: Services) -> Self {
        Self {
            pool: Pool::new(config.pool),
            leaving: Arc::new(Semaphore::new(early::MOST)),
            config,
            store,
            facts,
            program: Arc::new(program),
            services,
            contacts: Mutex::default(),
            locks: Mutex::default(),
            unsettled: Mutex::default(),
            recovery: Mutex::default(),
            ids: Mutex::default(),
            hosts: Mutex::default(),
            readers: Default::default(),
            cuts: Cuts::default(),
            copies: Copies::default(),
            freezes: Freezes::default(),
        }
    }

    /// Held by whoever chooses ids for a container, until its record has them.
    pub fn choosing_ids(&self) -> MutexGuard<'_, ()> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by whoever reads a hosts file to write it again. Never held across an await.
    pub fn writing_hosts(&self) -> MutexGuard<'_, ()> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of the image service.
    #[must_use]
    pub fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.services.image.clone())
    }

    /// A client of the volume service.
    #[must_use]
    pub fn volumes(&self) -> VolumesClient<Channel> {
        VolumesClient::new(self.services.volume.clone())
    }

    /// A client of the network service.
    #[must_use]
    pub fn networks(&self) -> NetworksClient<Channel> {
        NetworksClient::new(self.services.network.clone())
    }

    /// The container that a person means.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, text: &str) -> Result<ContainerId, Error> {
        Ok(self.store.resolve(text)?)
    }

    /// A container's record.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn record(&self, id: &ContainerId) -> Result<Arc<ContainerRecord>, Error> {
        self.store.get(id).ok_or_else(|| Unresolved::NotFound(id.to_string()).into())
    }

    /// A container as it is reported.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn container(&self, id: &ContainerId) -> Result<Container, Error> {
        let record = self.record(id)?;
        Ok(self.view(&record))
    }

    /// All containers as they are reported, newest first, and the revision that this is true at.
    #[must_use]
    pub fn containers(&self) -> (Vec<Container>, u64) {
        let listing = self.store.all();
        let mut containers: Vec<_> = listing.records.iter().map(|record| self.view(record)).collect();
        let age = |c: &Container| c.created_at.as_ref().map(|at| (at.seconds, at.nanos));
        containers.sort_by(|a, b| age(b).cmp(&age(a)).then_with(|| a.id.cmp(&b.id)));
        (containers, listing.revision)
    }

    /// The record's container. What runs by the record and whose shim does not answer is *unknown*, never dead.
    fn view(&self, record: &ContainerRecord) -> Container {
        let mut container = record.container.clone().unwrap_or_default();
        if let Some(status) = &mut container.status
            && matches!(status.phase(), Phase::Running | Phase::Paused | Phase::Restarting)
            && let Ok(id) = container.id.parse()
            && let Some(why) = self.silence(&id)
        {
            status.set_phase(Phase::Unknown);
            status.error = why;
        }
        container
    }

    /// Why a container's shim is not heard, when it is not.
    fn silence(&self, id: &ContainerId) -> Option<String> {
        match &lock(&self.contacts).get(id)?.heard {
            Heard::Known(..) | Heard::Expected => None,
            Heard::Asking => Some("its shim is being asked".to_owned()),
            Heard::Lost(why) => Some(format!("its shim does not answer: {why}")),
        }
    }

    /// The connection to a container's shim.
    ///
    /// # Errors
    /// When the container has none, or it cannot be reached.
    pub fn shim(&self, id: &ContainerId) -> Result<Shim, Error> {
        let unreachable = |why: String| Error::Unreachable { id: id.clone(), why };
        match lock(&self.contacts).get(id).map(|contact| contact.heard.clone()) {
            Some(Heard::Known(shim, _)) => Ok(shim),
            Some(Heard::Asking | Heard::Expected) => Err(unreachable("it is being asked".to_owned())),
            Some(Heard::Lost(why)) => Err(unreachable(why)),
            None => Err(Error::NotRunning { verb: "reach", container: id.to_string(), id: id.clone() }),
        }
    }

    /// Waits for the answer of a shim that is being asked, for a moment: whoever comes right after a start of the
    /// engine, or right after the death of a shim, gets the truth and not "unknown".
    pub async fn heard_from(&self, id: &ContainerId) {
        let deadline = tokio::time::Instant::now() + ASKING;
        let is_asked = || {
            let contacts = lock(&self.contacts);
            contacts.get(id).is_some_and(|contact| matches!(contact.heard, Heard::Asking | Heard::Expected))
        };
        let mut pause = SOON;
        while is_asked() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(TICK);
        }
    }

    /// The connection to a container's shim, once that answers, if it is only being asked.
    ///
    /// # Errors
    /// When the container has none, or it cannot be reached.
    pub async fn shim_heard(&self, id: &ContainerId) -> Result<Shim, Error> {
        self.heard_from(id).await;
        self.shim(id)
    }

    /// The connection to a shim that can begin a life at once: its init waits at the gate, or it waits to restart.
    #[must_use]
    pub fn shim_at_gate(&self, id: &ContainerId) -> Option<Shim> {
        match &lock(&self.contacts).get(id)?.heard {
            Heard::Known(shim, TaskState::Created | TaskState::Restarting) => Some(shim.clone()),
            Heard::Known(..) | Heard::Asking | Heard::Expected | Heard::Lost(_) => None,
        }
    }

    /// Whether a container's init waits for its first life in this shim.
    #[must_use]
    pub fn is_new(&self, id: &ContainerId) -> bool {
        let contacts = lock(&self.contacts);
        contacts.get(id).is_some_and(|contact| matches!(contact.heard, Heard::Known(_, TaskState::Created)))
    }

    /// Whether the container has a shim, as far as is known.
    #[must_use]
    pub fn has_shim(&self, id: &ContainerId) -> bool {
        lock(&self.contacts).contains_key(id)
    }

    /// Whether a container left something that could not be cleared yet.
    #[must_use]
    pub fn is_unsettled(&self, id: &ContainerId) -> bool {
        lock(&self.unsettled).contains(id)
    }

    /// A container left something, or all that it left is cleared.
    pub fn settled(&self, id: &ContainerId, is_settled: bool) {
        let mut unsettled = lock(&self.unsettled);
        match is_settled {
            true => drop(unsettled.remove(id)),
            false => drop(unsettled.insert(id.clone())),
        }
    }

    /// A shim answers, and is in this state.
    pub fn shim_at(&self, shim: Shim, state: TaskState) {
        let id = shim.id().clone();
        self.heard(&id, Heard::Known(shim, state));
    }

    /// A shim lives, as the kernel says, and is being asked.
    pub fn shim_expected(&self, id: &ContainerId) {
        self.heard(id, Heard::Expected);
    }

    /// A shim is there and is being asked.
    pub fn shim_asked(&self, id: &ContainerId) {
        self.heard(id, Heard::Asking);
    }

    /// A shim may live and does not answer.
    pub fn shim_lost(&self, id: &ContainerId, why: &str) {
        self.heard(id, Heard::Lost(why.to_owned()));
    }

    fn heard(&self, id: &ContainerId, heard: Heard) {
        let mut contacts = lock(&self.contacts);
        match contacts.get_mut(id) {
            Some(contact) => contact.heard = heard,
            None => {
                contacts.insert(id.clone(), Contact { heard, follower: None });
            }
        }
    }

    /// A task follows the shim from now on.
    pub fn shim_followed(&self, id: &ContainerId, follower: AbortHandle) {
        if let Some(contact) = lock(&self.contacts).get_mut(id) {
            contact.follower = Some(follower);
        }
    }

    /// A shim is gone beyond doubt, says the task that followed it and asked in vain. One that answers is its successor.
    pub fn shim_over(&self, id: &ContainerId) {
        let mut contacts = lock(&self.contacts);
        if !matches!(contacts.get(id), Some(Contact { heard: Heard::Known(..), .. })) {
            contacts.remove(id);
        }
    }

    /// A shim was ended: whoever followed it has nothing more to say.
    pub fn shim_gone(&self, id: &ContainerId) {
        let contact = lock(&self.contacts).remove(id);
        if let Some(follower) = contact.and_then(|contact| contact.follower) {
            follower.abort();
        }
    }

    /// Waits for the turn to make, start, rename or remove a container. Reads, signals and waits need no turn.
    pub async fn turn(&self, id: &ContainerId) -> Turn {
        let mutex = lock(&self.locks).entry(id.clone()).or_default().clone();
        let guard = mutex.lock_owned().await;
        self.forget_locks();
        Turn { _guard: guard }
    }

    /// The right to read a container's journal and to enter what it says: of two who read it at different moments one
    /// might pass over what the other has not entered yet. Never held across an await.
    pub fn reading(&self, id: &ContainerId) -> MutexGuard<'_, ()> {
        let digit = id.as_str().bytes().last().map_or(0, usize::from);
        lock(&self.readers[digit % self.readers.len()])
    }

    /// Drops the locks that nobody holds or waits for.
    fn forget_locks(&self) {
        let mut locks = lock(&self.locks);
        if locks.len() > 64 {
            locks.retain(|_, mutex| Arc::strong_count(mutex) > 1);
        }
    }

    /// How the last start of the controller went, one sentence each.
    #[must_use]
    pub fn recovery(&self) -> Vec<String> {
        lock(&self.recovery).clone()
    }

    /// Notes what the start did.
    pub fn recovered(&self, what: String) {
        tracing::info!("{what}");
        lock(&self.recovery).push(what);
    }

    /// What a person should know of the engine now.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let store = self.store.failure();
        store
            .map(|why| format!("the store takes no more writes ({why}); it is rebuilt at the next start"))
            .into_iter()
            .collect()
    }
}

/// The right to change one container's existence, until dropped.
#[derive(Debug)]
pub struct Turn {
    _guard: OwnedMutexGuard<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
