//! What a pull or push is at, as a board that it writes on and a client reads from.
//!
//! It never waits for a reader: a state that nobody read is overwritten by the next.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use davit_proto::id::Digest;
use tokio::sync::Notify;

use super::Pulled;
use crate::push::Pushed;

/// What a layer is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Known, not begun.
    Waiting,
    /// Bytes come in, and are unpacked as they come.
    Downloading,
    /// All bytes are in; files are being written.
    Unpacking,
    /// Fetched and unpacked.
    Complete,
    /// It was there before.
    Exists,
    /// Bytes go out.
    Pushing,
    /// The registry has it.
    Pushed,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// It may not be given on.
    Skipped,
}

/// One layer's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// The layer.
    pub digest: Digest,
    /// What it is at.
    pub state: LayerState,
    /// Bytes so far.
    pub current: u64,
    /// Bytes in all.
    pub total: u64,
    /// The repository it was taken over from; empty otherwise.
    pub from: String,
}

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The reference was resolved.
    Resolved {
        /// Full reference.
        reference: String,
        /// Digest of what it names.
        digest: Digest,
        /// Its layers, lowest first.
        layers: Vec<Digest>,
    },
    /// A layer moved on.
    Layer(LayerProgress),
    /// An image is at its registry.
    Pushed(Pushed),
    /// One of several images is here.
    Pulled(Pulled),
    /// One of several references names no image.
    PassedOver {
        /// Full reference.
        reference: String,
        /// What it is.
        reason: String,
    },
}

#[derive(Debug, Default)]
struct State {
    layers: BTreeMap<Digest, LayerProgress>,
    /// What nobody read yet, oldest first.
    unread: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Said(Progress),
    /// What the layer is at when it is read.
    Layer(Digest),
}

/// The board of one pull or push.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
    changed: Notify,
}

impl Board {
    /// Writes what the reference was resolved to.
    pub fn resolve(&self, reference: String, digest: Digest, layers: Vec<Digest>) {
        self.tell(Progress::Resolved { reference, digest, layers });
    }

    /// Writes what a layer is at.
    pub fn set(&self, digest: &Digest, state: LayerState, current: u64, total: u64) {
        let from = String::new();
        self.write(LayerProgress { digest: digest.clone(), state, current, total, from });
    }

    /// Writes that the registry took a layer over from another of its repositories.
    pub fn mounted(&self, digest: &Digest, from: &str, total: u64) {
        let (digest, state, from) = (digest.clone(), LayerState::Mounted, from.to_owned());
        self.write(LayerProgress { digest, state, current: total, total, from });
    }

    /// Writes something that is told whatever comes after it.
    pub fn tell(&self, progress: Progress) {
        self.lock().unread.push(Change::Said(progress));
        self.changed.notify_one();
    }

    fn write(&self, progress: LayerProgress) {
        let mut state = self.lock();
        let digest = progress.digest.clone();
        let waits = |change: &Change| matches!(change, Change::Layer(other) if *other == digest);
        if !state.unread.iter().any(waits) {
            state.unread.push(Change::Layer(digest));
        }
        state.layers.insert(progress.digest.clone(), progress);
        drop(state);
        self.changed.notify_one();
    }

    /// What changed since the last call, in order, without waiting.
    pub fn take(&self) -> Vec<Progress> {
        let mut state = self.lock();
        let unread = std::mem::take(&mut state.unread);
        let told = unread.into_iter().filter_map(|change| match change {
            Change::Said(progress) => Some(progress),
            Change::Layer(digest) => state.layers.get(&digest).cloned().map(Progress::Layer),
        });
        told.collect()
    }

    /// Waits until something changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest;

    #[tokio::test]
    async fn a_slow_reader_sees_the_last_state_only() {
        let board = Board::default();
        let layer = digest(b"layer");
        board.resolve("a".to_owned(), digest(b"a"), vec![layer.clone()]);
        for current in 0..1000 {
            board.set(&layer, LayerState::Downloading, current, 1000);
        }
        board.changed().await;
        let changes = board.take();
        assert_eq!(changes.len(), 2);
        assert!(matches!(&changes[1], Progress::Layer(layer) if layer.current == 999));
        assert!(board.take().is_empty());
    }
}
