//! Hashing of content.

use davit_proto::id::Digest;
use sha2::{Digest as _, Sha256};

/// Takes bytes, and tells their digest at the end.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    state: Sha256,
}

impl Hasher {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    /// The digest of all bytes taken.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest::from_sha256(&self.state.finalize().into())
    }
}

/// The digest of some bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}
