//! A new volume gets what the image holds at its place, before its first container sees it.
//!
//! Mostly there is nothing to do, and that is found out by a look or two, without a process. Else a helper copies; a
//! container that wants the same volume meanwhile waits, so that it does not see half. What a crash cut off is
//! finished by the next container that uses the volume, whatever it wants.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use davit_proto::copy::{self, Action, Answer, FailureKind, Order, POPULATED, POPULATING, Populate};
use davit_proto::id::ContainerId;
use davit_sys::file::Flock;
use sha2::Digest as _;
use tokio::time::Instant;

use super::helper::{Helper, out_of_turn};
use crate::engine::Engine;
use crate::error::Error;

/// How long a volume may be somebody else's to fill.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at its lock.
const TICK: Duration = Duration::from_millis(20);
/// Volumes of one helper: their paths fit into one order.
const BATCH: usize = 6;
/// Folder that a new file system has, and that is nobody's.
const LOST_FOUND: &str = "lost+found";

/// A volume of a container.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Where the container sees it.
    pub path: String,
    /// The volume's folder on the host.
    pub folder: PathBuf,
    /// What the image holds there is wanted, when the volume is empty.
    pub wanted: bool,
}

/// Fills the volumes that are empty, and finishes those that a crash left half filled. `layers` are the image's, the
/// topmost first.
///
/// # Errors
/// When a volume or the image cannot be read, or the volume not be written; then it is as empty as before.
pub async fn populate(
    engine: &Arc<Engine>,
    id: &ContainerId,
    container: &str,
    layers: Vec<PathBuf>,
    candidates: Vec<Candidate>,
) -> Result<(), Error> {
    let layers = Arc::new(layers);
    let due = due(&layers, candidates).await?;
    for some in due.chunks(BATCH) {
        let locks = lock(engine, some).await?;
        // Whoever had the lock has filled it.
        let volumes = self::due(&layers, some.to_vec()).await?;
        let volumes: Vec<Populate> = volumes
            .into_iter()
            .map(|one| Populate { path: one.wanted.then_some(one.path), folder: one.folder })
            .collect();
        if !volumes.is_empty() {
            let order = Order {
                container: container.to_owned(),
                place: copy::Place::Image(layers.to_vec()),
                ids: None,
                path: Vec::new(),
                action: Action::Populate { volumes },
            };
            run(engine, id, &order, locks).await?;
        }
    }
    Ok(())
}

async fn run(engine: &Arc<Engine>, id: &ContainerId, order: &Order, locks: Vec<Flock>) -> Result<(), Error> {
    // Held by the helper too, which ends a moment after an engine that was killed.
    let along = locks.iter().map(|lock| lock.as_fd().try_clone_to_owned());
    let along: Vec<OwnedFd> = along.collect::<io::Result<_>>().map_err(Error::io("keep a volume's lock"))?;
    let mut helper = Helper::launch(engine, id, order, along).await?;
    let cut = || {
        let message = "the copy of the image's files to a volume was ended".to_owned();
        Error::Copy { kind: FailureKind::Internal, message }
    };
    loop {
        match helper.first().await?.ok_or_else(cut)? {
            Answer::Ready => {}
            Answer::Done { entries, bytes } => {
                tracing::debug!(container_id = %id, entries, bytes, "copied the image's files to new volumes");
                return Ok(());
            }
            Answer::Failed { kind, message } => return Err(Error::Copy { kind, message }),
            Answer::Stat(_) => return Err(out_of_turn()),
        }
    }
}

/// The volumes that want a helper.
async fn due(layers: &Arc<Vec<PathBuf>>, candidates: Vec<Candidate>) -> Result<Vec<Candidate>, Error> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let layers = layers.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let is_due = |one: &Candidate| -> Result<bool, Error> {
            let state = look(&one.folder);
            Ok(match state.map_err(Error::io(format!("look at the volume at {}", one.folder.display())))? {
                State::Cut => true,
                State::Empty => one.wanted && may_hold(&layers, &one.path),
                State::Filled => false,
            })
        };
        let mut due = Vec::new();
        for one in candidates {
            if is_due(&one)? {
                due.push(one);
            }
        }
        Ok(due)
    });
    looked.await.map_err(|error| Error::Task { doing: "look at the volumes", why: error.to_string() })?
}

/// How full a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A copy goes on or was cut off.
    Cut,
    /// Nothing is in it.
    Empty,
    /// Something is.
    Filled,
}

fn look(folder: &Path) -> io::Result<State> {
    for name in [POPULATING, POPULATED] {
        match fs::symlink_metadata(folder.join(name)) {
            Ok(found) if found.is_dir() => return Ok(State::Cut),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(folder)? {
        if entry?.file_name() != LOST_FOUND {
            return Ok(State::Filled);
        }
    }
    Ok(State::Empty)
}

/// Whether an image may have something at a path: `false` is certain. A link on the way may lead anywhere, and only
/// somebody who has all layers before him can follow it.
fn may_hold(layers: &[PathBuf], path: &str) -> bool {
    layers.iter().any(|layer| {
        let mut place = layer.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            place.push(part);
            match fs::symlink_metadata(&place) {
                Ok(found) if found.is_symlink() => return true,
                Ok(found) if found.is_dir() => {}
                Ok(_) => return false,
                Err(error) => return error.kind() != io::ErrorKind::NotFound,
            }
        }
        true
    })
}

/// The locks of volumes, all in one order. Several volumes may share one.
async fn lock(engine: &Arc<Engine>, volumes: &[Candidate]) -> Result<Vec<Flock>, Error> {
    let folder = engine.config.run.join("populate");
    let doing = || format!("lock the volumes by {}", folder.display());
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io(doing())(error)),
        _ => {}
    }
    let number = |one: &Candidate| {
        let hash = sha2::Sha256::digest(one.folder.as_os_str().as_encoded_bytes());
        hash.first().copied().unwrap_or_default()
    };
    let numbers: BTreeSet<u8> = volumes.iter().map(number).collect();
    let deadline = Instant::now() + PATIENCE;
    let mut locks = Vec::with_capacity(numbers.len());
    for number in numbers {
        let path = folder.join(format!("{number:02x}"));
        loop {
            match Flock::try_lock(&path).map_err(Error::io(doing()))? {
                Some(lock) => break locks.push(lock),
                None if Instant::now() > deadline => {
                    let message =
                        "a volume is still being filled for another container: try again".to_owned();
                    return Err(Error::Copy { kind: FailureKind::Busy, message });
                }
                None => tokio::time::sleep(TICK).await,
            }
        }
    }
    Ok(locks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_may_hold_is_seen_without_its_tree() {
        let folder = tempfile::tempdir().unwrap();
        let (top, low) = (folder.path().join("top"), folder.path().join("low"));
        fs::create_dir_all(top.join("a")).unwrap();
        fs::create_dir_all(low.join("a/b")).unwrap();
        fs::write(low.join("file"), "").unwrap();
        std::os::unix::fs::symlink("run", low.join("var")).unwrap();
        let layers = [top, low];
        for (path, held) in [
            ("/a", true),
            ("/a/b", true),
            ("/a/c", false),
            ("/none", false),
            ("/file", false),
            ("/file/x", false),
            ("/var/anything", true),
        ] {
            assert_eq!(may_hold(&layers, path), held, "{path}");
        }
    }

    #[test]
    fn volumes_are_empty_full_or_cut() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(look(folder.path()).unwrap(), State::Empty);
        fs::create_dir(folder.path().join(LOST_FOUND)).unwrap();
        assert_eq!(look(folder.path()).unwrap(), State::Empty);
        fs::write(folder.path().join(POPULATED), "somebody's file").unwrap();
        assert_eq!(look(folder.path()).unwrap(), State::Filled);
        fs::create_dir(folder.path().join(POPULATING)).unwrap();
        assert_eq!(look(folder.path()).unwrap(), State::Cut);
        assert!(look(&folder.path().join("none")).is_err());
    }
}
