//! Archives as trees: what they hold, and what is refused.

use std::io::Write as _;

use davit_archive::tar::{Entry, Kind as Type};
use davit_archive::write::Writer;

use super::*;

fn entry(kind: Type, path: &str, link: &str) -> Entry {
    Entry {
        kind,
        path: path.as_bytes().to_vec(),
        link: link.as_bytes().to_vec(),
        mode: 0o640,
        uid: 7,
        gid: 8,
        size: 0,
        modified: (1_000_000_000, 5),
        accessed: None,
        device: (0, 0),
        xattrs: vec![(b"user.a".to_vec(), b"b".to_vec())],
    }
}

/// An archive of entries; files hold their own path.
fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        let size = if entry.kind == Type::File { entry.path.len() as u64 } else { 0 };
        writer.entry(&Entry { size, ..entry.clone() }).unwrap();
        if size > 0 {
            writer.data(&entry.path).unwrap();
        }
    }
    writer.finish().unwrap()
}

struct Place {
    _folder: tempfile::TempDir,
    store: Store,
}

fn place_for_tests() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    Place { _folder: folder, store }
}

fn read(bytes: &[u8]) -> Result<Nodes, Error> {
    let place = place_for_tests();
    unpack(io::Cursor::new(bytes.to_vec()), &place.store, &Watched::default())
}

use std::io;

#[test]
fn everything_of_an_entry_is_kept() {
    let place = place_for_tests();
    let bytes = archive(&[
        entry(Type::Directory, "./d/", ""),
        entry(Type::File, "./d/f", ""),
        entry(Type::Hardlink, "./again", "d/f"),
        entry(Type::Symlink, "s", "../../etc/passwd"),
        Entry { device: (1, 3), ..entry(Type::Character, "null", "") },
        entry(Type::Fifo, "deep/er/fifo", ""),
        entry(Type::File, "/absolute", ""),
    ]);
    let nodes = unpack(io::Cursor::new(bytes), &place.store, &Watched::default()).unwrap();
    let names: Vec<&str> = nodes.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(names, ["absolute", "again", "d", "d/f", "deep", "deep/er", "deep/er/fifo", "null", "s"]);
    let file = &nodes[Path::new("d/f")];
    assert_eq!((file.mode, file.uid, file.gid, file.modified), (0o640, 7, 8, (1_000_000_000, 5)));
    assert_eq!(file.xattrs, [(b"user.a".to_vec(), b"b".to_vec())]);
    assert_eq!(nodes[Path::new("again")], *file);
    assert!(matches!(nodes[Path::new("absolute")].kind, Kind::File { number: None, .. }));
    let Kind::File { size: 5, digest: Some(digest), number: Some(_) } = &file.kind else {
        panic!("{file:?}")
    };
    let mut text = String::new();
    place.store.open_blob(digest).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "./d/f");
    assert_eq!(nodes[Path::new("s")].kind, Kind::Symlink("../../etc/passwd".into()));
    assert_eq!(nodes[Path::new("null")].kind, Kind::Other(Type::Character, (1, 3)));
    assert_eq!(nodes[Path::new("deep")], Node::implied());
}

#[test]
fn what_leads_out_or_contradicts_is_refused() {
    let file = |path: &str| entry(Type::File, path, "");
    for (entries, why) in [
        (vec![file("../x")], ".."),
        (vec![file("a/../../x")], ".."),
        (vec![entry(Type::Symlink, "l", "/etc"), file("l/passwd")], "no folder"),
        (vec![file("f"), file("f/x")], "no folder"),
        (vec![entry(Type::Hardlink, "x", "/etc/passwd")], "no earlier file"),
        (vec![entry(Type::Hardlink, "x", "../../etc/passwd")], ".."),
        (vec![entry(Type::Directory, "d/", ""), entry(Type::Hardlink, "x", "d")], "no earlier file"),
        (vec![entry(Type::Directory, "d/", ""), file("d")], "folder of the same archive"),
        (vec![entry(Type::Directory, "d/", ""), file("f"), entry(Type::Hardlink, "d", "f")], "folder"),
        (vec![entry(Type::Character, "gone", "")], "0:0"),
    ] {
        let error = read(&archive(&entries)).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("entry"), "{error}");
    }
    assert!(read(b"this is a text and no archive at all").is_err());
    let whole = archive(&[file("f")]);
    assert!(read(&whole[..700]).is_err());
}

#[test]
fn later_entries_hold() {
    let nodes = read(&archive(&[
        entry(Type::File, "x", ""),
        Entry { uid: 1, ..entry(Type::File, "x", "") },
        entry(Type::Symlink, "y", "x"),
        entry(Type::File, "y", ""),
    ]));
    let nodes = nodes.unwrap();
    assert_eq!(nodes[Path::new("x")].uid, 1);
    assert!(matches!(nodes[Path::new("y")].kind, Kind::File { .. }));
}

#[test]
fn archives_are_known_by_what_they_hold() {
    let bytes = archive(&[entry(Type::File, "f", "")]);
    assert!(is_archive(bytes.as_slice()));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    assert!(is_archive(gzip.finish().unwrap().as_slice()));
    // What is compressed and no archive, and what is called so.
    let mut text = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    text.write_all(b"only a text").unwrap();
    assert!(!is_archive(text.finish().unwrap().as_slice()));
    for none in [&b""[..], b"text", &[0; 1024], b"\x1f\x8b", b"BZh91AY&SY"] {
        assert!(!is_archive(none));
    }
}

#[test]
fn nobody_waits_for_ever() {
    let watch = Watch::default();
    let watched = watch.watched();
    drop(watch);
    let place = place_for_tests();
    let bytes = archive(&[entry(Type::File, "f", "")]);
    assert!(matches!(unpack(bytes.as_slice(), &place.store, &watched), Err(Error::Cancelled)));
}
