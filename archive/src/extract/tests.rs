//! Trees go there and back as they are, and no archive gets out of where it belongs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use davit_sys::file::open_dir;
use proptest::prelude::*;

use super::*;
use crate::fixture::{Archive, Header};
use crate::pack::{Source, pack};
use crate::write::Writer;

fn packed(path: &Path, name: &str) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let handle = Root::open(path).unwrap();
    let source = Source { handle: handle.into(), name: name.into(), skipped_dev: None };
    pack(source, None, &mut writer).unwrap();
    writer.finish().unwrap()
}

fn into(archive: &[u8], path: &Path) -> Result<Extracted, ExtractError> {
    extract(archive, open_dir(path).unwrap(), Owners::Kept(None), &Limits::default())
}

/// Everything that can be seen of a tree.
fn look(top: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut first = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(top).unwrap().to_string_lossy().into_owned();
            let content = if meta.is_file() {
                format!("{:?}", fs::read(&path).unwrap())
            } else if meta.is_symlink() {
                format!("{:?}", fs::read_link(&path).unwrap())
            } else {
                format!("{}", meta.rdev())
            };
            let same = if meta.nlink() > 1 && !meta.is_dir() {
                first.entry(meta.ino()).or_insert_with(|| name.clone()).clone()
            } else {
                String::new()
            };
            let time = (meta.mtime(), meta.mtime_nsec());
            let about = format!("{:o} {}:{} {time:?} {same} {content}", meta.mode(), meta.uid(), meta.gid());
            seen.insert(name, about);
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    seen
}

fn is_root() -> bool {
    let mine = tempfile::tempdir().unwrap();
    fs::metadata(mine.path()).unwrap().uid() == 0
}

/// What a random tree has at one name.
#[derive(Debug, Clone)]
enum Made {
    File(Vec<u8>, u32),
    Directory(u32),
    Link(String),
    Second(usize),
    Fifo,
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        4 => (prop::collection::vec(any::<u8>(), 0..9000), 0..0o7777_u32).prop_map(|(data, mode)| Made::File(data, mode)),
        2 => (0..0o7777_u32).prop_map(Made::Directory),
        1 => "[a-z/.]{1,40}".prop_map(Made::Link),
        1 => (0..20_usize).prop_map(Made::Second),
        1 => Just(Made::Fifo),
    ]
}

fn build(top: &Path, parts: &[(String, usize, Made)]) {
    let mut folders = vec![top.to_owned()];
    let mut files = Vec::new();
    let mut modes = Vec::new();
    for (name, at, made) in parts {
        let path = folders[at % folders.len()].join(name);
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match made {
            Made::File(data, mode) => {
                fs::write(&path, data).unwrap();
                modes.push((path.clone(), *mode));
                files.push(path);
            }
            Made::Directory(mode) => {
                fs::create_dir(&path).unwrap();
                modes.push((path.clone(), *mode | 0o700));
                folders.push(path);
            }
            Made::Link(target) => symlink(target, &path).unwrap(),
            Made::Second(n) => {
                if let Some(first) = files.get(n % files.len().max(1)) {
                    fs::hard_link(first, &path).unwrap();
                }
            }
            Made::Fifo => {
                let dir = open_dir(path.parent().unwrap()).unwrap();
                file::make_node_at(&dir, path.file_name().unwrap(), NodeKind::Fifo, 0o644).unwrap();
            }
        }
    }
    for (path, mode) in modes {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_tree_comes_back_as_it_was(
        parts in prop::collection::vec(("[a-zA-Z\u{e0}-\u{ff} ]{1,60}", 0..50_usize, made()), 0..40),
    ) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        build(from.path(), &parts);
        let archive = packed(from.path(), ".");
        into(&archive, to.path()).unwrap();
        prop_assert_eq!(look(from.path()), look(to.path()));
        // Once more over what is there: the same again.
        into(&archive, to.path()).unwrap();
        prop_assert_eq!(look(from.path()), look(to.path()));
    }
}

#[test]
fn attributes_devices_and_owners_are_kept() {
    if !is_root() {
        println!("skipped: needs root");
        return;
    }
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = open_dir(from.path()).unwrap();
    fs::write(from.path().join("f"), "x").unwrap();
    std::os::unix::fs::chown(from.path().join("f"), Some(70_000), Some(3_000_000_000)).unwrap();
    file::make_node_at(&dir, "null".as_ref(), NodeKind::Character { major: 1, minor: 3 }, 0o640).unwrap();
    let opened = file::open_at(&dir, "f".as_ref(), OFlags::RDONLY, 0).unwrap();
    let kept = file::set_xattr(&opened, "user.a".as_ref(), b"\0=\n").is_ok();
    into(&packed(from.path(), "."), to.path()).unwrap();
    assert_eq!(look(from.path()), look(to.path()));
    if kept {
        let there = open_dir(to.path()).unwrap();
        let there = file::open_at(&there, "f".as_ref(), OFlags::RDONLY, 0).unwrap();
        assert_eq!(file::xattrs(&there, |_| true).unwrap(), [(b"user.a".to_vec(), b"\0=\n".to_vec())]);
    }
    let fixed = tempfile::tempdir().unwrap();
    let archive = packed(from.path(), "named");
    extract(archive.as_slice(), open_dir(fixed.path()).unwrap(), Owners::Fixed(5, 6), &Limits::default())
        .unwrap();
    for name in ["named", "named/f", "named/null"] {
        let meta = fs::symlink_metadata(fixed.path().join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (5, 6), "{name}");
    }
}

/// An outer folder with a canary, and the place inside it that archives go to.
fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let top = outer.path().join("top");
    fs::create_dir(&top).unwrap();
    fs::write(outer.path().join("canary"), "sings").unwrap();
    (outer, top)
}

#[test]
fn no_archive_gets_out() {
    let archives = [
        ("up", Archive::default().file("../canary", b"x")),
        ("up inside", Archive::default().file("a/../../canary", b"x")),
        ("absolute", Archive::default().file("/tmp/davit-archive-test", b"x")),
        ("empty name", Archive::default().file("", b"x")),
        ("through its own link", Archive::default().symlink("l", "..").file("l/canary", b"x")),
        ("through an absolute link", Archive::default().symlink("l", "/tmp").file("l/canary", b"x")),
        ("directory through a link", Archive::default().symlink("l", "..").dir("l/made", 0o755)),
        ("directory over a link", Archive::default().symlink("l", "..").dir("l", 0o777)),
        ("hard link out", Archive::default().hardlink("h", "../canary").file("h", b"x")),
        ("hard link to an absolute name", Archive::default().hardlink("h", "/etc/passwd")),
        ("hard link through a link", Archive::default().symlink("l", "..").hardlink("h", "l/canary")),
        ("root is a link", Archive::default().symlink(".", "..")),
        (
            "fifo through a link",
            Archive::default()
                .symlink("l", "..")
                .entry(&Header { name: "l/p", flag: b'6', ..Header::default() }, b""),
        ),
    ];
    for (what, archive) in archives {
        let (outer, top) = place();
        let before = fs::symlink_metadata(outer.path().join("canary")).unwrap();
        assert!(into(&archive.end(), &top).is_err(), "{what} was extracted");
        let after = fs::symlink_metadata(outer.path().join("canary")).unwrap();
        assert_eq!((before.ctime(), before.ctime_nsec()), (after.ctime(), after.ctime_nsec()), "{what}");
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2, "{what}");
        for left in fs::read_dir(&top).unwrap() {
            let name = left.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with(".davit-cp"), "{what} leaves {name}");
        }
    }
}

#[test]
fn links_that_are_there_are_replaced_and_not_followed() {
    let (outer, top) = place();
    symlink("../canary", top.join("f")).unwrap();
    fs::hard_link(outer.path().join("canary"), top.join("h")).unwrap();
    into(&Archive::default().file("f", b"mine").file("h", b"mine").end(), &top).unwrap();
    assert_eq!(fs::read_to_string(outer.path().join("canary")).unwrap(), "sings");
    assert!(top.join("f").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(top.join("h")).unwrap(), "mine");
    // A link stays where it leads, and its target's metadata stays too.
    let before = fs::metadata(outer.path()).unwrap().mode();
    into(&Archive::default().symlink("l", "..").end(), &top).unwrap();
    assert!(into(&Archive::default().dir("l", 0o777).end(), &top).is_err());
    assert_eq!(fs::metadata(outer.path()).unwrap().mode(), before);
}

#[test]
fn directories_and_files_do_not_take_each_others_place() {
    let (_outer, top) = place();
    fs::create_dir(top.join("d")).unwrap();
    fs::write(top.join("f"), "").unwrap();
    let over = |archive: Archive| into(&archive.end(), &top).unwrap_err().to_string();
    let error = into(&Archive::default().file("d", b"x").end(), &top).unwrap_err();
    assert!(matches!(error.problem(), Problem::OverDirectory), "{error:?}");
    let error = into(&Archive::default().symlink("d", "x").end(), &top).unwrap_err();
    assert!(matches!(error.problem(), Problem::OverDirectory), "{error:?}");
    let error = into(&Archive::default().dir("f", 0o755).end(), &top).unwrap_err();
    assert!(matches!(error.problem(), Problem::OverFile), "{error:?}");
    assert_eq!(over(Archive::default().file("d", b"x")), "extract entry \"d\"");
    into(&Archive::default().dir("d", 0o700).file("d/new/x", b"x").end(), &top).unwrap();
    assert!(top.join("d/new/x").exists(), "missing directories are made");
}

#[test]
fn limits_have_names() {
    let (_outer, top) = place();
    let limited = |limits: Limits, archive: Archive| {
        let bytes = archive.end();
        let error = extract(bytes.as_slice(), open_dir(&top).unwrap(), Owners::Caller, &limits).unwrap_err();
        error.problem().to_string()
    };
    let entries = Limits { entries: 1, ..Limits::default() };
    let two = Archive::default().file("a", b"").file("b", b"");
    assert_eq!(limited(entries, two), "limit reached: number of entries is more than 1");
    let names = Limits { directory_bytes: 10, ..Limits::default() };
    let folder = Archive::default().dir("d", 0o755);
    assert_eq!(limited(names, folder), "limit reached: bytes of directory names is more than 10");
    let headers = Limits { header_bytes: 10, ..Limits::default() };
    let long = Archive::default().pax(&[("comment", b"0123456789")]).file("a", b"");
    assert_eq!(limited(headers, long), "extended headers of more than 10 bytes");
    let range = crate::owner::IdRange { uid: 1, gid: 1, count: 10 };
    let foreign =
        Archive::default().entry(&Header { name: "f", owner: (10, 0), ..Header::default() }, b"").end();
    let error =
        extract(foreign.as_slice(), open_dir(&top).unwrap(), Owners::Kept(Some(range)), &Limits::default());
    assert_eq!(error.unwrap_err().problem().to_string(), "owner 10:0 is none of the container's");
}

#[test]
fn a_cut_archive_leaves_no_half_file() {
    let (_outer, top) = place();
    let whole = Archive::default().file("a", &[1; 5000]).file("b", &[2; 5000]).end();
    for cut in [600, 5000, 6200, 9000] {
        assert!(into(&whole[..cut], &top).is_err(), "{cut}");
        for left in fs::read_dir(&top).unwrap() {
            assert_eq!(left.unwrap().metadata().unwrap().len(), 5000, "cut at {cut}");
        }
    }
}

#[test]
fn holes_stay_holes() {
    let (_outer, top) = place();
    let from = tempfile::tempdir().unwrap();
    let sparse = File::create(from.path().join("f")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    into(&packed(from.path(), "."), &top).unwrap();
    let made = fs::metadata(top.join("f")).unwrap();
    assert_eq!(made.len(), 50 << 20);
    assert!(made.blocks() * 512 < 1 << 20, "{} blocks", made.blocks());
}

#[test]
fn interfaces_of_the_kernel_are_not_entered() {
    let mut writer = Writer::new(Vec::new());
    let handle = Root::open(Path::new("/proc")).unwrap();
    let source = Source { handle: handle.into(), name: b"proc".to_vec(), skipped_dev: None };
    assert_eq!(pack(source, None, &mut writer).unwrap(), 1, "the directory alone");
    let error = into(&Archive::default().file("f", b"x").end(), Path::new("/proc/self")).unwrap_err();
    assert!(matches!(error.problem(), Problem::Kernel), "{error:?}");
}
