//! What contexts take on the disk, and forgetting those that nobody builds any more.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use davit_sys::file::read_bounded;

use super::{LIST, Store, parse};
use crate::error::Error;

/// How long a context is kept that nobody builds.
const AGE: Duration = Duration::from_secs(14 * 24 * 3600);

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

    /// Forgets what was not built for so long that nobody waits for it any more.
    ///
    /// # Errors
    /// Something cannot be read or removed.
    pub fn forget_old(&self) -> Result<(), Error> {
        let Some(before) = SystemTime::now().checked_sub(AGE) else { return Ok(()) };
        let old = self.kept()?.into_iter().filter(|kept| kept.used_at < before).map(|kept| kept.id);
        self.forget(&old.collect::<Vec<_>>()).map(drop)
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
        // What was fetched can be fetched again.
        self.forget_fetched().map_err(Error::io("forget what was fetched"))?;
        let freed = self.sweep_unnamed();
        drop(alone);
        freed
    }
}

#[cfg(test)]
mod tests {
    use davit_proto::build::Entry;

    use super::*;
    use crate::context::Intake;

    async fn sent(store: &Store, key: &str, text: &'static [u8]) {
        let mut intake = Intake::new(store, store.hold().await, key);
        let entry = Entry {
            path: bytes::Bytes::copy_from_slice(key.as_bytes()),
            mode: 0o100_644,
            size: text.len() as u64,
            ..Entry::default()
        };
        intake.entries(vec![entry]).unwrap();
        assert_eq!(intake.needed().unwrap(), [0]);
        intake.content(0, text, true).unwrap();
        drop(intake.finish().unwrap());
    }

    #[tokio::test]
    async fn contexts_are_told_and_forgotten_with_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        sent(&store, "old", b"1234").await;
        sent(&store, "new", b"123456").await;
        let lists = || fs::read_dir(folder.path().join("contexts")).unwrap().count();
        let blobs = || fs::read_dir(folder.path().join("blobs")).unwrap().count();
        let kept = store.kept().unwrap();
        let mut bytes: Vec<u64> = kept.iter().map(|kept| kept.bytes).collect();
        bytes.sort_unstable();
        assert_eq!((bytes.as_slice(), kept[0].in_use), ([4, 6].as_slice(), false));
        // While somebody builds nothing is forgotten.
        let held = store.hold().await;
        assert!(store.kept().unwrap()[0].in_use);
        assert_eq!((store.forget(&[kept[0].id.clone()]).unwrap(), lists()), (0, 2));
        drop(held);
        let old = kept.iter().find(|kept| kept.bytes == 4).unwrap();
        let list =
            fs::File::options().write(true).open(folder.path().join("contexts").join(&old.id)).unwrap();
        list.set_modified(SystemTime::now() - AGE - AGE).unwrap();
        store.forget_old().unwrap();
        assert_eq!((lists(), blobs()), (1, 1));
        assert_eq!(store.forget(&[store.kept().unwrap()[0].id.clone()]).unwrap(), 6);
        assert_eq!((lists(), blobs()), (0, 0));
    }
}
