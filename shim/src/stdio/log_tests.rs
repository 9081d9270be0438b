//! Tests of the log: what is written can be read back, whatever the rotation.

use std::fs;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const STAMP: &str = "1970-01-01T00:00:00.000000000Z";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn read(folder: &Path, n: u32) -> String {
    let name = if n == 0 { FILE.to_owned() } else { format!("{FILE}.{n}") };
    fs::read_to_string(folder.join(name)).unwrap_or_default()
}

/// The bytes of one stream, from the oldest file to the youngest, as a reader puts them together.
fn replay(folder: &Path, stream: Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in (0..100).rev() {
        let name = if n == 0 { FILE.to_owned() } else { format!("{FILE}.{n}") };
        let Ok(content) = fs::read(folder.join(name)) else { continue };
        for entry in content.split_inclusive(|b| *b == b'\n') {
            let (stamp, rest) = entry.split_at(30);
            assert_eq!(stamp, STAMP.as_bytes());
            let Some(rest) = rest.strip_prefix(stream.tag()) else { continue };
            let (tag, text) = rest.split_at(2);
            let text = text.strip_suffix(b"\n").unwrap();
            bytes.extend_from_slice(text);
            if tag == b"F " {
                bytes.push(b'\n');
            }
        }
    }
    bytes
}

#[test]
fn entries_have_the_cri_format() {
    let dir = folder();
    let mut log = Log::open(dir.path().to_owned(), Limits::default());
    log.write(Stream::Stdout, b"one\ntwo", UNIX_EPOCH);
    log.write(Stream::Stderr, b"bad\n", UNIX_EPOCH);
    log.write(Stream::Stdout, b"\n\n", UNIX_EPOCH);
    let expected = format!(
        "{STAMP} stdout F one\n{STAMP} stdout P two\n{STAMP} stderr F bad\n{STAMP} stdout F \n{STAMP} stdout F \n"
    );
    assert_eq!(read(dir.path(), 0), expected);
    assert_eq!(replay(dir.path(), Stream::Stdout), b"one\ntwo\n\n");
}

#[test]
fn long_lines_come_in_parts() {
    let dir = folder();
    let mut log = Log::open(dir.path().to_owned(), Limits::default());
    let line = vec![b'x'; 3 * MAX_TEXT + 5];
    log.write(Stream::Stdout, &line, UNIX_EPOCH);
    log.write(Stream::Stdout, b"\n", UNIX_EPOCH);
    let text = read(dir.path(), 0);
    assert_eq!(text.matches(" stdout P ").count(), 4);
    assert_eq!(text.matches(" stdout F \n").count(), 1);
    assert!(text.lines().all(|line| line.len() <= MAX_TEXT + 40));
}

#[test]
fn rotation_keeps_so_many_files_of_such_a_size() {
    let dir = folder();
    let mut log = Log::open(dir.path().to_owned(), Limits { max_size: 1000, max_files: 3 });
    for n in 0..100 {
        log.write(Stream::Stdout, format!("line {n}\n").as_bytes(), UNIX_EPOCH);
    }
    let all: Vec<String> = (0..3).rev().map(|n| read(dir.path(), n)).collect();
    assert!(all.iter().all(|file| !file.is_empty() && file.len() <= 1000));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    let kept = all.concat();
    let first = 100 - kept.lines().count();
    for (n, line) in (first..100).zip(kept.lines()) {
        assert!(line.ends_with(&format!("line {n}")), "{line}");
    }
}

#[test]
fn a_follower_with_the_old_file_open_misses_nothing() {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;
    let dir = folder();
    let path = dir.path().join(FILE);
    let mut log = Log::open(dir.path().to_owned(), Limits { max_size: 300, max_files: 1 });
    let mut follower = File::open(&path).unwrap();
    let mut seen = String::new();
    for n in 0..50 {
        log.write(Stream::Stdout, format!("line {n}\n").as_bytes(), UNIX_EPOCH);
        if fs::metadata(&path).unwrap().ino() != follower.metadata().unwrap().ino() {
            follower.read_to_string(&mut seen).unwrap();
            follower = File::open(&path).unwrap();
        }
    }
    follower.read_to_string(&mut seen).unwrap();
    assert_eq!(seen.lines().count(), 50);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "one file was to be kept");
}

#[test]
fn what_a_full_disk_swallowed_is_told_of() {
    let dir = folder();
    std::os::unix::fs::symlink("/dev/full", dir.path().join(FILE)).unwrap();
    let mut log = Log::open(dir.path().to_owned(), Limits::default());
    log.write(Stream::Stdout, b"lost\n", UNIX_EPOCH);
    log.write(Stream::Stdout, b"too\n", UNIX_EPOCH);
    log.write(Stream::Stderr, b"bad\n", UNIX_EPOCH);
    fs::remove_file(dir.path().join(FILE)).unwrap();
    log.write(Stream::Stdout, b"back\n", UNIX_EPOCH);
    log.write(Stream::Stdout, b"again\n", UNIX_EPOCH);
    let text = read(dir.path(), 0);
    let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix(STAMP).unwrap()).collect();
    assert_eq!(
        lines,
        [
            " stdout F [davit: 9 bytes are missing here: no space left on device]",
            " stderr F [davit: 4 bytes are missing here: no space left on device]",
            " stdout F back",
            " stdout F again",
        ]
    );
}

#[test]
fn a_torn_entry_of_an_earlier_life_is_ended() {
    let dir = folder();
    fs::write(dir.path().join(FILE), "torn").unwrap();
    let mut log = Log::open(dir.path().to_owned(), Limits::default());
    log.write(Stream::Stdout, b"whole\n", UNIX_EPOCH);
    assert_eq!(read(dir.path(), 0), format!("torn\n{STAMP} stdout F whole\n"));
}

proptest! {
    // Each case makes and renames files by the hundred.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn streams_are_read_back_byte_for_byte(
        writes in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), 1_usize..40),
            1..12,
        ),
        max_size in 1_000_u64..8_000,
    ) {
        let dir = folder();
        let mut log = Log::open(dir.path().to_owned(), Limits { max_size, max_files: 99 });
        let mut said = [Vec::new(), Vec::new()];
        for (err, bytes, times) in writes {
            let stream = if err { Stream::Stderr } else { Stream::Stdout };
            let data = bytes.repeat(times);
            log.write(stream, &data, UNIX_EPOCH);
            said[stream.index()].extend(data);
        }
        if !dir.path().join(format!("{FILE}.98")).exists() {
            prop_assert_eq!(&replay(dir.path(), Stream::Stdout), &said[0]);
            prop_assert_eq!(&replay(dir.path(), Stream::Stderr), &said[1]);
        }
    }
}
