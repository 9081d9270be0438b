//! What steps that copy from images are called, once their files were read: an image's layers never change, so nobody
//! has to read them again as long as this process lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Names that are kept.
const NAMES: usize = 4096;

/// Names by content, by the names that say only where the content lies.
#[derive(Debug, Clone, Default)]
pub struct Memo(Arc<Mutex<HashMap<String, String>>>);

impl Memo {
    /// The name by content, if the files were read before.
    pub fn get(&self, place: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(place).cloned()
    }

    /// Keeps a name.
    pub fn put(&self, place: String, content: String) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES {
            names.clear();
        }
        names.insert(place, content);
    }
}
