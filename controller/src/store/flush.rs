//! The one writer: brings what sled buffers to the disk, for all who wait at once.
//!
//! `flush` of sled writes but is no barrier against a power cut, hence the `fdatasync` on a descriptor of our own.
//! A change that promises nothing is only flushed, a moment later and with nobody waiting: should this process be
//! killed in between, the bundles know.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::SyncError;

enum Order {
    /// Something was written.
    Flush,
    /// Somebody waits for a barrier.
    Sync(oneshot::Sender<Result<(), SyncError>>),
}

/// Handle of the writer thread. Dropping it writes the rest and ends the thread, which shares sled's lock.
#[derive(Debug)]
pub(super) struct Flusher {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Flusher {
    pub(super) fn start(db: sled::Db, file: File) -> io::Result<Self> {
        let (orders, received) = channel();
        let failure = Arc::new(Mutex::new(None));
        let shared = failure.clone();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write(&db, &file, &received, &shared))?;
        Ok(Self { orders: Some(orders), thread: Some(thread), failure })
    }

    /// Something was written; it will be flushed soon.
    pub(super) fn nudge(&self) {
        // The thread lives as long as this value; had it panicked, the next sync would tell.
        let _ = self.send(Order::Flush);
    }

    pub(super) async fn sync(&self) -> Result<(), SyncError> {
        let (done, waiting) = oneshot::channel();
        let gone = || SyncError("the writer has ended".to_owned());
        self.send(Order::Sync(done)).ok_or_else(gone)?;
        waiting.await.map_err(|_| gone())?
    }

    fn send(&self, order: Order) -> Option<()> {
        self.orders.as_ref()?.send(order).ok()
    }

    /// Notes that the database takes no more writes.
    pub(super) fn fail(&self, why: &str) {
        fail(&self.failure, why);
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there was told by its own message.
            let _ = thread.join();
        }
    }
}

fn fail(failure: &Mutex<Option<String>>, why: &str) {
    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
    if failure.is_none() {
        tracing::error!(
            why,
            "the store takes no more writes; the bundles keep the state until the next start"
        );
        *failure = Some(why.to_owned());
    }
}

fn write(db: &sled::Db, file: &File, orders: &Receiver<Order>, failure: &Mutex<Option<String>>) {
    while let Ok(first) = orders.recv() {
        let mut waiting = Vec::new();
        for order in std::iter::once(first).chain(orders.try_iter()) {
            if let Order::Sync(done) = order {
                waiting.push(done);
            }
        }
        let flushed = db.flush().map_err(|error| error.to_string());
        let synced = match flushed {
            Ok(_) if waiting.is_empty() => Ok(()),
            Ok(_) => file.sync_data().map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        if let Err(why) = &synced {
            fail(failure, why);
        }
        for done in waiting {
            // Somebody who no longer waits is no loss.
            let _ = done.send(synced.clone().map_err(SyncError));
        }
    }
}
