//! What may hang (a server that does not answer, a device that is gone) runs on a thread of its own, with a deadline.
//! Such a thread cannot be ended from here; so there are only so many of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::error::Error;

/// How long a mount may take.
pub const MOUNT: Duration = Duration::from_secs(20);
/// Threads that may hang at a time.
const HANGING: usize = 32;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Does something on a thread of its own. What it answers after the deadline is dropped there.
pub fn within<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let late = |why: String| Error::Late { what: what.to_owned(), why };
    if RUNNING.fetch_add(1, Ordering::SeqCst) >= HANGING {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        return Err(late(format!("{HANGING} others hang already")));
    }
    let (answer, waiting) = mpsc::sync_channel(1);
    let spawned = std::thread::Builder::new().name("volume-mount".to_owned()).spawn(move || {
        let done = work();
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        // Nobody may be waiting any more.
        let _ = answer.send(done);
    });
    if let Err(error) = spawned {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        return Err(late(error.to_string()));
    }
    match waiting.recv_timeout(limit) {
        Ok(done) => done,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(late(format!("not done after {} s", limit.as_secs()))),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::Lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_left_alone() {
        assert_eq!(within(MOUNT, "count", || Ok(7)).unwrap(), 7);
        let (end, ended) = mpsc::channel::<()>();
        let late = within(Duration::from_millis(10), "wait", move || {
            let _ = ended.recv();
            Ok(())
        });
        assert!(matches!(late, Err(Error::Late { .. })));
        drop(end);
    }
}
