//! The engine: everything that the operations share. It holds clients and tables, and knows no order of things.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use davit_proto::container::{Container, Phase};
use davit_proto::id::ContainerId;
use davit_proto::image::images_client::ImagesClient;
use davit_proto::network::networks_client::NetworksClient;
use davit_proto::store::ContainerRecord;
use davit_proto::volume::volumes_client::VolumesClient;
use tokio::sync::OwnedMutexGuard;
use tonic::transport::Channel;

use crate::config::Config;
use crate::error::Error;
use crate::shim::{Program, Shim};
use crate::store::{Store, Unresolved};

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

/// What the engine knows of a container's shim.
#[derive(Debug, Clone)]
enum Contact {
    /// It lived when it was last heard of, and is being asked.
    Asking,
    /// It answers.
    Known(Shim),
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
    /// The identity of this boot.
    pub boot_id: String,
    /// What every shim runs.
    pub program: Arc<Program>,
    services: Services,
    contacts: Mutex<HashMap<ContainerId, Contact>>,
    locks: Mutex<HashMap<ContainerId, Arc<tokio::sync::Mutex<()>>>>,
    recovery: Mutex<Vec<String>>,
}

impl Engine {
    /// Puts the parts together.
    #[must_use]
    pub fn new(config: Config, store: Store, program: Program, parts: (Services, String)) -> Self {
        let (services, boot_id) = parts;
        Self {
            config,
            store,
            boot_id,
            program: Arc::new(program),
            services,
            contacts: Mutex::default(),
            locks: Mutex::default(),
            recovery: Mutex::default(),
        }
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
        match lock(&self.contacts).get(id) {
            Some(Contact::Known(_)) => None,
            Some(Contact::Asking) => Some("its shim is being asked".to_owned()),
            Some(Contact::Lost(why)) => Some(format!("its shim does not answer: {why}")),
            // Between the end of a shim and the record of its exit.
            None => None,
        }
    }

    /// The connection to a container's shim.
    ///
    /// # Errors
    /// When the container has none, or it cannot be reached.
    pub fn shim(&self, id: &ContainerId) -> Result<Shim, Error> {
        let contact = lock(&self.contacts).get(id).cloned();
        match contact {
            Some(Contact::Known(shim)) => Ok(shim),
            Some(Contact::Asking) => {
                Err(Error::Unreachable { id: id.clone(), why: "it is being asked".to_owned() })
            }
            Some(Contact::Lost(why)) => Err(Error::Unreachable { id: id.clone(), why }),
            None => Err(Error::NotRunning { verb: "reach", container: id.to_string(), id: id.clone() }),
        }
    }

    /// Whether the container has a shim, as far as is known.
    #[must_use]
    pub fn has_shim(&self, id: &ContainerId) -> bool {
        lock(&self.contacts).contains_key(id)
    }

    /// A shim answers.
    pub fn shim_known(&self, shim: Shim) {
        lock(&self.contacts).insert(shim.id().clone(), Contact::Known(shim));
    }

    /// A shim is there and is being asked.
    pub fn shim_asked(&self, id: &ContainerId) {
        lock(&self.contacts).insert(id.clone(), Contact::Asking);
    }

    /// A shim may live and does not answer.
    pub fn shim_lost(&self, id: &ContainerId, why: &str) {
        lock(&self.contacts).insert(id.clone(), Contact::Lost(why.to_owned()));
    }

    /// A shim is gone beyond doubt.
    pub fn shim_gone(&self, id: &ContainerId) {
        lock(&self.contacts).remove(id);
    }

    /// Waits for the turn to make, start, rename or remove a container. Reads, signals and waits need no turn.
    pub async fn turn(&self, id: &ContainerId) -> Turn {
        let mutex = lock(&self.locks).entry(id.clone()).or_default().clone();
        let guard = mutex.lock_owned().await;
        self.forget_locks();
        Turn { _guard: guard }
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
        tracing::warn!("{what}");
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
