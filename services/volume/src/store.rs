//! Volumes on disk. A volume comes and goes by one rename, so it is there whole or not at all.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use davit_proto::id::{Name, random_hex};
use davit_sys::file::{self, Durability, Flock};

use crate::error::Error;
use crate::volume::Record;

/// Name of the record in a volume's folder.
const RECORD: &str = "volume.json";
/// Name of the folder that containers see.
pub const DATA: &str = "data";
/// Largest record that is read.
const MAX_RECORD: usize = 1 << 20;
/// Beginning of the names of half-made volumes.
const NEW: &str = ".new-";
/// Beginning of the names of half-removed volumes.
const TRASH: &str = ".trash-";

/// The folder that holds all volumes.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    dir: OwnedFd,
    _lock: Flock,
}

/// A volume that is out of sight and still on disk.
#[derive(Debug)]
pub struct Trash {
    path: PathBuf,
    dir: OwnedFd,
    name: String,
}

impl Store {
    /// Opens the folder, making it when it is not there, and takes its lock.
    pub fn open(path: &Path) -> Result<Self, Error> {
        make_private(path).map_err(Error::file("create", path))?;
        let dir = file::open_dir(path).map_err(Error::file("open", path))?;
        let lock = Flock::try_lock_at(&dir, OsStr::new(".lock")).map_err(Error::file("lock", path))?;
        let lock = lock.ok_or_else(|| Error::Locked(path.to_owned()))?;
        Ok(Self { path: path.to_owned(), dir, _lock: lock })
    }

    /// Where a volume's data lies.
    pub fn data(&self, name: &Name) -> PathBuf {
        self.path.join(name.as_str()).join(DATA)
    }

    /// Reads all records. A folder without a readable one is told of and left alone: its data is somebody's.
    pub fn load(&self) -> Result<BTreeMap<Name, Record>, Error> {
        let mut records = BTreeMap::new();
        for entry in self.names()? {
            let Ok(name) = entry.parse::<Name>() else { continue };
            match self.read(&name) {
                Ok(record) => {
                    records.insert(name, record);
                }
                Err(error) => {
                    let error = davit_proto::status::chain(&error);
                    tracing::warn!(volume = %name, error, "left out a volume whose record cannot be read");
                }
            }
        }
        Ok(records)
    }

    fn read(&self, name: &Name) -> Result<Record, Error> {
        let path = self.path.join(name.as_str()).join(RECORD);
        let bytes = file::read_bounded(&path, MAX_RECORD).map_err(Error::file("read", &path))?;
        let mut record: Record =
            serde_json::from_slice(&bytes).map_err(|source| Error::Record { path: path.clone(), source })?;
        // The folder's name is what containers were given.
        record.name = name.clone();
        Ok(record)
    }

    /// Makes a volume; it survives a power cut when this returns.
    pub fn create(&self, record: &Record) -> Result<(), Error> {
        let temporary = format!("{NEW}{}", random()?);
        let path = self.path.join(record.name.as_str());
        let made = self.fill(&temporary, record).and_then(|()| {
            file::rename_at(&self.dir, temporary.as_ref(), &self.dir, record.name.as_str().as_ref())?;
            file::sync_dir(&self.dir)
        });
        made.map_err(|source| {
            if let Err(error) = file::remove_tree(&self.dir, temporary.as_ref()) {
                tracing::warn!(%error, folder = temporary, "left a half-made volume for the next start");
            }
            Error::File { what: "create", path, source }
        })
    }

    fn fill(&self, temporary: &str, record: &Record) -> io::Result<()> {
        file::make_dir_at(&self.dir, temporary.as_ref(), 0o700)?;
        let dir = file::open_dir_at(&self.dir, temporary.as_ref())?;
        file::make_dir_at(&dir, DATA.as_ref(), 0o755)?;
        let bytes = serde_json::to_vec(record)?;
        file::write_atomic(&dir, RECORD, &bytes, Durability::Synced)
    }

    /// Takes a volume out of sight, durably; what is left is to be [`Trash::delete`]d.
    pub fn remove(&self, name: &Name) -> Result<Trash, Error> {
        let path = self.path.join(name.as_str());
        let trash = format!("{TRASH}{}", random()?);
        file::rename_at(&self.dir, name.as_str().as_ref(), &self.dir, trash.as_ref())
            .and_then(|()| file::sync_dir(&self.dir))
            .map_err(Error::file("remove", &path))?;
        self.trash(trash)
    }

    /// What a crash left of volumes that were being made or removed.
    pub fn leftovers(&self) -> Result<Vec<Trash>, Error> {
        let names = self.names()?.into_iter();
        names.filter(|name| name.starts_with(NEW) || name.starts_with(TRASH)).map(|n| self.trash(n)).collect()
    }

    fn trash(&self, name: String) -> Result<Trash, Error> {
        let dir = self.dir.try_clone().map_err(Error::file("open", &self.path))?;
        Ok(Trash { path: self.path.join(&name), dir, name })
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let listed = fs::read_dir(&self.path).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect::<io::Result<Vec<_>>>()
        });
        Ok(listed.map_err(Error::file("list", &self.path))?.into_iter().flatten().collect())
    }
}

impl Trash {
    /// Bytes of disk that its files take.
    pub fn size(&self) -> u64 {
        crate::size::disk_usage(&self.dir, self.name.as_ref())
    }

    /// Removes it from the disk. What cannot be removed now is removed at the next start.
    pub fn delete(self) {
        if let Err(error) = file::remove_tree(&self.dir, self.name.as_ref()) {
            tracing::warn!(%error, path = %self.path.display(), "removed a volume only in part");
        }
    }
}

/// Makes a folder of mode 0700, and those above it.
pub fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn random() -> Result<String, Error> {
    random_hex().map_err(|error| Error::Random(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Wanted;

    #[test]
    fn a_volume_comes_and_goes_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("volume")).unwrap();
        let record = Wanted::named("db".parse().unwrap()).record();
        store.create(&record).unwrap();
        assert!(store.data(&record.name).is_dir());
        assert_eq!(store.load().unwrap().values().collect::<Vec<_>>(), [&record]);
        assert!(store.create(&record).is_err(), "a volume with data is not replaced");
        assert!(store.leftovers().unwrap().is_empty());

        fs::write(store.data(&record.name).join("f"), [0_u8; 10_000]).unwrap();
        let trash = store.remove(&record.name).unwrap();
        assert!(trash.size() >= 10_000);
        assert!(store.load().unwrap().is_empty());
        trash.delete();
        assert_eq!(store.names().unwrap(), [".lock"]);
    }

    #[test]
    fn what_a_crash_left_is_found_and_what_is_broken_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        let store = Store::open(&path).unwrap();
        for half in [".new-1", ".trash-2", "precious"] {
            fs::create_dir_all(path.join(half).join(DATA)).unwrap();
        }
        assert!(store.load().unwrap().is_empty());
        store.leftovers().unwrap().into_iter().for_each(Trash::delete);
        let mut left = store.names().unwrap();
        left.sort();
        assert_eq!(left, [".lock", "precious"]);
        assert!(matches!(Store::open(&path), Err(Error::Locked(_))));
    }
}
