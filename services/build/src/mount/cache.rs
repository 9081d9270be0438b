//! Caches: folders that steps keep something in for the next build, and that are in no image.
//!
//! ```text
//! <root>/build/caches/<name>/
//!   cache.json     its id, when it was made, what is in its name; its time says when it was used last
//!   data/          what steps see
//! ```
//!
//! The name is a digest of all that makes a cache another one: id, what it begins with, and whose it is. A second one
//! for who wants it alone has `-1` behind it, and so on. One is made under a name that begins with a point and renamed
//! when it is whole, so a cut leaves none that is half.
//!
//! Shared by many, or held by one: a lock in memory for each name, for this service is the only one of its folder, and
//! what a dead one left running is removed before anything else goes on.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use davit_dockerfile::instruction::Sharing;
use davit_sys::file::{self, Durability};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::lay::{Files, lay};
use crate::client::Permissions;
use crate::error::Error;
use crate::gather::Match;

/// What is said of a cache, in bytes.
const NOTE: usize = 64 << 10;
/// Caches with one name, for those who each want one alone.
const INSTANCES: usize = 256;

/// Where caches are kept.
#[derive(Debug)]
pub struct Caches {
    folder: PathBuf,
    locks: Mutex<HashMap<String, Arc<RwLock<()>>>>,
}

/// A cache that a step wants.
#[derive(Debug)]
pub struct Wish {
    /// Its id.
    pub id: String,
    /// Names what it begins with; empty for nothing.
    pub origin: String,
    /// What it begins with.
    pub begin: Option<Match>,
    /// Who else may have it.
    pub sharing: Sharing,
    /// Whose its folder is.
    pub owner: Permissions,
}

impl Wish {
    /// The name of the cache.
    pub fn name(&self) -> String {
        let mut digest = Sha256::new();
        let Permissions { mode, uid, gid } = self.owner;
        for part in [&self.id, &self.origin, &format!("{mode:o} {uid} {gid}")] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        hex::encode(digest.finalize()).split_at(32).0.to_owned()
    }
}

/// A cache that somebody has.
#[derive(Debug)]
pub struct Held {
    /// Its folder.
    pub folder: PathBuf,
    _lock: Lock,
}

#[derive(Debug)]
enum Lock {
    Shared { _guard: OwnedRwLockReadGuard<()> },
    Alone { _guard: OwnedRwLockWriteGuard<()> },
}

/// A cache as a list tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Its name, by which it is removed.
    pub name: String,
    /// The id that Dockerfiles call it by.
    pub id: String,
    /// When it was made.
    pub created: SystemTime,
    /// When a step had it last.
    pub used: SystemTime,
    /// Bytes on the disk.
    pub bytes: u64,
    /// A step has it now.
    pub in_use: bool,
}

impl Caches {
    /// Opens the folder, and removes what is half.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn open(builds: &Path) -> Result<Self, Error> {
        let folder = builds.join("caches");
        let failed = || Error::io(format!("open {}", folder.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed())?;
        for entry in fs::read_dir(&folder).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                let opened = file::open_dir(&folder).and_then(|folder| file::remove_tree(folder, &name));
                opened.map_err(failed())?;
            }
        }
        Ok(Self { folder, locks: Mutex::default() })
    }

    fn lock(&self, name: &str) -> Arc<RwLock<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody has or waits for are as good as new ones.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(name.to_owned()).or_default())
    }

    /// Takes a cache, which is made when it is not there. Waits where somebody else has it alone, or it is wanted alone
    /// and somebody has it.
    ///
    /// # Errors
    /// The disk fails, or too many have their own.
    pub async fn take(self: &Arc<Self>, wish: Wish) -> Result<Held, Error> {
        let name = wish.name();
        let (name, lock) = match wish.sharing {
            Sharing::Shared => {
                let guard = self.lock(&name).read_owned().await;
                (name, Lock::Shared { _guard: guard })
            }
            Sharing::Locked => {
                let guard = self.lock(&name).write_owned().await;
                (name, Lock::Alone { _guard: guard })
            }
            Sharing::Private => self.alone(&name)?,
        };
        let caches = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || {
            let folder =
                caches.make(&name, &wish).map_err(Error::io(format!("make the cache {:?}", wish.id)))?;
            Ok(Held { folder, _lock: lock })
        });
        made.await.map_err(|_| Error::Lost)?
    }

    /// The first that nobody has.
    fn alone(&self, name: &str) -> Result<(String, Lock), Error> {
        for number in 0..INSTANCES {
            let name = if number == 0 { name.to_owned() } else { format!("{name}-{number}") };
            if let Ok(guard) = self.lock(&name).try_write_owned() {
                return Ok((name, Lock::Alone { _guard: guard }));
            }
        }
        Err(Error::Invalid(format!("more than {INSTANCES} steps have a cache of their own")))
    }

    /// Two that share one may come at once: the one that is renamed first is it.
    fn make(&self, name: &str, wish: &Wish) -> io::Result<PathBuf> {
        let cache = self.folder.join(name);
        let (data, note) = (cache.join("data"), cache.join("cache.json"));
        if data.is_dir() {
            File::open(&note)?.set_modified(SystemTime::now())?;
            return Ok(data);
        }
        let half = tempfile::Builder::new().prefix(".").tempdir_in(&self.folder)?;
        let (begun, Permissions { mode, uid, gid }) = (half.path().join("data"), wish.owner);
        match &wish.begin {
            Some(found) => lay(found, &begun, Files::Own)?,
            None => {
                DirBuilder::new().mode(0o700).create(&begun)?;
                let folder = file::open_dir(&begun)?;
                file::chown(&folder, uid, gid)?;
                file::chmod(&folder, mode)?;
            }
        }
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let text = json!({"id": wish.id, "origin": wish.origin, "created": created}).to_string();
        let opened = file::open_dir(half.path())?;
        file::write_atomic(&opened, "cache.json", text.as_bytes(), Durability::Cached)?;
        match fs::rename(half.path(), &cache) {
            Ok(()) => drop(half.keep()),
            Err(_) if data.is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(data)
    }

    /// All caches, with what they take, measured until `until` at most.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self, until: Instant) -> Result<Vec<Cache>, Error> {
        let failed = || Error::io(format!("read {}", self.folder.display()));
        let opened = file::open_dir(&self.folder).map_err(failed())?;
        let mut names = file::list_dirs(&opened).map_err(failed())?;
        names.sort();
        let names = names.iter().filter_map(|name| name.to_str()).filter(|name| !name.starts_with('.'));
        let mut caches = Vec::new();
        for name in names {
            // One that was removed meanwhile is none.
            let Ok((note, used)) = self.note(name) else { continue };
            let bytes = file::usage(&opened, name.as_ref(), until).map_err(failed())?.disk;
            let seconds = note.get("created").and_then(Value::as_u64).unwrap_or(0);
            caches.push(Cache {
                name: name.to_owned(),
                id: note.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
                created: UNIX_EPOCH + std::time::Duration::from_secs(seconds),
                used,
                bytes,
                in_use: self.lock(name).try_write().is_err(),
            });
        }
        Ok(caches)
    }

    fn note(&self, name: &str) -> io::Result<(Value, SystemTime)> {
        let path = self.folder.join(name).join("cache.json");
        let note = serde_json::from_slice(&file::read_bounded(&path, NOTE)?).unwrap_or_default();
        Ok((note, fs::symlink_metadata(&path)?.modified()?))
    }

    /// Removes a cache; false when a step has it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        let Ok(_alone) = self.lock(name).try_write_owned() else { return Ok(false) };
        let remove = || -> io::Result<()> {
            let folder = file::open_dir(&self.folder)?;
            // Half of it must not be taken for a whole one.
            let gone = format!(".{name}");
            match file::rename_at(&folder, name.as_ref(), &folder, gone.as_ref()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                renamed => renamed.and_then(|()| file::remove_tree(&folder, gone.as_ref())),
            }
        };
        remove().map_err(Error::io(format!("remove the cache {name}")))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(id: &str, sharing: Sharing) -> Wish {
        let owner = Permissions { mode: 0o750, uid: 0, gid: 0 };
        Wish { id: id.to_owned(), origin: String::new(), begin: None, sharing, owner }
    }

    fn soon() -> Instant {
        Instant::now() + std::time::Duration::from_secs(60)
    }

    #[tokio::test]
    async fn sharers_share_and_those_who_want_one_alone_get_another() {
        let folder = tempfile::tempdir().unwrap();
        let caches = Arc::new(Caches::open(folder.path()).unwrap());
        let one = caches.take(wish("a", Sharing::Shared)).await.unwrap();
        let two = caches.take(wish("a", Sharing::Shared)).await.unwrap();
        assert_eq!(one.folder, two.folder);
        let private = caches.take(wish("a", Sharing::Private)).await.unwrap();
        assert_ne!(private.folder, one.folder);
        assert_eq!(caches.list(soon()).unwrap().len(), 2);
        drop((one, two));
        let again = caches.take(wish("a", Sharing::Private)).await.unwrap();
        assert_ne!(again.folder, private.folder);
        assert_eq!(caches.list(soon()).unwrap().len(), 2, "the first is free again");
        let other = caches.take(wish("b", Sharing::Locked)).await.unwrap();
        assert_ne!(other.folder, again.folder);
    }

    #[tokio::test]
    async fn a_locked_one_waits() {
        let folder = tempfile::tempdir().unwrap();
        let caches = Arc::new(Caches::open(folder.path()).unwrap());
        let first = caches.take(wish("a", Sharing::Locked)).await.unwrap();
        let waiting = tokio::spawn({
            let caches = Arc::clone(&caches);
            async move { caches.take(wish("a", Sharing::Locked)).await.unwrap().folder }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let expected = first.folder.clone();
        drop(first);
        assert_eq!(waiting.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn what_is_used_stays_and_what_is_half_goes() {
        let folder = tempfile::tempdir().unwrap();
        let caches = Arc::new(Caches::open(folder.path()).unwrap());
        let held = caches.take(wish("npm", Sharing::Shared)).await.unwrap();
        fs::write(held.folder.join("x"), vec![1; 10_000]).unwrap();
        let found = caches.list(soon()).unwrap().remove(0);
        assert_eq!((found.id.as_str(), found.in_use, found.bytes >= 10_000), ("npm", true, true));
        assert!(!caches.remove(&found.name).unwrap());
        drop(held);
        assert!(caches.remove(&found.name).unwrap());
        assert_eq!(caches.list(soon()).unwrap(), []);
        assert!(caches.remove(&found.name).unwrap(), "it is gone, as was wanted");
        fs::create_dir(folder.path().join("caches/.half")).unwrap();
        Caches::open(folder.path()).unwrap();
        assert!(!folder.path().join("caches/.half").exists());
    }
}
