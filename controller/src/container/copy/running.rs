//! Helpers that copy now: how many there may be, and their end when the container's files become somebody else's.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use davit_proto::id::ContainerId;
use davit_sys::process;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::Engine;
use crate::shim;

/// Most helpers at a time; more wait.
const HELPERS: usize = 32;

/// Which helpers of a container are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those in the mounts of its shim.
    Live,
    /// All of them.
    All,
}

/// One helper.
#[derive(Debug)]
struct Running {
    live: bool,
    pidfd: Arc<OwnedFd>,
}

/// All helpers of an engine.
#[derive(Debug)]
pub struct Copies {
    running: Mutex<HashMap<ContainerId, Vec<Running>>>,
    seats: Arc<Semaphore>,
}

impl Default for Copies {
    fn default() -> Self {
        Self { running: Mutex::default(), seats: Arc::new(Semaphore::new(HELPERS)) }
    }
}

impl Copies {
    /// The right to start a helper.
    pub(super) async fn seat(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.seats.clone().acquire_owned().await.ok()
    }

    pub(super) fn enter(engine: &Arc<Engine>, id: &ContainerId, live: bool, pidfd: Arc<OwnedFd>) -> Entered {
        let running = Running { live, pidfd: pidfd.clone() };
        engine.copies.lock().entry(id.clone()).or_default().push(running);
        Entered { engine: engine.clone(), id: id.clone(), pidfd }
    }

    /// Whether files of a container are being copied.
    #[must_use]
    pub fn any(&self, id: &ContainerId) -> bool {
        self.lock().contains_key(id)
    }

    /// Ends helpers of a container, and returns when they are gone.
    pub async fn end(&self, id: &ContainerId, which: Which) {
        let found: Vec<_> = self
            .lock()
            .get(id)
            .into_iter()
            .flatten()
            .filter(|running| which == Which::All || running.live)
            .map(|running| running.pidfd.clone())
            .collect();
        for pidfd in found {
            // One that has ended cannot be killed, and need not be waited for.
            if process::kill(&*pidfd).is_ok()
                && let Ok(copy) = pidfd.try_clone()
                && let Err(error) = shim::ended(copy).await
            {
                tracing::warn!(%error, container_id = %id, "failed to wait for a copying helper");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Vec<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A helper's place in the table, until it is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    engine: Arc<Engine>,
    id: ContainerId,
    pidfd: Arc<OwnedFd>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut all = self.engine.copies.lock();
        if let Some(running) = all.get_mut(&self.id) {
            running.retain(|one| !Arc::ptr_eq(&one.pidfd, &self.pidfd));
            if running.is_empty() {
                all.remove(&self.id);
            }
        }
    }
}
