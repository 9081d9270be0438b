//! Layers as they should be, and layers that try to get out. Runs as root: owners, devices and `trusted.*` attributes
//! are what is tested.

mod hostile;
mod model;

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use davit_sys::file::Root;

use super::*;
use crate::digest::digest;
use crate::fixture::gzip;
use davit_archive::fixture::{Archive, Header};

/// A layer's root with a canary beside it that no layer may touch.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/canary"), "alive").unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn apply(&self, archive: &[u8]) -> Result<Applied, UnpackError> {
        self.apply_with(archive, &Limits::default())
    }

    fn apply_with(&self, archive: &[u8], limits: &Limits) -> Result<Applied, UnpackError> {
        let before = state(&self.outside());
        let result = apply(archive, Root::open(&self.root()).unwrap(), limits);
        assert_eq!(state(&self.outside()), before, "something outside of the layer changed");
        result
    }

    fn unpack(&self, compressed: &[u8], tar: &[u8]) -> Result<Applied, UnpackError> {
        unpack(compressed, Root::open(&self.root()).unwrap(), &digest(tar), &Limits::default())
    }
}

/// Everything about a directory and the files in it that a layer could have changed.
fn state(dir: &Path) -> Vec<(PathBuf, u32, u32, i64, i64, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.push(dir.to_owned());
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            (path, meta.mode(), meta.uid(), meta.mtime(), meta.mtime_nsec(), content)
        })
        .collect()
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let n = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(n);
    Some(value)
}

fn is_whiteout(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn every_kind_of_entry_arrives_with_its_metadata() {
    let place = Place::new();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let node =
        |name, flag, device| Header { name, flag, device, mode: 0o666, owner: (5, 6), ..Header::default() };
    let bytes = Archive::default()
        .entry(&Header { name: "./", flag: b'5', mode: 0o555, ..Header::default() }, b"")
        .entry(&Header { name: "dir/", flag: b'5', mode: 0o1777, owner: (1, 2), ..Header::default() }, b"")
        .pax(&[("mtime", b"1600000000.123456789"), ("SCHILY.xattr.security.capability", capability)])
        .entry(&Header { name: "dir/suid", mode: 0o4755, owner: (7, 8), ..Header::default() }, b"program")
        .hardlink("dir/same", "dir/suid")
        .symlink("link", "/etc/../anything")
        .entry(&node("null", b'3', (1, 3)), b"")
        .entry(&node("disk", b'4', (8, 1)), b"")
        .entry(&node("pipe", b'6', (0, 0)), b"")
        .end();
    let applied = place.apply(&bytes).unwrap();
    assert_eq!((applied.entries, applied.bytes, applied.opaque), (8, 7, false));
    assert!(applied.implied.is_empty());

    assert_eq!(mode(&place.root()), 0o555);
    let dir = place.at("dir").metadata().unwrap();
    assert_eq!((mode(&place.at("dir")), dir.uid(), dir.gid()), (0o1777, 1, 2));
    assert_eq!(dir.mtime(), 1_600_000_000, "a directory's time is set after what was made in it");
    let suid = place.at("dir/suid").metadata().unwrap();
    assert_eq!((mode(&place.at("dir/suid")), suid.uid(), suid.gid(), suid.nlink()), (0o4755, 7, 8, 2));
    assert_eq!((suid.mtime(), suid.mtime_nsec()), (1_600_000_000, 123_456_789));
    assert_eq!(xattr(&place.at("dir/suid"), "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(std::fs::read(place.at("dir/same")).unwrap(), b"program");
    assert_eq!(std::fs::read_link(place.at("link")).unwrap(), Path::new("/etc/../anything"));
    let null = place.at("null").metadata().unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), null.uid(), null.mode() & 0o7777), (rustix::fs::makedev(1, 3), 5, 0o666));
    assert!(place.at("disk").metadata().unwrap().file_type().is_block_device());
    assert!(place.at("pipe").metadata().unwrap().file_type().is_fifo());
}

#[test]
fn what_is_made_in_a_groups_folder_has_its_own_group_and_mode() {
    let place = Place::new();
    let (own, others) = ((0, 0), (0, 7));
    let of = |name, mode, owner| Header { name, mode, owner, ..Header::default() };
    let folder = |name, mode, owner| Header { flag: b'5', ..of(name, mode, owner) };
    let bytes = Archive::default()
        .entry(&folder("group/", 0o2775, others), b"")
        .entry(&folder("group/plain/", 0o755, own), b"")
        .entry(&folder("group/theirs/", 0o3777, others), b"")
        .entry(&of("group/file", 0o644, own), b"x")
        .entry(&of("group/closed", 0, own), b"x")
        .entry(&of("group/wide", 0o777, others), b"x")
        .entry(&of("group/root", 0o6755, own), &[0; 70_000])
        .entry(&folder("group/plain/", 0o1700, others), b"")
        .end();
    place.apply(&bytes).unwrap();
    for (name, expected) in [
        ("group", (0o2775, 7)),
        ("group/plain", (0o1700, 7)),
        ("group/theirs", (0o3777, 7)),
        ("group/file", (0o644, 0)),
        ("group/closed", (0, 0)),
        ("group/wide", (0o777, 7)),
        ("group/root", (0o6755, 0)),
    ] {
        let about = place.at(name).metadata().unwrap();
        assert_eq!((mode(&place.at(name)), about.gid()), expected, "{name}");
    }
    assert_eq!(std::fs::read(place.at("group/root")).unwrap(), [0; 70_000]);
}

#[test]
fn whiteouts_become_what_an_overlay_reads() {
    let place = Place::new();
    let bytes = Archive::default()
        .dir("d", 0o755)
        .file("d/.wh.gone", b"")
        .file("d/.wh..wh..opq", b"")
        .file("implied/.wh.x", b"")
        .file(".wh..wh.plnk/1.2", b"x")
        .end();
    let applied = place.apply(&bytes).unwrap();
    assert!(is_whiteout(&place.at("d/gone")));
    assert_eq!(xattr(&place.at("d"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
    assert!(is_whiteout(&place.at("implied/x")));
    assert_eq!(mode(&place.at("implied")), 0o755);
    assert_eq!(applied.implied, [LayerPath::parse(b"implied").unwrap()]);
    assert_eq!(std::fs::read_dir(place.root()).unwrap().count(), 2);
    assert!(place.apply(&Archive::default().file(".wh..wh..opq", b"").end()).unwrap().opaque);
}

#[test]
fn a_whiteout_leaves_what_its_own_layer_has() {
    for first in [true, false] {
        let place = Place::new();
        let whiteouts = |a: Archive| a.file(".wh.dir", b"").file(".wh.file", b"");
        let things = |a: Archive| a.dir("dir", 0o700).file("dir/x", b"1").file("file", b"2");
        let archive = Archive::default();
        let archive = if first { things(whiteouts(archive)) } else { whiteouts(things(archive)) };
        place.apply(&archive.end()).unwrap();
        assert_eq!(std::fs::read(place.at("dir/x")).unwrap(), b"1");
        assert_eq!(std::fs::read(place.at("file")).unwrap(), b"2");
        assert_eq!(xattr(&place.at("dir"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
    }
    let place = Place::new();
    place.apply(&Archive::default().file(".wh.dir", b"").file("dir/x", b"1").end()).unwrap();
    assert_eq!(xattr(&place.at("dir"), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let place = Place::new();
    let bytes = Archive::default()
        .file("a", b"old")
        .file("a", b"new")
        .dir("d", 0o700)
        .file("d/x", b"1")
        .file("d", b"now a file")
        .file("f", b"file")
        .dir("f", 0o711)
        .file("f/y", b"2")
        .dir("kept", 0o700)
        .file("kept/z", b"3")
        .dir("kept", 0o711)
        .file("h", b"self")
        .hardlink("h", "h")
        .end();
    place.apply(&bytes).unwrap();
    assert_eq!(std::fs::read(place.at("a")).unwrap(), b"new");
    assert_eq!(std::fs::read(place.at("d")).unwrap(), b"now a file");
    assert_eq!(std::fs::read(place.at("f/y")).unwrap(), b"2");
    assert_eq!((std::fs::read(place.at("kept/z")).unwrap(), mode(&place.at("kept"))), (b"3".to_vec(), 0o711));
    assert_eq!(std::fs::read(place.at("h")).unwrap(), b"self");
}

#[test]
fn only_harmless_attributes_are_kept() {
    let place = Place::new();
    let records: [(&str, &[u8]); 5] = [
        ("SCHILY.xattr.user.note", b"kept"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"x"),
    ];
    place.apply(&Archive::default().pax(&records).dir("d", 0o755).end()).unwrap();
    assert_eq!(xattr(&place.at("d"), "user.note").as_deref(), Some(&b"kept"[..]));
    for (name, _) in &records[1..] {
        assert_eq!(
            xattr(&place.at("d"), name.strip_prefix("SCHILY.xattr.").unwrap()),
            None,
            "{name} was kept"
        );
    }
}

#[test]
fn each_compression_is_known_by_its_first_bytes() {
    let tar = Archive::default().file("a", &[b'x'; 100_000]).dir("d", 0o755).end();
    let mut members = gzip(&tar[..1000]);
    members.extend(gzip(&tar[1000..]));
    let mut frames = b"\x50\x2a\x4d\x18\x02\0\0\0ab".to_vec();
    frames.extend(zstd::encode_all(&tar[..], 3).unwrap());
    for compressed in [tar.clone(), gzip(&tar), members, zstd::encode_all(&tar[..], 3).unwrap(), frames] {
        let place = Place::new();
        let applied = place.unpack(&compressed, &tar).unwrap();
        assert_eq!((applied.entries, applied.bytes), (2, 100_000));
        assert_eq!(std::fs::read(place.at("a")).unwrap().len(), 100_000);
    }
    for unknown in [&b"\xfd7zXZ\0rest"[..], b"BZh91AY"] {
        let error = Place::new().unpack(unknown, &tar).unwrap_err();
        assert!(matches!(error, UnpackError::Layer(Problem::Compression(_))), "{error:?}");
    }
}

#[test]
fn a_layer_is_what_its_diff_id_says_or_it_is_refused() {
    let tar = Archive::default().file("a", b"x").end();
    let other = Archive::default().file("a", b"y").end();
    let error = Place::new().unpack(&gzip(&tar), &other).unwrap_err();
    assert!(matches!(&error, UnpackError::DiffId { .. }) && error.is_content());
    let whole = gzip(&tar);
    for cut in [10, whole.len() / 2, whole.len() - 1] {
        let error = Place::new().unpack(&whole[..cut], &tar).unwrap_err();
        assert!(matches!(&error, UnpackError::Layer(Problem::Decompress(_))), "{error:?}");
        assert!(error.is_content());
    }
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    assert!(Place::new().unpack(&damaged, &tar).unwrap_err().is_content());
}

#[test]
fn a_failing_source_is_told_from_a_bad_layer() {
    struct Broken(bool);
    impl io::Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let some = gzip(&Archive::default().file("a", &[b'x'; 5000]).end());
            into[..20].copy_from_slice(&some[..20]);
            Ok(20)
        }
    }
    let place = Place::new();
    let source = io::BufReader::new(Broken(false));
    let error =
        unpack(source, Root::open(&place.root()).unwrap(), &digest(b""), &Limits::default()).unwrap_err();
    assert!(matches!(&error, UnpackError::Layer(Problem::Source(_))), "{error:?}");
    assert!(!error.is_content());
}
