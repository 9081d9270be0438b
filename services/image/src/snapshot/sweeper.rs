//! Deletion of whole trees beside the work: on some file systems it takes seconds.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use davit_sys::file;

/// How long one tree may be measured before it is deleted.
const MEASURE: Duration = Duration::from_secs(60);

/// Deletes trees one after the other on a thread of its own. What it had not come to when the process ended is found
/// by its name at the next start.
#[derive(Debug)]
pub(super) struct Sweeper {
    queue: Option<Sender<(PathBuf, Ticket)>>,
}

/// Tells what became of one tree.
#[derive(Debug, Clone, Default)]
struct Ticket(Arc<(Mutex<Option<u64>>, Condvar)>);

/// Trees on their way out.
#[derive(Debug, Default)]
pub struct Removal(Vec<Ticket>);

impl Sweeper {
    pub fn new() -> Self {
        let (queue, trees) = channel::<(PathBuf, Ticket)>();
        let run = move || {
            for (tree, ticket) in trees {
                let freed = sweep(&tree);
                if let Err(error) = &freed {
                    tracing::warn!(tree = %tree.display(), %error, "could not delete a tree, trying again at the next start");
                }
                ticket.tell(freed.unwrap_or(0));
            }
        };
        let started = thread::Builder::new().name("sweeper".to_owned()).spawn(run);
        if let Err(error) = &started {
            tracing::warn!(%error, "no thread for deletions, they wait for the next start");
        }
        Self { queue: started.is_ok().then_some(queue) }
    }

    /// Deletes a tree, some time.
    pub fn push(&self, tree: PathBuf) -> Removal {
        let ticket = Ticket::default();
        let sent = self.queue.as_ref().is_some_and(|queue| queue.send((tree, ticket.clone())).is_ok());
        if !sent {
            ticket.tell(0);
        }
        Removal(vec![ticket])
    }

    /// Waits until everything that was pushed before is deleted: it goes in turn, so the last one tells for all.
    pub fn drain(&self, until: Instant) {
        self.push(PathBuf::new()).wait(until);
    }
}

impl Ticket {
    fn tell(&self, freed: u64) {
        let (told, changed) = &*self.0;
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(freed);
        changed.notify_all();
    }

    fn wait(&self, until: Instant) -> u64 {
        let (told, changed) = &*self.0;
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        let waited = changed.wait_timeout_while(told, left, |told| told.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.unwrap_or(0)
    }
}

impl Removal {
    /// Adds what else goes.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Waits until all is deleted, at most until the given moment, and tells the bytes of disk that came free.
    pub fn wait(self, until: Instant) -> u64 {
        self.0.iter().map(|ticket| ticket.wait(until)).fold(0, u64::saturating_add)
    }
}

/// Measures and deletes a tree; a path without a name is none.
fn sweep(tree: &Path) -> std::io::Result<u64> {
    let (Some(parent), Some(name)) = (tree.parent(), tree.file_name()) else { return Ok(0) };
    let parent = file::open_dir(parent)?;
    let usage = file::usage(&parent, name, Instant::now() + MEASURE)?;
    file::remove_tree(&parent, name)?;
    Ok(usage.disk)
}
