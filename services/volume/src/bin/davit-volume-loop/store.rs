//! The volumes: one lock over mounting and unmounting; a file system is made without it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use davit_proto::id::{Name, random_hex};
use davit_proto::volume_driver::{Holder, Volume};
use davit_sys::file::{self, Durability, Flock};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::{image, make};

/// Largest record that is read.
const RECORD: usize = 1 << 16;
/// Volumes of one page of a list.
const PAGE: usize = 1000;
/// Least that a file system has.
const LEAST: u64 = 1 << 20;

/// The record of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Bytes of the image.
    pub size: u64,
    /// File system: ext4 or xfs.
    pub kind: String,
}

impl Record {
    /// What a user's options ask for.
    pub fn parse(options: &HashMap<String, String>) -> Result<Self, Error> {
        let invalid = |field, value: &str, rule: &str| Error::Invalid {
            field,
            value: value.chars().take(200).collect(),
            rule: rule.to_owned(),
        };
        if let Some(unknown) = options.keys().filter(|key| !["size", "fs"].contains(&key.as_str())).min() {
            return Err(invalid("option", unknown, "this driver has the options size and fs"));
        }
        let size = options.get("size").map_or("", String::as_str);
        let rule = "must be given, as size=10g, and be at least 1m (300m with xfs)";
        let bytes = davit_volume::parse_size(size).map_err(|_| invalid("size", size, rule))?;
        let kind = options.get("fs").map_or("ext4", String::as_str);
        let least = match kind {
            "ext4" => LEAST,
            "xfs" => 300 << 20,
            _ => return Err(invalid("fs", kind, "must be ext4 or xfs")),
        };
        if bytes < least {
            return Err(invalid("size", size, rule));
        }
        // Devices have whole blocks.
        Ok(Self { size: bytes.next_multiple_of(4096), kind: kind.to_owned() })
    }
}

/// All volumes.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    dir: OwnedFd,
    turn: Mutex<()>,
    _lock: Flock,
}

impl Store {
    /// Opens the folder and sweeps what a kill left.
    pub fn open(path: &Path) -> Result<Self, Error> {
        private(path).map_err(Error::file("create", path))?;
        let path = &fs::canonicalize(path).map_err(Error::file("resolve", path))?;
        let dir = file::open_dir(path).map_err(Error::file("open", path))?;
        let lock = Flock::try_lock_at(&dir, ".lock".as_ref()).map_err(Error::file("lock", path))?;
        let lock = lock.ok_or_else(|| Error::Locked(path.clone()))?;
        let shared = Shared { path: path.clone(), dir, turn: Mutex::new(()), _lock: lock };
        let store = Self { shared: Arc::new(shared) };
        for entry in file::list_dirs(&store.shared.dir).map_err(Error::file("list", path))? {
            let name = entry.to_string_lossy();
            if name.starts_with(".new-") || name.starts_with(".trash-") {
                store.delete(&name);
            } else if let Ok(name) = name.parse::<Name>() {
                store.settle(&name)?;
            }
        }
        Ok(store)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, name: &Name) -> PathBuf {
        self.shared.path.join(name.as_str())
    }

    fn data(&self, name: &Name) -> PathBuf {
        self.folder(name).join("data")
    }

    fn record(&self, name: &Name) -> Result<Record, Error> {
        let path = self.folder(name).join("volume.json");
        let bytes = match file::read_bounded(&path, RECORD) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound(name.to_string()));
            }
            other => other.map_err(Error::file("read", &path))?,
        };
        serde_json::from_slice(&bytes).map_err(|source| Error::Record { path, source })
    }

    /// Makes a volume out of sight, and gives it its name at the end.
    pub fn create(&self, name: &Name, wanted: &Record) -> Result<(), Error> {
        if self.is_there(name, wanted)? {
            return Ok(());
        }
        let random =
            random_hex().map_err(|error| Error::Make { program: "random".into(), why: error.to_string() })?;
        let temporary = format!(".new-{random}");
        let made = self.fill(&temporary, wanted).and_then(|()| self.name(&temporary, name));
        if !matches!(made, Ok(true)) {
            self.delete(&temporary);
        }
        if made? { Ok(()) } else { self.is_there(name, wanted).map(drop) }
    }

    fn fill(&self, temporary: &str, wanted: &Record) -> Result<(), Error> {
        let folder = self.shared.path.join(temporary);
        for part in ["data", "holders"] {
            private(&folder.join(part)).map_err(Error::file("create", &folder))?;
        }
        make::image(&folder.join("image"), wanted)?;
        let bytes = serde_json::to_vec(wanted);
        let bytes = bytes.map_err(|source| Error::Record { path: folder.clone(), source })?;
        file::open_dir(&folder)
            .and_then(|dir| file::write_atomic(&dir, "volume.json", &bytes, Durability::Synced))
            .map_err(Error::file("write the record of", &folder))
    }

    /// Gives a volume its name; not when somebody else was faster.
    fn name(&self, temporary: &str, name: &Name) -> Result<bool, Error> {
        let (dir, _turn) = (&self.shared.dir, self.turn());
        match file::rename_new_at(dir, temporary.as_ref(), dir, name.as_str().as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => {
                let named = other.and_then(|()| file::sync_dir(dir));
                named.map(|()| true).map_err(Error::file("name", &self.folder(name)))
            }
        }
    }

    fn is_there(&self, name: &Name, wanted: &Record) -> Result<bool, Error> {
        match self.record(name) {
            Ok(known) if known == *wanted => Ok(true),
            Ok(Record { size, kind }) => Err(Error::Exists { name: name.to_string(), size, kind }),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a volume that nobody holds.
    pub fn remove(&self, name: &Name) -> Result<(), Error> {
        let _turn = self.turn();
        match self.record(name) {
            Err(Error::NotFound(_)) => return Ok(()),
            other => other?,
        };
        if let Some(holder) = self.holders(name)?.first() {
            return Err(Error::Held(name.to_string(), holder.id.clone()));
        }
        let data = self.data(name);
        image::unmount(&data).map_err(Error::file("unmount", &data))?;
        let trash = format!(".trash-{}", random_hex().unwrap_or_else(|_| name.to_string()));
        file::rename_at(&self.shared.dir, name.as_str().as_ref(), &self.shared.dir, trash.as_ref())
            .and_then(|()| file::sync_dir(&self.shared.dir))
            .map_err(Error::file("remove", &self.folder(name)))?;
        self.delete(&trash);
        Ok(())
    }

    /// Deletes what is out of sight, and nothing that is mounted in it.
    fn delete(&self, temporary: &str) {
        let folder = self.shared.path.join(temporary);
        let data = folder.join("data");
        let unmounted = if data.is_dir() { image::unmount(&data) } else { Ok(()) };
        let deleted = unmounted.and_then(|()| file::remove_tree(&self.shared.dir, temporary.as_ref()));
        if let Err(error) = deleted {
            tracing::warn!(%error, folder = %folder.display(), "left a removed volume for the next start");
        }
    }

    /// Records a holder, has the volume mounted, and answers where.
    pub fn mount(&self, name: &Name, holder: &Holder) -> Result<PathBuf, Error> {
        let file_name = file_name(holder)?;
        let _turn = self.turn();
        let record = self.record(name)?;
        let held = self.folder(name).join("holders").join(file_name);
        // The hold first: what is mounted for nobody would be found only at the next start.
        fs::write(&held, b"").map_err(Error::file("write", &held))?;
        let data = self.data(name);
        let mounted = image::is_mounted(&data).and_then(|mounted| match mounted {
            true => Ok(()),
            false => image::mount(&self.folder(name).join("image"), &record.kind, &data),
        });
        if let Err(error) = mounted {
            let failed = Err(Error::file("mount the image of", &self.folder(name))(error));
            fs::remove_file(&held).map_err(Error::file("remove", &held))?;
            return failed;
        }
        Ok(data)
    }

    /// Ends a hold, and unmounts after the last.
    pub fn unmount(&self, name: &Name, holder: &Holder) -> Result<(), Error> {
        let file_name = file_name(holder)?;
        let _turn = self.turn();
        self.record(name)?;
        let held = self.folder(name).join("holders").join(file_name);
        match fs::remove_file(&held) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", &held)(error)),
            _ => self.settle(name),
        }
    }

    /// Unmounts what nobody holds.
    fn settle(&self, name: &Name) -> Result<(), Error> {
        let data = self.data(name);
        if !data.is_dir() || !self.holders(name)?.is_empty() {
            return Ok(());
        }
        image::unmount(&data).map_err(Error::file("unmount", &data))
    }

    fn holders(&self, name: &Name) -> Result<Vec<Holder>, Error> {
        let path = self.folder(name).join("holders");
        let dir = file::open_dir(&path).map_err(Error::file("open", &path))?;
        let names = file::list_names(&dir, 16 << 20).map_err(Error::file("list", &path))?;
        let parse = |name: &std::ffi::OsString| {
            let (engine_id, id) = name.to_str()?.split_once('.')?;
            Some(Holder { engine_id: engine_id.to_owned(), id: id.to_owned() })
        };
        Ok(names.iter().filter_map(parse).collect())
    }

    /// All of one volume.
    pub fn inspect(&self, name: &Name) -> Result<Volume, Error> {
        let record = self.record(name)?;
        let (image, data) = (self.folder(name).join("image"), self.data(name));
        let stat = fs::metadata(&image).map_err(Error::file("look at", &image))?;
        let mounted = image::is_mounted(&data).map_err(Error::file("look at", &data))?;
        let status = [
            ("Size", record.size.to_string()),
            ("FileSystem", record.kind),
            ("Image", image.display().to_string()),
        ];
        Ok(Volume {
            name: name.to_string(),
            mountpoint: if mounted { data.display().to_string() } else { String::new() },
            holders: self.holders(name)?,
            status: status.map(|(key, value)| (key.to_owned(), value)).into(),
            size_bytes: Some(stat.blocks().saturating_mul(512)),
        })
    }

    /// A page of the volumes behind a name, and whether there are more.
    pub fn list(&self, after: &str) -> Result<(Vec<Volume>, bool), Error> {
        let names = file::list_dirs(&self.shared.dir).map_err(Error::file("list", &self.shared.path))?;
        let mut names: Vec<Name> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
        names.retain(|name| name.as_str() > after);
        names.sort();
        let more = names.len() > PAGE;
        let mut volumes = Vec::new();
        for name in names.iter().take(PAGE) {
            match self.inspect(name) {
                Ok(volume) => volumes.push(volume),
                // Removed since.
                Err(Error::NotFound(_)) => {}
                Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok((volumes, more))
    }
}

fn private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The name of a hold: who comes first, without the sign that parts them.
fn file_name(holder: &Holder) -> Result<String, Error> {
    let plain = |text: &str, signs: &[u8]| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || signs.contains(&b))
    };
    if !plain(&holder.engine_id, b"_-") || !plain(&holder.id, b"_.-") {
        let value = format!("{}.{}", holder.engine_id, holder.id).chars().take(200).collect();
        let rule = "must be 1 to 128 of [a-zA-Z0-9_.-]; an engine's id without '.'".to_owned();
        return Err(Error::Invalid { field: "holder", value, rule });
    }
    Ok(format!("{}.{}", holder.engine_id, holder.id))
}
