//! What is written is what is read: by our own reader, and by those of others.

use std::io::Read as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::tar::Reader;

fn file(path: &[u8], size: u64) -> Entry {
    Entry {
        kind: Kind::File,
        path: path.to_vec(),
        link: Vec::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        size,
        modified: (1_600_000_000, 0),
        accessed: None,
        device: (0, 0),
        xattrs: Vec::new(),
    }
}

fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.entry(entry).unwrap();
        writer.data(data).unwrap();
    }
    let length = writer.written();
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, (length.div_ceil(512) * 512) + 1024);
    bytes
}

fn read(bytes: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut reader = Reader::new(bytes, 1 << 20);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        loop {
            let part = reader.data().unwrap().to_vec();
            if part.is_empty() {
                break;
            }
            data.extend_from_slice(&part);
            reader.consume(part.len());
        }
        entries.push((entry, data));
    }
    entries
}

fn component() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=255_u8, 1..120).prop_map(|mut name| {
        name.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'_');
        name
    })
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(component(), 1..6).prop_map(|parts| parts.join(&b'/'))
}

fn time() -> impl Strategy<Value = (i64, u32)> {
    prop_oneof![
        (0..2_000_000_000_i64).prop_map(|s| (s, 0)),
        (-100_000_000_000..100_000_000_000_i64, 0..1_000_000_000_u32)
    ]
}

fn xattrs() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let names = prop::collection::btree_set("user\\.[a-z]{1,20}", 0..4);
    (names, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(names, value)| names.into_iter().map(|name| (name.into_bytes(), value.clone())).collect())
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![
        Kind::File,
        Kind::Hardlink,
        Kind::Symlink,
        Kind::Character,
        Kind::Block,
        Kind::Directory,
        Kind::Fifo,
    ])
}

fn entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let ids = (0..u32::MAX, 0..u32::MAX, 0..0o7777_u32);
    let device = (0..4096_u32, 0..1_048_576_u32);
    let data = prop::collection::vec(any::<u8>(), 0..2000);
    (kind(), path(), path(), ids, time(), device, xattrs(), data).prop_map(
        |(kind, path, link, (uid, gid, mode), modified, device, xattrs, data)| {
            let data = if kind == Kind::File { data } else { Vec::new() };
            let link = if matches!(kind, Kind::Hardlink | Kind::Symlink) { link } else { Vec::new() };
            let device = if matches!(kind, Kind::Character | Kind::Block) { device } else { (0, 0) };
            let size = data.len() as u64;
            let accessed = None;
            (Entry { kind, path, link, mode, uid, gid, size, modified, accessed, device, xattrs }, data)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_entry_comes_back(entries in prop::collection::vec(entry(), 0..6)) {
        let bytes = write(&entries);
        prop_assert_eq!(&bytes, &write(&entries), "the same entries make the same bytes");
        let back = read(&bytes);
        prop_assert_eq!(back.len(), entries.len());
        for ((mut entry, data), (told, wrote)) in back.into_iter().zip(entries) {
            if entry.kind == Kind::Directory {
                prop_assert_eq!(entry.path.pop(), Some(b'/'));
            }
            prop_assert_eq!(entry, told);
            prop_assert_eq!(data, wrote);
        }
    }
}

#[test]
fn sizes_beyond_eight_gibibytes_are_told() {
    for size in [OCTAL_SIZE_MAX, OCTAL_SIZE_MAX + 1, 1 << 40] {
        let mut writer = Writer::new(Vec::new());
        writer.entry(&file(b"big", size)).unwrap();
        let header = writer.output.clone();
        let entry = Reader::new(header.as_slice(), 1 << 20).next_entry().unwrap().unwrap();
        assert_eq!((entry.size, entry.path.as_slice()), (size, &b"big"[..]));
        assert!(writer.finish().is_err(), "its data is missing");
    }
}

#[test]
fn more_or_less_data_than_told_is_an_error() {
    let mut writer = Writer::new(Vec::new());
    writer.entry(&file(b"a", 3)).unwrap();
    writer.data(b"ab").unwrap();
    assert!(writer.entry(&file(b"b", 0)).is_err());
    assert!(writer.data(b"cd").is_err());
    let mut directory = file(b"d", 1);
    directory.kind = Kind::Directory;
    assert!(Writer::new(Vec::new()).entry(&directory).is_err());
}

/// What another program lists, or nothing where it is not installed.
fn listed(program: &str, arguments: &[&str], archive: &[u8]) -> Option<String> {
    let spawned = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        println!("skipped: no {program} here");
        return None;
    };
    child.stdin.take().unwrap().write_all(archive).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// One of each, with everything that ustar alone cannot say.
fn everything() -> Vec<(Entry, Vec<u8>)> {
    let long = [b"directory/".repeat(30), b"file".to_vec()].concat();
    let split = [b"d".repeat(90), b"/".to_vec(), b"f".repeat(90)].concat();
    let mut entries = vec![
        (file(b"plain", 5), b"hello".to_vec()),
        (file(&long, 3), b"abc".to_vec()),
        (file(&split, 0), Vec::new()),
        (file("na\u{ef}ve \u{2603}".as_bytes(), 1), b"x".to_vec()),
    ];
    let mut special = file(b"late", 2);
    (special.uid, special.gid, special.modified) = (3_000_000_000, 70_000_000, (1_600_000_000, 250_000_000));
    special.xattrs = vec![(b"user.note".to_vec(), b"a\0b\n=c".to_vec())];
    entries.push((special, b"zz".to_vec()));
    for (kind, path, link, device) in [
        (Kind::Directory, &b"dir"[..], &b""[..], (0, 0)),
        (Kind::Symlink, b"soft", &long[..], (0, 0)),
        (Kind::Hardlink, b"hard", b"plain", (0, 0)),
        (Kind::Character, b"null", b"", (1, 3)),
        (Kind::Fifo, b"pipe", b"", (0, 0)),
    ] {
        entries.push((Entry { kind, link: link.to_vec(), device, ..file(path, 0) }, Vec::new()));
    }
    entries
}

#[test]
fn gnu_tar_and_bsdtar_read_it() {
    let entries = everything();
    let names: String = entries
        .iter()
        .map(|(entry, _)| {
            let slash = if entry.kind == Kind::Directory { "/" } else { "" };
            format!("{}{slash}\n", String::from_utf8_lossy(&entry.path))
        })
        .collect();
    let archive = write(&entries);
    for (program, arguments) in
        [("tar", &["--quoting-style=literal", "-tf", "-"][..]), ("bsdtar", &["-tf", "-"])]
    {
        if let Some(list) = listed(program, arguments, &archive) {
            assert_eq!(list, names, "{program}");
        }
    }
    if let Some(list) =
        listed("tar", &["--numeric-owner", "--full-time", "-tvf", "-", "late", "null"], &archive)
    {
        assert!(list.contains("3000000000/70000000"), "{list}");
        assert!(list.contains("2020-09-13 12:26:40.25"), "{list}");
        assert!(list.contains("1,3"), "{list}");
    }
}

#[test]
fn python_reads_it_too() {
    let script = "import sys,tarfile,json,io
t=tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()))
print(json.dumps([[m.name,m.type.decode(),m.size,m.uid,m.mtime,m.linkname,m.pax_headers.get('SCHILY.xattr.user.note','')]
 for m in t.getmembers()]))";
    let entries = everything();
    let Some(list) = listed("python3", &["-c", script], &write(&entries)) else { return };
    for (entry, _) in &entries {
        let name = String::from_utf8_lossy(&entry.path);
        let escaped = name.replace('\u{ef}', "\\u00ef").replace('\u{2603}', "\\u2603");
        assert!(
            list.contains(&format!("[\"{escaped}\", \"{}\"", char::from(flag(entry.kind)))),
            "{name}: {list}"
        );
    }
    assert!(list.contains("\"late\", \"0\", 2, 3000000000, 1600000000.25"), "{list}");
    assert!(list.contains("a\\u0000b\\n=c"), "{list}");
}

#[test]
fn what_gnu_tar_writes_of_a_folder_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = "n".repeat(200);
    std::fs::write(folder.path().join(&long), "data").unwrap();
    std::os::unix::fs::symlink(&long, folder.path().join("link")).unwrap();
    for format in ["gnu", "pax", "ustar"] {
        let mut command = Command::new("tar");
        command.arg("-C").arg(folder.path()).args(["-c", "-f", "-", "--format", format, "."]);
        let Ok(mut child) = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else { return };
        let mut archive = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut archive).unwrap();
        child.wait().unwrap();
        if format != "ustar" {
            let names: Vec<_> = read(&archive).into_iter().map(|(entry, _)| entry.path).collect();
            assert!(names.contains(&[b"./", long.as_bytes()].concat()), "{format}: {names:?}");
        }
    }
}
