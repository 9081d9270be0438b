//! Directories that a layer's archive only implies.
//!
//! An archive may hold `tmp/x` and no entry for `tmp`. What such a directory's owner and mode are, the layers below
//! say; but an overlay shows those of the topmost layer that has the directory. Layers are shared between images, so
//! the answer cannot be written into the layer: it goes into one small layer of directories that lies on top of all
//! the others of that chain, made once. Most images need none; a chain that was looked at and needs none has a folder
//! without files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_proto::id::Digest;
use davit_sys::file::{self, Durability, FileType, Times};

use super::directory::{Directory, Record};
use super::{Removal, SnapshotError};
use crate::digest::Hasher;

const PREFIX: &str = "parents-";
const CHAIN: &str = "chain.json";
const CHAIN_BYTES: usize = 1 << 20;
const IMPLIED: Meta = Meta { mode: 0o755, uid: 0, gid: 0, times: None };

/// What a directory shall look like.
#[derive(Debug, Clone, Copy)]
struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    times: Option<Times>,
}

impl Meta {
    fn differs(&self, other: &Self) -> bool {
        (self.mode, self.uid, self.gid) != (other.mode, other.uid, other.gid)
    }
}

/// One visible layer with the directories that it implies.
struct Candidate {
    files: PathBuf,
    implied: BTreeSet<Vec<u8>>,
}

/// What one layer has under a path.
enum Look {
    /// Nothing, so the next one below counts.
    Absent,
    /// Something that hides what is below.
    Blocked,
    /// A directory; `opaque` when it hides what is below.
    Directory { meta: Meta, opaque: bool },
}

/// The folder that lies on top of these layers, topmost first, if they need one.
pub(super) fn layer(
    snapshots: &Directory,
    visible: &[(Digest, Arc<Record>)],
) -> Result<Option<PathBuf>, SnapshotError> {
    if visible.iter().all(|(_, record)| !record.implies()) {
        return Ok(None);
    }
    let name = name(visible.iter().map(|(diff_id, _)| diff_id));
    let (layers, _) = snapshots.layers();
    let folder = layers.join(&name);
    let files = folder.join("fs");
    if folder.exists() {
        return Ok(files.exists().then_some(files));
    }
    let failed = |e| SnapshotError::io("find the parent directories of", &name)(e);
    let candidates: Vec<Candidate> = visible
        .iter()
        .map(|(diff_id, record)| Candidate {
            files: snapshots.files(diff_id),
            implied: record.implied().collect(),
        })
        .collect();
    let plan = plan(&candidates).map_err(failed)?;
    let (staged, path) = snapshots.stage("unpack-parents")?;
    write(&path, &plan, visible).map_err(failed)?;
    snapshots.publish(&staged, &name)?;
    Ok((!plan.is_empty()).then_some(files))
}

/// Removes the folders of all chains that a layer is part of.
pub(super) fn remove_with(snapshots: &Directory, diff_id: &Digest) -> Result<Removal, SnapshotError> {
    let mut removal = Removal::default();
    let (layers, _) = snapshots.layers();
    let failed = |e| SnapshotError::io("list", layers.display())(e);
    for entry in std::fs::read_dir(layers).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let named = entry.file_name();
        let Some(name) = named.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let chain = match file::read_bounded(&entry.path().join(CHAIN), CHAIN_BYTES) {
            Ok(bytes) => serde_json::from_slice::<Vec<Digest>>(&bytes).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        // One that cannot be read is made anew when it is needed.
        if chain.is_empty() || chain.contains(diff_id) {
            removal.join(snapshots.trash(name)?);
        }
    }
    Ok(removal)
}

fn name<'a>(chain: impl Iterator<Item = &'a Digest>) -> String {
    let mut hasher = Hasher::default();
    for diff_id in chain {
        hasher.update(diff_id.as_str().as_bytes());
    }
    format!("{PREFIX}{}", hasher.finish().hex())
}

/// The directories that would look wrong, with all above them, parents before children.
fn plan(candidates: &[Candidate]) -> io::Result<BTreeMap<Vec<u8>, Meta>> {
    let mut plan = BTreeMap::new();
    let implied: BTreeSet<&Vec<u8>> = candidates.iter().flat_map(|candidate| &candidate.implied).collect();
    for path in implied {
        let Some(meta) = effective(candidates, path)?.filter(|meta| meta.differs(&IMPLIED)) else { continue };
        for (end, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            let above = &path[..end];
            if !plan.contains_key(above) {
                plan.insert(above.to_vec(), effective(candidates, above)?.unwrap_or(IMPLIED));
            }
        }
        plan.insert(path.clone(), meta);
    }
    Ok(plan)
}

/// What the topmost layer says that has an entry for the directory.
fn effective(candidates: &[Candidate], path: &[u8]) -> io::Result<Option<Meta>> {
    for candidate in candidates {
        match look(candidate, path)? {
            Look::Absent => {}
            Look::Blocked => return Ok(None),
            Look::Directory { meta, .. } if !candidate.implied.contains(path) => return Ok(Some(meta)),
            Look::Directory { opaque: true, .. } => return Ok(None),
            Look::Directory { .. } => {}
        }
    }
    Ok(None)
}

/// Looks a path up by its names alone, as an overlay does: no symlink is followed.
fn look(candidate: &Candidate, path: &[u8]) -> io::Result<Look> {
    let mut dir: OwnedFd = file::open_dir(&candidate.files)?;
    let mut opaque = false;
    let mut found = Look::Absent;
    for part in path.split(|&b| b == b'/') {
        let name = OsStr::from_bytes(part);
        let stat = match file::stat_at(&dir, name) {
            Ok(stat) => stat,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(if opaque { Look::Blocked } else { Look::Absent });
            }
            Err(e) => return Err(e),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Look::Blocked);
        }
        dir = file::open_dir_at(&dir, name)?;
        let mut value = [0u8; 1];
        opaque |= matches!(rustix::fs::fgetxattr(&dir, "trusted.overlay.opaque", &mut value[..]), Ok(1) if value == *b"y");
        let nanos = |n: u64| u32::try_from(n).unwrap_or_default();
        let times = Times {
            accessed: (stat.st_atime, nanos(stat.st_atime_nsec)),
            modified: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
        };
        let meta =
            Meta { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, times: Some(times) };
        found = Look::Directory { meta, opaque };
    }
    Ok(found)
}

fn write(staged: &Path, plan: &BTreeMap<Vec<u8>, Meta>, visible: &[(Digest, Arc<Record>)]) -> io::Result<()> {
    let (staged_fd, files) = (file::open_dir(staged)?, OsStr::new("fs"));
    if plan.is_empty() {
        // The folder says that nothing is needed, so that nobody looks again.
        file::remove_dir_at(&staged_fd, files)?;
    }
    write_plan(staged, plan)?;
    let chain: Vec<&Digest> = visible.iter().map(|(diff_id, _)| diff_id).collect();
    file::write_atomic(&staged_fd, CHAIN, &serde_json::to_vec(&chain)?, Durability::Cached)
}

fn write_plan(staged: &Path, plan: &BTreeMap<Vec<u8>, Meta>) -> io::Result<()> {
    if plan.is_empty() {
        return Ok(());
    }
    let root = file::Root::open(&staged.join("fs"))?;
    let open = |path: &[u8]| root.open_dir(Path::new(OsStr::from_bytes(path)));
    for (path, meta) in plan {
        let at = path.iter().rposition(|&b| b == b'/');
        let (parent, name) = at.map_or((&[][..], &path[..]), |slash| (&path[..slash], &path[slash + 1..]));
        file::make_dir_at(open(parent)?, OsStr::from_bytes(name), 0o700)?;
        let dir = open(path)?;
        file::chown(&dir, meta.uid, meta.gid)?;
        file::chmod(&dir, meta.mode)?;
    }
    for (path, meta) in plan.iter().rev() {
        if let Some(times) = meta.times {
            file::set_times(open(path)?, times)?;
        }
    }
    Ok(())
}
