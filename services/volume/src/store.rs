//! Volumes on disk. A volume comes and goes by one rename, so it is there whole or not at all.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use davit_proto::id::{Name, random_hex};
use davit_sys::file::{self, Durability, Flock};

use crate::error::Error;
use crate::options::Medium;
use crate::volume::Record;

/// Name of the record in a volume's folder.
const RECORD: &str = "volume.json";
/// Name of the folder that containers see.
pub const DATA: &str = "data";
/// Name of the file with what drivers know this store by.
const ID: &str = ".id";
/// Largest record that is read.
const MAX_RECORD: usize = 1 << 20;
/// Beginning of the names of half-made volumes.
const NEW: &str = ".new-";
/// Beginning of the names of half-removed volumes.
const TRASH: &str = ".trash-";

/// A volume that is being made; dropped, it never was.
#[derive(Debug)]
pub struct Unborn {
    path: PathBuf,
    temporary: String,
    /// What removes it; taken when it has got its name.
    trash: Option<Trash>,
}

impl Unborn {
    /// Where its data goes.
    pub fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Gives it its name, which must be free; it survives a power cut when this returns.
    pub fn commit(mut self, name: &Name) -> Result<(), Error> {
        let Some(trash) = &self.trash else { return Ok(()) };
        let path = self.path.with_file_name(name.as_str());
        file::rename_new_at(&trash.dir, self.temporary.as_ref(), &trash.dir, name.as_str().as_ref())
            .map_err(Error::file("create", &path))?;
        let Err(error) = file::sync_dir(&trash.dir) else {
            self.trash = None;
            return Ok(());
        };
        // Whoever asked hears that there is none, so none is to be there, now or after a power cut.
        if let Err(left) =
            file::rename_new_at(&trash.dir, name.as_str().as_ref(), &trash.dir, self.temporary.as_ref())
        {
            tracing::error!(error = %left, path = %path.display(), "left a volume that could not be made durable");
            self.trash = None;
        }
        Err(Error::file("create", &path)(error))
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(trash) = self.trash.take() {
            trash.delete();
        }
    }
}

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

    /// By which drivers know this store: chosen once.
    pub fn id(&self) -> Result<String, Error> {
        let path = self.path.join(ID);
        match file::read_bounded(&path, 64) {
            Ok(bytes) if bytes.len() == 64 && bytes.iter().all(u8::is_ascii_hexdigit) => {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("read", &path)(error)),
        }
        let id = random()?;
        file::write_atomic(&self.dir, ID, id.as_bytes(), Durability::Synced)
            .map_err(Error::file("write", &path))?;
        Ok(id)
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
    pub fn create(&self, record: &Record, medium: &Medium) -> Result<(), Error> {
        self.begin(record, medium)?.commit(&record.name)
    }

    /// Makes a volume out of sight, to be filled and then [`Unborn::commit`]ted.
    pub fn begin(&self, record: &Record, medium: &Medium) -> Result<Unborn, Error> {
        let temporary = format!("{NEW}{}", random()?);
        let trash = Some(self.trash(temporary.clone())?);
        let unborn = Unborn { path: self.path.join(&temporary), temporary, trash };
        let path = self.path.join(record.name.as_str());
        let made = (|| {
            file::make_dir_at(&self.dir, unborn.temporary.as_ref(), 0o700)?;
            let dir = file::open_dir_at(&self.dir, unborn.temporary.as_ref())?;
            file::make_dir_at(&dir, DATA.as_ref(), 0o755)?;
            let bytes = serde_json::to_vec(record)?;
            file::write_atomic(&dir, RECORD, &bytes, Durability::Synced)?;
            file::open_dir_at(&dir, DATA.as_ref())
        })();
        let data = made.map_err(Error::file("create", &path))?;
        if let Medium::Folder(Some(bytes)) = medium {
            crate::quota::limit(data.as_fd(), &self.path, *bytes)?;
        }
        Ok(unborn)
    }

    /// Replaces the record of a volume.
    pub fn rewrite(&self, record: &Record) -> Result<(), Error> {
        let path = self.path.join(record.name.as_str()).join(RECORD);
        let written = (|| {
            let dir = file::open_dir_at(&self.dir, record.name.as_str().as_ref())?;
            file::write_atomic(&dir, RECORD, &serde_json::to_vec(record)?, Durability::Synced)
        })();
        written.map_err(Error::file("write", &path))
    }

    /// Takes a volume out of sight, durably; what is left is to be [`Trash::delete`]d.
    pub fn remove(&self, name: &Name) -> Result<Trash, Error> {
        let path = self.path.join(name.as_str());
        let trash = self.trash(format!("{TRASH}{}", random()?))?;
        let (here, there) = (OsStr::new(name.as_str()), OsStr::new(&trash.name));
        file::rename_at(&self.dir, here, &self.dir, there).map_err(Error::file("remove", &path))?;
        let Err(error) = file::sync_dir(&self.dir) else { return Ok(trash) };
        // Whoever asked hears that it is still there.
        if let Err(left) = file::rename_new_at(&self.dir, there, &self.dir, here) {
            tracing::error!(error = %left, path = %path.display(), "could not bring back a volume that is not removed");
        }
        Err(Error::file("remove", &path)(error))
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
        // A volume's own mount comes off; what somebody mounted in it is theirs, and so is all below that.
        let data = self.path.join(DATA);
        let cleared = match self.path.is_dir() {
            true => crate::local::unmount(&data).and_then(|()| crate::local::mounted_below(&self.path)),
            false => Ok(Vec::new()),
        };
        match cleared {
            Ok(mounted) if mounted.is_empty() => {}
            Ok(mounted) => {
                tracing::warn!(path = %self.path.display(), ?mounted, "left a removed volume: something is mounted in it");
                return;
            }
            Err(error) => {
                let error = davit_proto::status::chain(&error);
                tracing::warn!(path = %self.path.display(), error, "left a removed volume");
                return;
            }
        }
        let project = file::open_dir(&data).ok().and_then(crate::quota::project);
        if let Err(error) = file::remove_tree(&self.dir, self.name.as_ref()) {
            tracing::warn!(%error, path = %self.path.display(), "removed a volume only in part");
        } else if let Some(project) = project {
            crate::quota::forget(&self.dir, project);
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
        store.create(&record, &Medium::Folder(None)).unwrap();
        assert!(store.data(&record.name).is_dir());
        assert_eq!(store.load().unwrap().values().collect::<Vec<_>>(), [&record]);
        assert!(store.create(&record, &Medium::Folder(None)).is_err(), "a volume with data is not replaced");
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
