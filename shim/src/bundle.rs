//! The files of a bundle and of a shim's run directory: the only place that knows their names and formats.

mod journal;

use std::io;
use std::path::{Path, PathBuf};

use davit_proto::id::ContainerId;
use davit_proto::types::Exit;
use davit_proto::wanted::Wanted;
use davit_sys::file::{Durability, Flock, open_dir, read_bounded, write_atomic};
use oci_spec::runtime::Spec;
use prost::Message as _;
use serde::Serialize;

pub use journal::Journal;

const LOCK: &str = "lock";
const CONFIG: &str = "config.json";
const EXIT: &str = "exit";
const LIFE: &str = "life";
const WANTED: &str = "wanted";
const LOG: &str = "log";
const SHIM: &str = "shim.json";

/// Most bytes of a config.json.
const CONFIG_LIMIT: usize = 4 << 20;
/// Most bytes of what is wanted.
const WANTED_LIMIT: usize = 4 << 10;
/// Most bytes of an exit record.
const EXIT_LIMIT: usize = 64 << 10;

/// Why a file of the bundle could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The kernel refused.
    #[error("{what} {path}")]
    Io {
        /// What was done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `wanted` does not say what is wanted.
    #[error("{path} does not say what is wanted")]
    Wanted {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// config.json is no OCI runtime spec.
    #[error("{path} is not an OCI runtime spec")]
    Config {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: oci_spec::OciSpecError,
    },
}

/// The lasting half of a container's bundle.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
}

impl Bundle {
    /// The bundle in a folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of its log.
    pub fn log(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    /// Takes the lock of the container, which fences off every other shim and helper; none when one of them has it.
    pub fn try_lock(&self) -> Result<Option<Flock>, BundleError> {
        let path = self.folder.join(LOCK);
        Flock::try_lock(&path).map_err(io_error("lock", &path))
    }

    /// The OCI runtime spec.
    pub fn spec(&self) -> Result<Spec, BundleError> {
        let path = self.folder.join(CONFIG);
        let bytes = read_bounded(&path, CONFIG_LIMIT).map_err(io_error("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| BundleError::Config { path, source: source.into() })
    }

    /// What is wanted of the container's shim; none when nobody ever said.
    pub fn wanted(&self) -> Result<Option<Wanted>, BundleError> {
        let Some(bytes) = self.read_if_there(WANTED, WANTED_LIMIT)? else { return Ok(None) };
        let wanted = serde_json::from_slice(&bytes);
        let path = self.folder.join(WANTED);
        wanted.map(Some).map_err(|source| BundleError::Wanted { path, source })
    }

    /// The journal. Only who has the lock may append to it.
    pub fn journal(&self) -> Result<Journal, BundleError> {
        Journal::open(self.folder.clone())
    }

    /// Number of the last life that ended, by the exit record; 0 before the first.
    pub fn last_exit(&self) -> Result<u64, BundleError> {
        let exit = self.read_if_there(EXIT, EXIT_LIMIT)?;
        // A record that cannot be read names no life; the journal still may.
        Ok(exit.and_then(|bytes| Exit::decode(bytes.as_slice()).ok()).map_or(0, |exit| exit.life))
    }

    fn read_if_there(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, BundleError> {
        let path = self.folder.join(name);
        match read_bounded(&path, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Makes the end of a life durable: the record replaces the one of the life before.
    pub fn record_exit(&self, exit: &Exit, durability: Durability) -> Result<(), BundleError> {
        let path = self.folder.join(EXIT);
        let folder = open_dir(&self.folder).map_err(io_error("open", &self.folder))?;
        write_atomic(&folder, EXIT, &exit.encode_to_vec(), durability).map_err(io_error("write", &path))
    }
}

/// Who serves a container: enough to know the process again when its number may have been reused.
#[derive(Debug, Serialize)]
pub struct Announcement<'a> {
    /// The container.
    pub container_id: &'a ContainerId,
    /// The shim as the host counts.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
    /// Which boot that was.
    pub boot_id: String,
    /// The engine it belongs to.
    pub instance: &'a str,
}

/// Writes `shim.json`. Not synced: the folder is gone after a reboot anyway.
pub fn announce(run: &Path, announcement: &Announcement<'_>) -> Result<(), BundleError> {
    let path = run.join(SHIM);
    let text = serde_json::to_vec(announcement).map_err(|error| io_error("encode", &path)(error.into()))?;
    let folder = open_dir(run).map_err(io_error("open", run))?;
    write_atomic(folder, SHIM, &text, Durability::Cached).map_err(io_error("write", &path))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::types::exit::How;
    use std::fs;

    fn bundle() -> (tempfile::TempDir, Bundle) {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(dir.path().to_owned());
        (dir, bundle)
    }

    fn exit(life: u64) -> Exit {
        Exit { life, how: Some(How::Code(3)), exit_code: 3, ..Exit::default() }
    }

    #[test]
    fn the_last_exit_is_kept() {
        let (dir, bundle) = bundle();
        assert_eq!(bundle.last_exit().unwrap(), 0);
        bundle.record_exit(&exit(1), Durability::Synced).unwrap();
        bundle.record_exit(&exit(2), Durability::Cached).unwrap();
        let record = fs::read(dir.path().join(EXIT)).unwrap();
        assert_eq!(Exit::decode(record.as_slice()).unwrap(), exit(2));
        assert_eq!(bundle.last_exit().unwrap(), 2);
        fs::write(dir.path().join(EXIT), "no protobuf").unwrap();
        assert_eq!(bundle.last_exit().unwrap(), 0);
    }

    #[test]
    fn what_is_wanted_is_read_or_not_there_or_an_error() {
        let (dir, bundle) = bundle();
        assert_eq!(bundle.wanted().unwrap(), None);
        let text = r#"{"revision":3,"want":"run","restart":{"mode":"always","max_retries":0}}"#;
        fs::write(dir.path().join(WANTED), text).unwrap();
        assert_eq!(bundle.wanted().unwrap().unwrap().revision, 3);
        fs::write(dir.path().join(WANTED), &text[1..]).unwrap();
        assert!(bundle.wanted().unwrap_err().to_string().ends_with("does not say what is wanted"));
        fs::write(dir.path().join(WANTED), " ".repeat(WANTED_LIMIT + 1)).unwrap();
        assert!(matches!(bundle.wanted(), Err(BundleError::Io { .. })));
    }

    #[test]
    fn one_shim_has_the_bundle() {
        let (_dir, bundle) = bundle();
        let held = bundle.try_lock().unwrap().unwrap();
        assert!(bundle.try_lock().unwrap().is_none());
        drop(held);
        assert!(bundle.try_lock().unwrap().is_some());
    }

    #[test]
    fn errors_name_the_file() {
        let (dir, bundle) = bundle();
        let error = bundle.spec().unwrap_err();
        assert_eq!(error.to_string(), format!("read {}/config.json", dir.path().display()));
        fs::write(dir.path().join(CONFIG), "{").unwrap();
        assert!(matches!(bundle.spec(), Err(BundleError::Config { .. })));
    }

    #[test]
    fn a_shim_says_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let id: ContainerId = "ab".repeat(32).parse().unwrap();
        let boot_id = "b".to_owned();
        let announcement =
            Announcement { container_id: &id, pid: 7, start_time: 8, boot_id, instance: "davit" };
        announce(dir.path(), &announcement).unwrap();
        let read: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.path().join(SHIM)).unwrap()).unwrap();
        assert_eq!(read["container_id"], "ab".repeat(32));
        assert_eq!((read["pid"].as_u64(), read["start_time"].as_u64()), (Some(7), Some(8)));
        assert_eq!((read["boot_id"].as_str(), read["instance"].as_str()), (Some("b"), Some("davit")));
    }
}
