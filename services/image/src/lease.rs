//! Leases: content that is about to be used and that no reference points at yet.
//!
//! They live in memory: after a crash nobody is about to use anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use davit_proto::id::Digest;

/// All leases that are held.
#[derive(Debug, Clone, Default)]
pub struct Leases {
    held: Arc<Mutex<HashMap<Digest, usize>>>,
}

/// Keeps content from being collected until it is dropped.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    digests: Vec<Digest>,
}

impl Leases {
    /// A lease on nothing yet.
    #[must_use]
    pub fn take(&self) -> Lease {
        Lease { leases: self.clone(), digests: Vec::new() }
    }

    /// All that is held now.
    pub(crate) fn held(&self) -> Vec<Digest> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Does something to content, such as removing it, unless somebody holds it; nobody can begin to meanwhile.
    pub fn unless_held<T>(&self, digest: &Digest, act: impl FnOnce() -> T) -> Option<T> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(digest) { None } else { Some(act()) }
    }
}

impl Lease {
    /// Keeps this content too. To be called before looking whether it is there.
    pub fn add(&mut self, digest: &Digest) {
        let mut held = self.leases.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry(digest.clone()).or_default() += 1;
        self.digests.push(digest.clone());
    }

    /// What this keeps.
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.held.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in self.digests.drain(..) {
            if let Some(count) = held.get_mut(&digest) {
                *count -= 1;
                if *count == 0 {
                    held.remove(&digest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest;

    #[test]
    fn held_content_is_left_until_the_last_lease_ends() {
        let leases = Leases::default();
        let (a, b) = (digest(b"a"), digest(b"b"));
        let (mut one, mut two) = (leases.take(), leases.take());
        one.add(&a);
        two.add(&a);
        drop(one);
        assert_eq!(leases.unless_held(&a, || ()), None);
        assert_eq!(leases.unless_held(&b, || ()), Some(()));
        drop(two);
        assert_eq!(leases.unless_held(&a, || ()), Some(()));
    }
}
