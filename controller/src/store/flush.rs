//! The one writer: brings what sled buffers to the disk, for all who wait at once.
//!
//! `flush` of sled writes but is no barrier against a power cut, hence the `fdatasync` on a descriptor of our own.
//! A change that promises nothing is only flushed, a moment later: should this process be killed in between, bundles
//! and journals know. Who tells others of a change waits until then, so that nothing is told that is forgotten.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use davit_sys::file::reserve_ahead;
use tokio::sync::{oneshot, watch};

use super::SyncError;

/// Bytes of disk that the database file may grow by when the disk is full: some thousand changes.
const AHEAD: u64 = 4 << 20;
/// How long a change that nobody waits for may wait for others: what follows it at once is written together with it, and
/// an operation goes on without sharing the processors with the writer.
const MOMENT: Duration = Duration::from_millis(2);

enum Order {
    /// Something was written: the change of this revision.
    Flush(u64),
    /// Somebody waits for what was written so far.
    Hurry,
    /// Somebody waits for a barrier.
    Sync(oneshot::Sender<Result<(), SyncError>>),
}

/// Handle of the writer thread. Dropping it writes the rest and ends the thread, which shares sled's lock.
#[derive(Debug)]
pub(super) struct Flusher {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<String>>>,
    /// The last revision that survives the death of this process.
    written: watch::Sender<u64>,
}

impl Flusher {
    pub(super) fn start(db: sled::Db, file: File, revision: u64) -> io::Result<Self> {
        let (orders, received) = channel();
        let failure = Arc::new(Mutex::new(None));
        let written = watch::Sender::new(revision);
        let (shared, told) = (failure.clone(), written.clone());
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write(&db, &file, &received, &Outcome { failure: &shared, written: &told }))?;
        Ok(Self { orders: Some(orders), thread: Some(thread), failure, written })
    }

    /// Something was written; it will be flushed soon.
    pub(super) fn nudge(&self, revision: u64) {
        // The thread lives as long as this value; had it panicked, the next sync would tell.
        let _ = self.send(Order::Flush(revision));
    }

    /// Waits until a revision survives the death of this process. Of a database that takes no more writes nothing is
    /// waited for.
    pub(super) async fn written(&self, revision: u64) {
        let mut written = self.written.subscribe();
        if *written.borrow() < revision {
            // The same as for a nudge.
            let _ = self.send(Order::Hurry);
        }
        // The writer outlives every waiter.
        let _ = written.wait_for(|written| *written >= revision).await;
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
        Outcome { failure: &self.failure, written: &self.written }.fail(why);
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

/// Where the writer tells how it went.
struct Outcome<'a> {
    failure: &'a Mutex<Option<String>>,
    written: &'a watch::Sender<u64>,
}

impl Outcome<'_> {
    fn fail(&self, why: &str) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            tracing::error!(
                why,
                "the store takes no more writes; the bundles keep the state until the next start"
            );
            *failure = Some(why.to_owned());
        }
        self.written.send_replace(u64::MAX);
    }
}

/// Blocks behind the end of the database file, so that it takes changes, removals above all, while the disk is full.
#[derive(Debug, Default)]
struct Ahead {
    until: u64,
}

impl Ahead {
    /// Sets more aside when less than half is left. Without room for it there will be room another time.
    fn keep(&mut self, file: &File) {
        let end = file.metadata().map_or(0, |about| about.len());
        if end.saturating_add(AHEAD / 2) <= self.until {
            return;
        }
        match reserve_ahead(file, end, AHEAD) {
            Ok(()) => self.until = end.saturating_add(AHEAD),
            Err(error) => tracing::debug!(%error, "no blocks ahead for the store"),
        }
    }
}

/// The last revision to be flushed, and who waits for a barrier.
fn gather(first: Order, orders: &Receiver<Order>) -> (u64, Vec<oneshot::Sender<Result<(), SyncError>>>) {
    let until = Instant::now() + MOMENT;
    let (mut revision, mut waiting, mut hurried) = (0, Vec::new(), false);
    let mut next = Some(first);
    while let Some(order) = next {
        match order {
            Order::Flush(of) => revision = revision.max(of),
            Order::Hurry => hurried = true,
            Order::Sync(done) => {
                waiting.push(done);
                hurried = true;
            }
        }
        next = match hurried {
            true => orders.try_recv().ok(),
            false => orders.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
        };
    }
    (revision, waiting)
}

fn write(db: &sled::Db, file: &File, orders: &Receiver<Order>, outcome: &Outcome<'_>) {
    let mut ahead = Ahead::default();
    ahead.keep(file);
    while let Ok(first) = orders.recv() {
        let (revision, waiting) = gather(first, orders);
        let flushed = db.flush().map_err(|error| error.to_string());
        if flushed.is_ok() {
            outcome.written.send_if_modified(|written| {
                let newer = revision > *written;
                *written = revision.max(*written);
                newer
            });
        }
        let synced = match flushed {
            Ok(_) if waiting.is_empty() => Ok(()),
            Ok(_) => file.sync_data().map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        if let Err(why) = &synced {
            outcome.fail(why);
        }
        ahead.keep(file);
        for done in waiting {
            // Somebody who no longer waits is no loss.
            let _ = done.send(synced.clone().map_err(SyncError));
        }
    }
}
