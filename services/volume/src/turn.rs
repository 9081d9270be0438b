//! One at a time for each volume: making, mounting, unmounting and removing one wait for each other, those of different
//! volumes do not. The lock over all volumes is never held over what may take long.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use davit_proto::id::Name;

/// The volumes whose turn is taken; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    taken: Arc<(Mutex<BTreeSet<Name>>, Condvar)>,
}

/// A volume's turn, until this is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    name: Name,
}

impl Turns {
    /// Waits for a volume's turn. Whoever has it has a deadline for all that it does.
    pub fn take(&self, name: &Name) -> Turn {
        let (taken, freed) = &*self.taken;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        while !taken.insert(name.clone()) {
            taken = freed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { turns: self.clone(), name: name.clone() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (taken, freed) = &*self.turns.taken;
        taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_others_beside() {
        let turns = Turns::default();
        let (one, two): (Name, Name) = ("one".parse().unwrap(), "two".parse().unwrap());
        let first = turns.take(&one);
        drop(turns.take(&two));
        let waits = std::thread::spawn({
            let (turns, one) = (turns.clone(), one.clone());
            move || drop(turns.take(&one))
        });
        assert!(!waits.is_finished());
        drop(first);
        waits.join().unwrap();
    }
}
