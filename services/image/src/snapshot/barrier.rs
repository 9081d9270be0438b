//! What was written is on the disk: one sync of the file system for all who wait for one.
//!
//! Layers that end together wait for the same sync. While layers come in, much of what they wrote is sent to the disk
//! ahead, so that the sync at the end has little left to do: the disk and the processors work at the same time.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use davit_sys::file;

/// Compressed bytes after which what they became is sent to the disk ahead.
const AHEAD: u64 = 16 << 20;

/// Syncs of the file system that a folder lies on.
#[derive(Debug)]
pub(super) struct Barrier {
    /// The kernel tells an error of an earlier write once for each time a file is opened, so all syncs are of this one.
    folder: OwnedFd,
    state: Mutex<State>,
    ended: Condvar,
    /// Compressed bytes that came since a sync was last begun for their number.
    came: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the sync that was begun last, and of the one that ended last.
    begun: u64,
    ended: u64,
    /// The last one that failed, and what the kernel said.
    failed: Option<(u64, Option<i32>)>,
}

/// The moment before something is written that [`Barrier::pass`] is to be asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entered(u64);

impl Barrier {
    pub(super) fn new(folder: OwnedFd) -> Arc<Self> {
        let (state, ended, came) = (Mutex::default(), Condvar::new(), AtomicU64::new(0));
        Arc::new(Self { folder, state, ended, came })
    }

    /// To be called before the first byte is written: a sync that fails from here on may have lost some of them.
    pub(super) fn enter(&self) -> Entered {
        Entered(self.lock().ended + 1)
    }

    /// Returns when all that was written before is durable.
    pub(super) fn pass(&self, entered: Entered) -> io::Result<()> {
        self.pass_with(entered, || file::sync_file_system(self.folder.as_fd()))
    }

    /// By a sync that begins after this was called, whoever it was that began it.
    fn pass_with(&self, entered: Entered, sync: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.lock();
        let wanted = state.begun + 1;
        while state.ended < wanted {
            if state.begun != state.ended {
                state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.begun += 1;
            let number = state.begun;
            drop(state);
            let result = sync();
            state = self.lock();
            state.ended = number;
            if let Err(error) = result {
                state.failed = Some((number, error.raw_os_error()));
            }
            self.ended.notify_all();
        }
        match state.failed {
            Some((number, code)) if number >= entered.0 => {
                Err(code.map_or_else(|| io::Error::other("sync failed"), io::Error::from_raw_os_error))
            }
            _ => Ok(()),
        }
    }

    /// Counts compressed bytes as they are taken, and sends ahead what they became when it is much.
    pub(super) fn came(self: &Arc<Self>, bytes: usize) {
        let before = self.came.fetch_add(bytes as u64, Ordering::Relaxed);
        if before >= AHEAD || before + (bytes as u64) < AHEAD {
            return;
        }
        let own = Arc::clone(self);
        let ahead = move || {
            own.came.store(0, Ordering::Relaxed);
            // Whoever writes now asks again at its end, and is told of it then.
            let _ = own.pass(own.enter());
        };
        if thread::Builder::new().name("writeback".to_owned()).spawn(ahead).is_err() {
            // Nothing is lost but time.
            self.came.store(0, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::channel;

    use super::*;

    fn barrier() -> (tempfile::TempDir, Arc<Barrier>) {
        let dir = tempfile::tempdir().unwrap();
        let barrier = Barrier::new(file::open_dir(dir.path()).unwrap());
        (dir, barrier)
    }

    #[test]
    fn those_who_wait_share_one_sync_that_began_after_they_asked() {
        let (_dir, barrier) = barrier();
        let syncs = AtomicUsize::new(0);
        let (begun, has_begun) = channel();
        let (go, may_go) = channel::<()>();
        let may_go = Mutex::new(may_go);
        let sync = || {
            syncs.fetch_add(1, Ordering::SeqCst);
            begun.send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
            Ok(())
        };
        thread::scope(|scope| {
            let first = scope.spawn(|| barrier.pass_with(barrier.enter(), sync));
            has_begun.recv().unwrap();
            let others: Vec<_> =
                (0..4).map(|_| scope.spawn(|| barrier.pass_with(barrier.enter(), sync))).collect();
            // Only one of them begins the second, when the first has ended.
            go.send(()).unwrap();
            first.join().unwrap().unwrap();
            has_begun.recv().unwrap();
            for _ in 0..4 {
                // Enough for those that came too late for the second.
                go.send(()).unwrap();
            }
            for other in others {
                other.join().unwrap().unwrap();
            }
        });
        assert!((2..=5).contains(&syncs.load(Ordering::SeqCst)));
        let state = barrier.lock();
        assert_eq!(state.begun, state.ended);
    }

    #[test]
    fn whoever_was_writing_when_a_sync_failed_is_told() {
        let (_dir, barrier) = barrier();
        let writing = barrier.enter();
        let failing = || Err(io::Error::from_raw_os_error(5));
        assert_eq!(barrier.pass_with(barrier.enter(), failing).unwrap_err().raw_os_error(), Some(5));
        assert_eq!(barrier.pass(writing).unwrap_err().raw_os_error(), Some(5));
        barrier.pass(barrier.enter()).unwrap();
    }

    #[test]
    fn much_that_came_is_sent_ahead() {
        let (_dir, barrier) = barrier();
        barrier.came(AHEAD as usize - 1);
        assert_eq!(barrier.lock().begun, 0);
        barrier.came(1);
        let mut state = barrier.lock();
        while state.ended == 0 {
            state = barrier.ended.wait(state).unwrap();
        }
    }
}
