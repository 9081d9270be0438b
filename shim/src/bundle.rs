//! The files of a bundle and of a shim's run directory: the only place that knows their names and formats.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use davit_proto::id::ContainerId;
use davit_proto::types::{Exit, exit::How};
use davit_sys::file::{Durability, Flock, open_dir, read_bounded, write_atomic};
use oci_spec::runtime::Spec;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::stdio::clock::rfc3339;

const LOCK: &str = "lock";
const CONFIG: &str = "config.json";
const EXIT: &str = "exit";
const LIFE: &str = "life";
const LOG: &str = "log";
const SHIM: &str = "shim.json";

/// Most bytes of a config.json.
const CONFIG_LIMIT: usize = 4 << 20;
/// Most bytes of an exit record.
const EXIT_LIMIT: usize = 64 << 10;
/// The journal of lives is cut to its younger half when it has grown beyond this.
const LIFE_LIMIT: usize = 64 << 10;

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

/// One line of the journal of lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    life: u64,
    event: Happening,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    oom: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Happening {
    Start,
    Exit,
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

    /// Number of the last life that began; 0 before the first.
    pub fn last_life(&self) -> Result<u64, BundleError> {
        let exit = self.read_if_there(EXIT, EXIT_LIMIT)?;
        // A record that cannot be read names no life; the journal still may.
        let ended = exit.and_then(|bytes| Exit::decode(bytes.as_slice()).ok()).map_or(0, |exit| exit.life);
        let journal = self.read_if_there(LIFE, 2 * LIFE_LIMIT)?.unwrap_or_default();
        let begun = journal.split(|byte| *byte == b'\n').filter_map(|line| {
            let entry: Entry = serde_json::from_slice(line).ok()?;
            Some(entry.life)
        });
        Ok(begun.max().unwrap_or(0).max(ended))
    }

    fn read_if_there(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, BundleError> {
        let path = self.folder.join(name);
        match read_bounded(&path, limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Adds the beginning of a life to the journal. Written, not synced: after a power cut nothing runs, and the
    /// number of the life is in the controller's store as well.
    pub fn record_start(&self, life: u64, at: SystemTime, pid: u32) -> Result<(), BundleError> {
        let entry = Entry {
            life,
            event: Happening::Start,
            at: rfc3339(at),
            pid: Some(pid),
            code: None,
            signal: None,
            oom: false,
        };
        self.append(&entry)
    }

    /// Makes the end of a life durable: the journal is written, then the record replaces the one of the life before.
    pub fn record_exit(
        &self,
        exit: &Exit,
        at: SystemTime,
        durability: Durability,
    ) -> Result<(), BundleError> {
        let (code, signal) = match exit.how {
            Some(How::Code(code)) => (Some(code), None),
            Some(How::Signal(signal)) => (None, Some(signal)),
            None => (Some(exit.exit_code), None),
        };
        let entry = Entry {
            life: exit.life,
            event: Happening::Exit,
            at: rfc3339(at),
            pid: None,
            code,
            signal,
            oom: exit.oom_killed,
        };
        // The record is the promise; without the journal it still stands.
        let journal = self.append(&entry);
        let path = self.folder.join(EXIT);
        let folder = open_dir(&self.folder).map_err(io_error("open", &self.folder))?;
        write_atomic(&folder, EXIT, &exit.encode_to_vec(), durability).map_err(io_error("write", &path))?;
        journal
    }

    fn append(&self, entry: &Entry) -> Result<(), BundleError> {
        let path = self.folder.join(LIFE);
        self.append_line(&path, entry).map_err(io_error("append to", &path))
    }

    fn append_line(&self, path: &Path, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        if size > LIFE_LIMIT as u64 {
            let kept = younger_half(&read_bounded(path, usize::try_from(size).unwrap_or(usize::MAX))?);
            write_atomic(open_dir(&self.folder)?, LIFE, &[kept, line].concat(), Durability::Cached)?;
            return Ok(());
        }
        if ends_torn(&file, size)? {
            line.insert(0, b'\n');
        }
        file.write_all(&line)
    }
}

/// A cut write of an earlier life left a line without its end.
fn ends_torn(file: &File, size: u64) -> io::Result<bool> {
    let Some(last) = size.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    Ok(file.read_at(&mut byte, last)? == 1 && byte != [b'\n'])
}

fn younger_half(journal: &[u8]) -> Vec<u8> {
    let half = journal.get(journal.len() / 2..).unwrap_or_default();
    let begin = half.iter().position(|byte| *byte == b'\n').map_or(half.len(), |end| end + 1);
    half.get(begin..).unwrap_or_default().to_vec()
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
    use std::fs;
    use std::time::UNIX_EPOCH;

    fn bundle() -> (tempfile::TempDir, Bundle) {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(dir.path().to_owned());
        (dir, bundle)
    }

    fn exit(life: u64) -> Exit {
        Exit { life, how: Some(How::Code(3)), exit_code: 3, ..Exit::default() }
    }

    #[test]
    fn lives_are_counted_from_journal_and_record() {
        let (dir, bundle) = bundle();
        assert_eq!(bundle.last_life().unwrap(), 0);
        bundle.record_start(1, UNIX_EPOCH, 42).unwrap();
        assert_eq!(bundle.last_life().unwrap(), 1);
        bundle.record_exit(&exit(1), UNIX_EPOCH, Durability::Synced).unwrap();
        let journal = fs::read_to_string(dir.path().join(LIFE)).unwrap();
        let lines: Vec<&str> = journal.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"life":1,"event":"start","at":"1970-01-01T00:00:00.000000000Z","pid":42}"#,
                r#"{"life":1,"event":"exit","at":"1970-01-01T00:00:00.000000000Z","code":3}"#,
            ]
        );
        let record = fs::read(dir.path().join(EXIT)).unwrap();
        assert_eq!(Exit::decode(record.as_slice()).unwrap(), exit(1));
        fs::remove_file(dir.path().join(LIFE)).unwrap();
        assert_eq!(bundle.last_life().unwrap(), 1, "from the record alone");
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let (dir, bundle) = bundle();
        bundle.record_start(4, UNIX_EPOCH, 1).unwrap();
        let path = dir.path().join(LIFE);
        let torn = [fs::read(&path).unwrap(), br#"{"life":9,"ev"#.to_vec()].concat();
        fs::write(&path, torn).unwrap();
        assert_eq!(bundle.last_life().unwrap(), 4);
        bundle.record_start(5, UNIX_EPOCH, 1).unwrap();
        assert_eq!(bundle.last_life().unwrap(), 5);
        fs::write(dir.path().join(EXIT), "no protobuf").unwrap();
        assert_eq!(bundle.last_life().unwrap(), 5);
    }

    #[test]
    fn the_journal_is_bounded() {
        let (dir, bundle) = bundle();
        for life in 1..3_000 {
            bundle.record_start(life, UNIX_EPOCH, 1).unwrap();
        }
        assert!(fs::metadata(dir.path().join(LIFE)).unwrap().len() < 2 * LIFE_LIMIT as u64);
        assert_eq!(bundle.last_life().unwrap(), 2_999);
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
