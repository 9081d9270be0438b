//! What a pull is at, as a board that the pull writes on and a client reads from.
//!
//! The pull never waits for a reader: a state that nobody read is overwritten by the next.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use davit_proto::id::Digest;
use tokio::sync::Notify;

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
    /// It was here before.
    Exists,
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
}

#[derive(Debug, Default)]
struct State {
    resolved: Option<Progress>,
    layers: BTreeMap<Digest, (LayerProgress, bool)>,
}

/// The board of one pull.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
    changed: Notify,
}

impl Board {
    /// Writes what the reference was resolved to.
    pub fn resolve(&self, reference: String, digest: Digest, layers: Vec<Digest>) {
        self.lock().resolved = Some(Progress::Resolved { reference, digest, layers });
        self.changed.notify_one();
    }

    /// Writes what a layer is at.
    pub fn set(&self, digest: &Digest, state: LayerState, current: u64, total: u64) {
        let progress = LayerProgress { digest: digest.clone(), state, current, total };
        self.lock().layers.insert(digest.clone(), (progress, true));
        self.changed.notify_one();
    }

    /// What changed since the last call, without waiting.
    pub fn take(&self) -> Vec<Progress> {
        let mut state = self.lock();
        let mut changes: Vec<Progress> = state.resolved.take().into_iter().collect();
        for (progress, fresh) in state.layers.values_mut().filter(|(_, fresh)| *fresh) {
            *fresh = false;
            changes.push(Progress::Layer(progress.clone()));
        }
        changes
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
