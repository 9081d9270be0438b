//! The builds that run now, by when they began: what was needed since then may be needed again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// All of them. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Running(Arc<Mutex<(u64, BTreeMap<u64, SystemTime>)>>);

impl Running {
    /// One begins; it runs until the answer is dropped.
    #[must_use]
    pub fn begin(&self) -> Run {
        let mut all = self.lock();
        let number = all.0;
        all.0 += 1;
        all.1.insert(number, SystemTime::now());
        Run { running: self.clone(), number }
    }

    /// When the one began that runs for longest.
    #[must_use]
    pub fn since(&self) -> Option<SystemTime> {
        self.lock().1.values().min().copied()
    }

    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, SystemTime>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A build that runs.
#[derive(Debug)]
pub struct Run {
    running: Running,
    number: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.running.lock().1.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_counts_until_it_ends() {
        let running = Running::default();
        assert_eq!(running.since(), None);
        let first = running.begin();
        let since = running.since().unwrap();
        let second = running.begin();
        assert_eq!(running.since(), Some(since));
        drop(first);
        assert!(running.since().unwrap() >= since);
        drop(second);
        assert_eq!(running.since(), None);
    }
}
