//! An archive never writes outside the folder that it is extracted to, and what it made there can be packed again.
#![no_main]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use davit_archive::extract::Limits;
use davit_archive::write::Writer;
use davit_archive::{Owners, Source, extract, pack};
use davit_sys::file::{Root, open_dir};
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 512;
const CANARY: &str = "sings";

fuzz_target!(|input: &[u8]| {
    let limits = Limits { entries: 200, header_bytes: 64 << 10, directory_bytes: 64 << 10 };
    let outer = tempfile::tempdir_in(folder()).expect("a temporary folder");
    let (root, canary) = (outer.path().join("root"), outer.path().join("canary"));
    fs::create_dir(&root).expect("the folder");
    fs::write(&canary, CANARY).expect("the canary");
    let before = state(&canary);
    let archive = with_checksums(input);
    let opened = open_dir(&root).expect("the folder is there");
    // Most inputs are refused, which is as good as being extracted.
    let _ = extract(archive.as_slice(), opened, Owners::Kept(None), &limits);
    let mut writer = Writer::new(Vec::new());
    let handle = Root::open(&root).expect("the folder is there").into();
    let source = Source { handle, name: b".".to_vec(), skipped_dev: None };
    pack(source, None, &mut writer).expect("what was extracted can be packed");
    let again = writer.finish().expect("memory takes everything");
    let copy = outer.path().join("copy");
    fs::create_dir(&copy).expect("a second folder");
    let opened = open_dir(&copy).expect("the folder is there");
    extract(again.as_slice(), opened, Owners::Kept(None), &Limits::default())
        .expect("what was packed is an archive");
    assert_eq!(state(&canary), before, "the canary was touched");
    assert_eq!(fs::read_to_string(&canary).expect("the canary"), CANARY);
    assert_eq!(
        fs::read_dir(outer.path()).expect("the outer folder").count(),
        3,
        "something new beside the root"
    );
});

/// Memory, where there is some, for the file system is most of the time.
fn folder() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

fn state(path: &Path) -> (u64, u64, u32, u32, u32, i64, i64) {
    let meta = fs::symlink_metadata(path).expect("the canary");
    (meta.ino(), meta.nlink(), meta.mode(), meta.uid(), meta.gid(), meta.mtime_nsec(), meta.ctime_nsec())
}

/// Gives each header the checksum that it should have, so that what lies behind the check is reached.
fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut archive = input.to_vec();
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + BLOCK) {
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = header[124..135].iter().take_while(|byte| (b'0'..=b'7').contains(*byte));
        let size = size.fold(0_usize, |size, digit| (size << 3).saturating_add(usize::from(digit - b'0')));
        at = at.saturating_add(size.min(archive.len()).next_multiple_of(BLOCK));
    }
    archive
}
