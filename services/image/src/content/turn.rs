//! Turns: of all who want to make the same thing, one does and the others wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use davit_proto::id::Digest;
use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

/// Hands out turns, one at a time for each digest.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    locks: Arc<Mutex<HashMap<Digest, Weak<Lock>>>>,
}

/// The right to make what a digest names, until this is dropped.
#[derive(Debug)]
pub struct Turn {
    _guard: OwnedMutexGuard<()>,
}

impl Turns {
    /// Waits for a turn.
    pub async fn take(&self, digest: &Digest) -> Turn {
        Turn { _guard: self.lock(digest).lock_owned().await }
    }

    /// Waits for a turn on a thread that may block.
    #[must_use]
    pub fn take_blocking(&self, digest: &Digest) -> Turn {
        Turn { _guard: self.lock(digest).blocking_lock_owned() }
    }

    /// The turn, if nobody has it.
    #[must_use]
    pub fn try_take(&self, digest: &Digest) -> Option<Turn> {
        self.lock(digest).try_lock_owned().ok().map(|guard| Turn { _guard: guard })
    }

    fn lock(&self, digest: &Digest) -> Arc<Lock> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(Lock::default());
        locks.insert(digest.clone(), Arc::downgrade(&lock));
        lock
    }
}
