//! A layer as a directory: works on every file system that an overlay can use.
//!
//! ```text
//! layers/<hex of diff id>/fs/            the files
//!                         layer.json     what is to know about them
//! layers/parents-<hex of chain>/         see [`super::parents`]
//! layers/empty/                          the lower directory of an image without layers
//! ingest/unpack-<hex>-<pid>-<n>/         a layer on its way; unpack-new-… as long as its diff id is not known
//! ingest/trash-<pid>-<n>/                a layer on its way out
//! ```

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, BufRead};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use davit_proto::id::Digest;
use davit_sys::file::{self, Durability, Root, Usage};
use serde::{Deserialize, Serialize};

use super::sweeper::Sweeper;
use super::{Layer, Mount, Removal, SnapshotError, Snapshotter, parents};
use crate::content::{list, make_dirs};
use crate::unpack::{Applied, Limits, unpack, unpack_plain};

const RECORD: &str = "layer.json";
const RECORD_BYTES: usize = 8 << 20;
const EMPTY: &str = "empty";
const ROOT_MODE: u32 = 0o755;
/// How long earlier deletions are waited for when there is no room for another one's name.
const DRAIN: Duration = Duration::from_secs(30);

/// What is kept about a layer beside its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// Bytes of its files.
    bytes: u64,
    /// Entries of its archive.
    entries: u64,
    /// It hides everything below it.
    opaque: bool,
    /// Directories that its archive has no entry for, as hex of their bytes: names need not be text.
    implied: Vec<String>,
}

impl Record {
    pub(super) fn implies(&self) -> bool {
        !self.implied.is_empty()
    }

    pub(super) fn implied(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.implied.iter().filter_map(|path| hex::decode(path).ok())
    }
}

/// Layers as directories.
#[derive(Debug)]
pub struct Directory {
    layers: PathBuf,
    ingest: PathBuf,
    layers_fd: OwnedFd,
    ingest_fd: OwnedFd,
    /// Records never change while their layer is here.
    records: Mutex<HashMap<Digest, Arc<Record>>>,
    /// What layers take on the disk, as far as it was asked.
    taken: Mutex<HashMap<Digest, Usage>>,
    sweeper: Sweeper,
}

impl Directory {
    /// Opens the layers below `root`, and deletes what earlier processes left half.
    pub fn open(root: &Path) -> Result<Self, SnapshotError> {
        let failed = |e| SnapshotError::io("open the layers of", root.display())(e);
        let (layers, ingest) = (root.join("layers"), root.join("ingest"));
        make_dirs(&layers).map_err(failed)?;
        make_dirs(&ingest).map_err(failed)?;
        let (layers_fd, ingest_fd) =
            (file::open_dir(&layers).map_err(failed)?, file::open_dir(&ingest).map_err(failed)?);
        // Only a matter of speed.
        if let Err(error) = file::spread_directories(&ingest_fd) {
            tracing::debug!(folder = %ingest.display(), %error, "cannot ask to spread layers over the disk");
        }
        match file::make_dir_at(&layers_fd, EMPTY.as_ref(), ROOT_MODE) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
        let sweeper = Sweeper::new();
        for entry in std::fs::read_dir(&ingest).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with("unpack-") || name.starts_with("trash-")) {
                sweeper.push(entry.path());
            }
        }
        Ok(Self {
            layers,
            ingest,
            layers_fd,
            ingest_fd,
            records: Mutex::default(),
            taken: Mutex::default(),
            sweeper,
        })
    }

    /// Where a layer's files lie.
    pub(super) fn files(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(diff_id.hex()).join("fs")
    }

    /// The folder that holds the layers.
    pub(super) fn layers(&self) -> (&Path, &OwnedFd) {
        (&self.layers, &self.layers_fd)
    }

    /// A new folder on the same file system that nobody else looks at.
    pub(super) fn stage(&self, kind: &str) -> Result<(String, PathBuf), SnapshotError> {
        let name = unique(kind);
        let path = self.ingest.join(&name);
        let failed = |e| SnapshotError::io("make", path.display())(e);
        file::make_dir_at(&self.ingest_fd, name.as_ref(), 0o700).map_err(failed)?;
        let within = || file::make_dir_at(file::open_dir(&path)?, "fs".as_ref(), ROOT_MODE);
        match within() {
            Ok(()) => Ok((name, path)),
            Err(error) => {
                let error = failed(error);
                self.sweeper.push(path);
                Err(error)
            }
        }
    }

    /// Gives a staged folder its name among the layers; one that is there already stays.
    pub(super) fn publish(&self, staged: &str, name: &str) -> Result<(), SnapshotError> {
        match file::rename_at(&self.ingest_fd, staged.as_ref(), &self.layers_fd, name.as_ref()) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                self.sweeper.push(self.ingest.join(staged));
                Ok(())
            }
            other => other.map_err(SnapshotError::io("publish layer", name)),
        }
    }

    /// Takes a folder away from the layers; its files are deleted later.
    pub(super) fn trash(&self, name: &str) -> Result<Removal, SnapshotError> {
        let trash = unique("trash");
        let rename = || file::rename_at(&self.layers_fd, name.as_ref(), &self.ingest_fd, trash.as_ref());
        let renamed = rename().or_else(|error| match error.kind() {
            // A name more may need a block more: the trash that is there gives some back.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.sweeper.drain(Instant::now() + DRAIN);
                rename()
            }
            _ => Err(error),
        });
        match renamed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Removal::default()),
            other => other.map_err(SnapshotError::io("remove layer", name))?,
        }
        Ok(self.sweeper.push(self.ingest.join(trash)))
    }

    fn record(&self, diff_id: &Digest) -> Result<Option<Arc<Record>>, SnapshotError> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = records.get(diff_id) {
            return Ok(Some(Arc::clone(record)));
        }
        let path = self.layers.join(diff_id.hex()).join(RECORD);
        let read = || -> io::Result<Record> {
            Ok(serde_json::from_slice(&file::read_bounded(&path, RECORD_BYTES)?)?)
        };
        let record = match read() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => Arc::new(other.map_err(SnapshotError::io("read", path.display()))?),
        };
        records.insert(diff_id.clone(), Arc::clone(&record));
        Ok(Some(record))
    }

    fn fill(
        &self,
        staged: &Path,
        diff_id: &Digest,
        source: &mut (dyn BufRead + Send),
        limits: &Limits,
    ) -> Result<Record, SnapshotError> {
        let root = Root::open(&staged.join("fs")).map_err(SnapshotError::io("write layer", diff_id))?;
        let applied = unpack(source, root, diff_id, limits)?;
        seal(staged, &applied).map_err(SnapshotError::io("write layer", diff_id))
    }

    /// The layers that show, topmost first: nothing below one that hides everything, and each only once, because an
    /// overlay takes no directory twice and what a layer holds shows at its topmost place.
    fn visible(&self, diff_ids: &[Digest]) -> Result<Vec<(Digest, Arc<Record>)>, SnapshotError> {
        let mut seen = HashSet::new();
        let mut visible = Vec::new();
        for diff_id in diff_ids.iter().rev() {
            let record = self.record(diff_id)?.ok_or_else(|| SnapshotError::Missing(diff_id.clone()))?;
            let opaque = record.opaque;
            if seen.insert(diff_id) {
                visible.push((diff_id.clone(), record));
            }
            if opaque {
                break;
            }
        }
        Ok(visible)
    }
}

impl Snapshotter for Directory {
    fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>, SnapshotError> {
        let record = self.record(diff_id)?;
        Ok(record.map(|record| Layer { diff_id: diff_id.clone(), bytes: record.bytes }))
    }

    fn unpack(
        &self,
        diff_id: &Digest,
        source: &mut (dyn BufRead + Send),
        limits: &Limits,
    ) -> Result<Layer, SnapshotError> {
        let (name, path) = self.stage(&format!("unpack-{}", diff_id.hex()))?;
        let record = match self.fill(&path, diff_id, source, limits) {
            Ok(record) => record,
            Err(error) => {
                self.sweeper.push(path);
                return Err(error);
            }
        };
        self.publish(&name, diff_id.hex())?;
        file::sync_dir(&self.layers_fd).map_err(SnapshotError::io("publish layer", diff_id))?;
        Ok(Layer { diff_id: diff_id.clone(), bytes: record.bytes })
    }

    fn unpack_new(
        &self,
        source: &mut (dyn BufRead + Send),
        limits: &Limits,
        keep: &mut dyn FnMut(&Digest) -> bool,
    ) -> Result<Digest, SnapshotError> {
        let (name, path) = self.stage("unpack-new")?;
        let fill = || -> Result<Digest, SnapshotError> {
            let failed = |e| SnapshotError::io("write", path.display())(e);
            let root = Root::open(&path.join("fs")).map_err(failed)?;
            let (applied, diff_id) = unpack_plain(source, root, limits)?;
            seal(&path, &applied).map_err(failed)?;
            Ok(diff_id)
        };
        let diff_id = match fill() {
            Ok(diff_id) if keep(&diff_id) => diff_id,
            other => {
                self.sweeper.push(path);
                return other;
            }
        };
        self.publish(&name, diff_id.hex())?;
        file::sync_dir(&self.layers_fd).map_err(SnapshotError::io("publish layer", &diff_id))?;
        Ok(diff_id)
    }

    fn disk(&self, diff_id: &Digest, until: Instant) -> Result<Usage, SnapshotError> {
        let lock = || self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = lock().get(diff_id) {
            return Ok(*taken);
        }
        let name = OsStr::new(diff_id.hex());
        let inode = || file::stat_at(&self.layers_fd, name).map(|stat| stat.st_ino).ok();
        let before = inode();
        let taken =
            file::usage(&self.layers_fd, name, until).map_err(SnapshotError::io("measure layer", diff_id))?;
        // One that was removed meanwhile was counted in part.
        if !taken.partial && before.is_some() && before == inode() {
            lock().insert(diff_id.clone(), taken);
        }
        Ok(taken)
    }

    fn mount(&self, diff_ids: &[Digest]) -> Result<Mount, SnapshotError> {
        let visible = self.visible(diff_ids)?;
        let mut lower: Vec<PathBuf> = parents::layer(self, &visible)?.into_iter().collect();
        lower.extend(visible.iter().map(|(diff_id, _)| self.files(diff_id)));
        if lower.is_empty() {
            lower.push(self.layers.join(EMPTY));
        }
        let options = lower.iter().map(|path| format!("lowerdir={}", path.display())).collect();
        Ok(Mount { kind: "overlay", source: "overlay".to_owned(), options })
    }

    fn paths(&self, diff_ids: &[Digest]) -> Vec<PathBuf> {
        diff_ids.iter().map(|diff_id| self.files(diff_id)).collect()
    }

    fn remove(&self, diff_id: &Digest) -> Result<Removal, SnapshotError> {
        let mut removal = parents::remove_with(self, diff_id)?;
        removal.join(self.trash(diff_id.hex())?);
        // After the rename: a reader of the same moment would only put its record back.
        self.records.lock().unwrap_or_else(PoisonError::into_inner).remove(diff_id);
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(diff_id);
        Ok(removal)
    }

    fn list(&self) -> Result<Vec<(Digest, SystemTime)>, SnapshotError> {
        list(&self.layers).map_err(SnapshotError::io("list", self.layers.display()))
    }
}

/// Writes what is to be known about a staged layer beside its files, and waits until all of it is durable.
fn seal(staged: &Path, applied: &Applied) -> io::Result<Record> {
    let record = Record {
        version: 1,
        bytes: applied.bytes,
        entries: applied.entries,
        opaque: applied.opaque,
        implied: applied.implied.iter().map(|path| hex::encode(path.bytes())).collect(),
    };
    let dir = file::open_dir(staged)?;
    file::write_atomic(&dir, RECORD, &serde_json::to_vec(&record)?, Durability::Cached)?;
    // One call for all files, instead of one each.
    rustix::fs::syncfs(&dir)?;
    Ok(record)
}

/// A name that no other staging or removal has, of this process or of one before.
fn unique(kind: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{kind}-{}-{since:x}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        super::super::conformance::check(|root| Directory::open(root).unwrap());
    }

    #[test]
    fn what_a_killed_process_left_is_swept_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let left = ["unpack-aa-1-0", "trash-1-0"].map(|name| dir.path().join("ingest").join(name));
        for folder in &left {
            std::fs::create_dir_all(folder.join("fs/etc")).unwrap();
            std::fs::write(folder.join("fs/etc/file"), "half").unwrap();
        }
        let partial = dir.path().join("ingest/aa.part");
        std::fs::write(&partial, "to be continued").unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while left.iter().any(|folder| folder.exists()) {
            assert!(Instant::now() < deadline, "nothing was swept");
            std::thread::yield_now();
        }
        assert!(partial.exists());
        assert!(directory.list().unwrap().is_empty());
    }
}
