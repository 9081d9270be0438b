//! The lasting half of a container on disk: the one place that knows the names of its files.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use davit_proto::journal::{What, entries};
use davit_proto::store::ContainerRecord;
use davit_proto::types::Exit;
use davit_proto::wanted::Wanted;
use davit_sys::file::{Durability, Flock, open_dir, read_bounded, sync_dir, write_atomic};
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};
use prost_types::FileDescriptorSet;

/// Is there while the container is frozen for a reader of its files.
const FROZEN: &str = "frozen";
/// Is there when the folder was made before anybody asked for a container.
const AHEAD: &str = "ahead";
/// Sizes that are read at most.
const SPEC: usize = 8 << 20;
const EXIT: usize = 64 << 10;
const LIFE: usize = 8 << 20;
const WANTED: usize = 4 << 10;

/// A container's folder.
#[derive(Debug, Clone)]
pub struct Bundle {
    path: PathBuf,
}

impl Bundle {
    /// The folder at `path`, there or not.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of one of its files.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether the folder is there.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn exists(&self) -> io::Result<bool> {
        self.path.try_exists()
    }

    /// Makes the folder and those in it. What is there already stays.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn make(&self) -> io::Result<()> {
        // The upper folder's mode becomes that of the container's root.
        for (name, mode) in [("", 0o700), ("upper", 0o755), ("work", 0o700), ("log", 0o700)] {
            let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
            match DirBuilder::new().mode(mode).create(&path) {
                Ok(()) => std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the folder of a container that nobody has asked for yet, and marks it as that.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn make_ahead(&self) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.path)?;
        std::fs::File::create_new(self.file(AHEAD))?;
        self.make()
    }

    /// Somebody has asked, and the folder has the request. It must never be taken for one of nobody's again, whatever is
    /// lost of it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn claim(&self) -> io::Result<()> {
        std::fs::remove_file(self.file(AHEAD))
    }

    /// Whether the folder is one of those, and nobody has asked.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn is_ahead(&self) -> io::Result<bool> {
        Ok(self.file(AHEAD).try_exists()? && !self.file("spec.json").try_exists()?)
    }

    /// Writes the container's record, from which the store can be rebuilt.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_spec(&self, record: &ContainerRecord) -> io::Result<()> {
        self.write("spec.json", &spec_json(record)?, Durability::Cached)
    }

    /// Reads the container's record; `None` when it was never written.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_spec(&self) -> io::Result<Option<ContainerRecord>> {
        self.read("spec.json", SPEC)?.map(|bytes| record_of(&bytes)).transpose()
    }

    /// Makes the folder, its record and its name survive a power cut.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&self) -> io::Result<()> {
        std::fs::File::open(self.file("spec.json"))?.sync_all()?;
        sync_dir(open_dir(&self.path)?)?;
        match self.path.parent() {
            Some(parent) => sync_dir(open_dir(parent)?),
            None => Ok(()),
        }
    }

    /// Writes the runtime spec.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_config(&self, spec: &oci_spec::runtime::Spec) -> io::Result<()> {
        self.write("config.json", &serde_json::to_vec(spec)?, Durability::Cached)
    }

    /// Reads the runtime spec; `None` when it was never written.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_config(&self) -> io::Result<Option<oci_spec::runtime::Spec>> {
        self.read("config.json", SPEC)?.map(|bytes| Ok(serde_json::from_slice(&bytes)?)).transpose()
    }

    /// Writes a file that the container sees (`hosts`, `resolv.conf`, `hostname`), readable by all of it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_shown(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.file(name);
        // A new file each time: an old container's mount must not see the new one's text.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o644).open(&path)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))
    }

    /// What of the bundle the container shows as a file of its own says now. Its programs may have written to it.
    ///
    /// # Errors
    /// When it is not there, or longer than `limit`.
    pub fn read_shown(&self, name: &str, limit: usize) -> io::Result<String> {
        let bytes = read_bounded(&self.file(name), limit)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Gives a file that a container shows another text, the same file still: mounts follow it.
    ///
    /// # Errors
    /// When it is not there, or the file system refuses.
    pub fn rewrite_shown(&self, name: &str, text: &str) -> io::Result<()> {
        let file = std::fs::File::options().write(true).open(self.file(name))?;
        std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), 0)?;
        file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
    }

    /// Says what is wanted of the shim. Written before the shim is told.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_wanted(&self, wanted: &Wanted) -> io::Result<()> {
        self.write("wanted", &serde_json::to_vec(wanted)?, Durability::Cached)
    }

    /// What is wanted; `None` when that was never said.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_wanted(&self) -> io::Result<Option<Wanted>> {
        let bytes = self.read("wanted", WANTED)?;
        bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from)).transpose()
    }

    /// How the last life ended, as the shim wrote it; `None` when none has.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_exit(&self) -> io::Result<Option<Exit>> {
        let bytes = self.read("exit", EXIT)?;
        bytes.map(|bytes| Exit::decode(bytes.as_slice()).map_err(io::Error::from)).transpose()
    }

    /// Records an end in the place of a shim that could not: it is gone, so nobody else writes.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_exit(&self, exit: &Exit) -> io::Result<()> {
        self.write("exit", &exit.encode_to_vec(), Durability::Synced)
    }

    /// The shim's journal; `None` when nothing ever happened.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_life(&self) -> io::Result<Option<Vec<u8>>> {
        self.read("life", LIFE)
    }

    /// The last life that the shim's journal says was begun, and when; `None` when none was.
    ///
    /// # Errors
    /// When the journal is there and cannot be read.
    pub fn last_start(&self) -> io::Result<Option<(u64, prost_types::Timestamp)>> {
        Ok(self.read_life()?.and_then(|journal| last_start(&journal)))
    }

    /// Whether nobody has the container's file system mounted: whoever does holds the lock.
    ///
    /// # Errors
    /// When the lock cannot be tried.
    pub fn is_free(&self) -> io::Result<bool> {
        let path = self.file("lock");
        if !path.try_exists()? {
            return Ok(true);
        }
        Ok(Flock::try_lock(&path)?.is_some())
    }

    /// Says that the container is frozen only for as long as somebody reads its files.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn mark_frozen(&self) -> io::Result<()> {
        self.write(FROZEN, b"", Durability::Cached)
    }

    /// Whether that is said.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn is_marked_frozen(&self) -> io::Result<bool> {
        self.file(FROZEN).try_exists()
    }

    /// Says it no more.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn unmark_frozen(&self) -> io::Result<()> {
        match std::fs::remove_file(self.file(FROZEN)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn write(&self, name: &str, bytes: &[u8], durability: Durability) -> io::Result<()> {
        write_atomic(open_dir(&self.path)?, name, bytes, durability)
    }

    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        match read_bounded(&self.file(name), limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The record as the canonical JSON of its protobuf, which people and other programs can read.
pub(super) fn spec_json(record: &ContainerRecord) -> io::Result<Vec<u8>> {
    let message = DynamicMessage::decode(descriptor(), record.encode_to_vec().as_slice())?;
    let mut bytes = Vec::new();
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut bytes), &options)?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn record_of(bytes: &[u8]) -> io::Result<ContainerRecord> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    // A newer engine may have written more fields.
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(descriptor(), &mut json, &options)?;
    ContainerRecord::decode(message.encode_to_vec().as_slice()).map_err(io::Error::from)
}

fn descriptor() -> MessageDescriptor {
    static DESCRIPTOR: OnceLock<MessageDescriptor> = OnceLock::new();
    let read = || {
        let set = FileDescriptorSet::decode(davit_proto::DESCRIPTORS);
        let mut set = set.expect("compiled by our own build script");
        // Where each word stands in its file, which is more than all the rest, and which nobody asks.
        set.file.iter_mut().for_each(|file| file.source_code_info = None);
        let pool = DescriptorPool::from_file_descriptor_set(set).expect("compiled by our own build script");
        pool.get_message_by_name("davit.store.v1.ContainerRecord").expect("defined in record.proto")
    };
    DESCRIPTOR.get_or_init(read).clone()
}

/// The last life that a journal says was begun, and when.
fn last_start(journal: &[u8]) -> Option<(u64, prost_types::Timestamp)> {
    let starts = entries(journal).filter(|entry| matches!(entry.what, What::Start { .. }));
    let last = starts.max_by_key(|entry| entry.n)?;
    let at: jiff::Timestamp = last.at.parse().ok()?;
    let at = prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() };
    Some((last.life, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::container::{Container, ContainerSpec};
    use std::collections::HashMap;

    #[test]
    fn the_record_comes_back_from_its_json() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(folder.path().join("c"));
        bundle.make_ahead().unwrap();
        assert!(bundle.is_ahead().unwrap());
        bundle.make().unwrap();
        assert_eq!(bundle.read_spec().unwrap(), None);
        let spec = ContainerSpec {
            image: "alpine".into(),
            labels: HashMap::from([("a".into(), "ä\n\u{1}".into())]),
            stop_timeout: Some(prost_types::Duration { seconds: 3, nanos: 5 }),
            ..ContainerSpec::default()
        };
        let record = ContainerRecord {
            version: 1,
            container: Some(Container {
                name: "web".into(),
                spec: Some(spec),
                revision: u64::MAX,
                ..Container::default()
            }),
            request_hash: vec![0, 255],
            ..ContainerRecord::default()
        };
        bundle.write_spec(&record).unwrap();
        assert_eq!(bundle.read_spec().unwrap(), Some(record));
        assert!(!bundle.is_ahead().unwrap(), "somebody has asked");
        bundle.claim().unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(bundle.file("spec.json")).unwrap()).unwrap();
        assert_eq!(json["container"]["spec"]["image"], "alpine");
        bundle.sync().unwrap();
        std::fs::write(bundle.file("spec.json"), r#"{"version":1,"of_tomorrow":[1]}"#).unwrap();
        assert_eq!(bundle.read_spec().unwrap().unwrap().version, 1);
        std::fs::write(bundle.file("spec.json"), "{").unwrap();
        assert!(bundle.read_spec().is_err());
    }

    #[test]
    fn the_journal_is_read_over_torn_lines() {
        let journal = br#"{"n":1,"life":1,"event":"start","at":"2026-11-20T22:00:00.5Z","pid":7}
{"n":2,"life":1,"event":"exit","at":"2026-11-20T22:00:01Z","exit_code":0}
{"n":3,"life":2,"event":"start","at":"2026-11-20T22:00:02.000000001Z","pid":8}
{"n":4,"life":3,"event":"sta"#;
        let (life, at) = last_start(journal).unwrap();
        assert_eq!((life, at.nanos), (2, 1));
        assert_eq!(last_start(b""), None);
        assert_eq!(last_start(b"\xff\n{}\n"), None);
    }

    #[test]
    fn the_lock_shows_who_has_it_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(folder.path().to_owned());
        assert!(bundle.is_free().unwrap());
        let held = Flock::try_lock(&bundle.file("lock")).unwrap().unwrap();
        assert!(!bundle.is_free().unwrap());
        drop(held);
        assert!(bundle.is_free().unwrap());
    }

    #[test]
    fn what_a_container_sees_is_readable_and_new_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(folder.path().to_owned());
        bundle.write_shown("hosts", "one").unwrap();
        let old = std::fs::File::open(bundle.file("hosts")).unwrap();
        bundle.write_shown("hosts", "two").unwrap();
        assert_eq!(io::read_to_string(old).unwrap(), "one");
        let mode = std::fs::metadata(bundle.file("hosts")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }
}
