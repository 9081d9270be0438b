//! What contexts take on the disk, and forgetting those that nobody builds any more.

use std::collections::BTreeSet;
use std::fs;
use std::time::SystemTime;

use davit_sys::file::read_bounded;

use super::{LIST, Store, parse};
use crate::error::Error;

/// What is kept of one context.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its name: a digest in hex digits.
    pub id: String,
    /// Bytes of its files that no context before it has.
    pub bytes: u64,
    /// When it was built last.
    pub used_at: SystemTime,
    /// Somebody builds now, maybe of these files.
    pub in_use: bool,
}

impl Store {
    /// What is kept, the one that was not built for longest at the front.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn kept(&self) -> Result<Vec<Kept>, Error> {
        let failed = || Error::io("look at the contexts that are kept");
        let in_use = self.inner.uses.try_write().is_err();
        let mut kept = Vec::new();
        for entry in fs::read_dir(self.inner.folder.join("contexts")).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let Ok(id) = entry.file_name().into_string() else { continue };
            if id.len() != 64 {
                continue;
            }
            let used_at = entry.metadata().and_then(|about| about.modified()).map_err(failed())?;
            kept.push(Kept { id, bytes: 0, used_at, in_use });
        }
        kept.sort_by(|a, b| (a.used_at, &a.id).cmp(&(b.used_at, &b.id)));
        let mut counted = BTreeSet::new();
        // What several have goes with the last of them.
        for context in kept.iter_mut().rev() {
            let path = self.inner.folder.join("contexts").join(&context.id);
            let text = read_bounded(&path, LIST).map_err(failed())?;
            let text = String::from_utf8_lossy(&text);
            for (_, (_, digest)) in text.lines().filter_map(parse) {
                if counted.contains(&digest) {
                    continue;
                }
                // One that is gone takes nothing.
                context.bytes += fs::metadata(self.blob(&digest)).map_or(0, |about| about.len());
                counted.insert(digest);
            }
        }
        Ok(kept)
    }

    /// Forgets contexts, and tells the bytes that came free: none while somebody builds.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn forget(&self, ids: &[String]) -> Result<u64, Error> {
        let Ok(alone) = self.inner.uses.try_write() else { return Ok(0) };
        for id in ids {
            let path = self.inner.folder.join("contexts").join(id);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("remove {}", path.display()))(error));
                }
                _ => {}
            }
        }
        let freed = self.sweep_unnamed();
        drop(alone);
        freed
    }
}
