//! The name of a step: everything that goes into it, as one digest. A step that has this name was done before.

use davit_proto::step::REPOSITORY;
use sha2::{Digest as _, Sha256};

/// What goes into a step.
#[derive(Debug, Clone)]
pub struct Key(Sha256);

impl Key {
    /// Begins with the files that the step changes, by the digests of their layers, and what it does to them.
    pub fn new(files: Option<&str>, kind: &str) -> Self {
        let mut key = Self(Sha256::new());
        // Steps of another version of these rules are other steps.
        for part in ["2", files.unwrap_or("scratch"), kind] {
            key.add(part.as_bytes());
        }
        key
    }

    /// Adds a part. Parts cannot run into each other.
    pub fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// The reference of the image that the step leaves.
    pub fn reference(self) -> String {
        format!("{REPOSITORY}:{}", hex::encode(self.0.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[&str]| {
            let mut key = Key::new(None, "RUN");
            parts.iter().for_each(|part| key.add(part.as_bytes()));
            key.reference()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["a"]), of(&["a"]));
        assert_eq!(of(&[]).len(), REPOSITORY.len() + 1 + 64);
    }
}
