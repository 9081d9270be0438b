//! Logs as a shim writes and rotates them, read whole, from the end, and while they grow.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use davit_proto::container::LogLine;
use proptest::prelude::*;

use super::*;

fn all() -> Wanted {
    Wanted { stdout: true, stderr: true, since: None, until: None, joined: false }
}

fn stamp(second: usize) -> String {
    format!("2026-11-20T22:{:02}:{:02}.5Z", second / 60 % 60, second % 60)
}

fn at(second: usize) -> Moment {
    let at = stamp(second).parse::<jiff::Timestamp>().unwrap();
    (at.as_second(), at.subsec_nanosecond())
}

/// Lines numbered from `first` on, one a second, every third one on standard error.
fn numbered(first: usize, count: usize) -> String {
    (first..first + count).fold(String::new(), |mut text, n| {
        let stream = if n % 3 == 2 { "stderr" } else { "stdout" };
        writeln!(text, "{} {stream} F line {n}", stamp(n)).unwrap();
        text
    })
}

/// A log of 30 lines in three files.
fn three_files(folder: &Path) {
    fs::write(folder.join("stdio.log.2"), numbered(0, 10)).unwrap();
    fs::write(folder.join("stdio.log.1"), numbered(10, 10)).unwrap();
    fs::write(folder.join("stdio.log"), numbered(20, 10)).unwrap();
    fs::write(folder.join("stdio.log.old"), "no piece of it\n").unwrap();
}

fn drain(reader: &mut Reader) -> String {
    let mut text = String::new();
    loop {
        let lines = reader.read().unwrap();
        if lines.is_empty() {
            return text;
        }
        for line in lines {
            text.push_str(&String::from_utf8_lossy(&line.data));
        }
    }
}

#[test]
fn what_was_written_at_once_may_come_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for n in 0..2000 {
        let stream = if n % 100 == 99 { "stderr" } else { "stdout" };
        let tag = if n % 7 == 3 { "P" } else { "F" };
        writeln!(text, "{} {stream} {tag} line {n}", stamp(n / 500)).unwrap();
    }
    fs::write(folder.path().join("stdio.log"), text).unwrap();
    let read = |joined| {
        let wanted = Wanted { joined, ..all() };
        let mut reader = Reader::open(folder.path().to_owned(), wanted, None, false).unwrap();
        let mut lines = Vec::new();
        loop {
            let more = reader.read().unwrap();
            if more.is_empty() {
                return lines;
            }
            lines.extend(more);
        }
    };
    let (each, joined) = (read(false), read(true));
    assert_eq!(each.len(), 2000);
    assert!(joined.len() < 60, "{}", joined.len());
    let spelt = |lines: &[LogLine]| {
        let byte = |line: &LogLine| line.data.iter().map(|&b| (line.stream, line.at, b)).collect::<Vec<_>>();
        lines.iter().flat_map(byte).collect::<Vec<_>>()
    };
    assert!(spelt(&each) == spelt(&joined), "the same bytes, of the same streams and moments");
}

fn read(folder: &Path, wanted: Wanted, tail: Option<u64>) -> Vec<usize> {
    let text = drain(&mut Reader::open(folder.to_owned(), wanted, tail, false).unwrap());
    text.lines().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect()
}

#[test]
fn all_files_are_read_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read(folder.path(), all(), None).is_empty(), "no log yet");
    three_files(folder.path());
    assert_eq!(read(folder.path(), all(), None), (0..30).collect::<Vec<_>>());
    let errors = Wanted { stdout: false, ..all() };
    assert_eq!(read(folder.path(), errors, None), (0..30).filter(|n| n % 3 == 2).collect::<Vec<_>>());
}

#[test]
fn tail_since_and_until_cut_where_they_say() {
    let folder = tempfile::tempdir().unwrap();
    three_files(folder.path());
    let path = folder.path();
    for tail in [0, 1, 5, 10, 15, 30, 31, u64::MAX] {
        let first = 30 - usize::try_from(tail.min(30)).unwrap();
        assert_eq!(read(path, all(), Some(tail)), (first..30).collect::<Vec<_>>(), "tail {tail}");
    }
    let span = Wanted { since: Some(at(7)), until: Some(at(23)), ..all() };
    assert_eq!(read(path, span.clone(), None), (7..23).collect::<Vec<_>>());
    assert_eq!(read(path, span.clone(), Some(3)), [20, 21, 22]);
    assert_eq!(read(path, span, Some(100)), (7..23).collect::<Vec<_>>());
    let errors = Wanted { stdout: false, ..all() };
    assert_eq!(read(path, errors, Some(2)), [26, 29]);
}

#[test]
fn long_lines_come_in_parts_and_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let part = "x".repeat(16 << 10);
    let mut text = numbered(0, 3);
    writeln!(text, "{} stdout P {part}", stamp(3)).unwrap();
    writeln!(text, "{} stdout P {part}", stamp(3)).unwrap();
    writeln!(text, "{} stdout F end", stamp(3)).unwrap();
    writeln!(text, "{} stdout P no newline", stamp(4)).unwrap();
    fs::write(folder.path().join("stdio.log"), text).unwrap();
    let tail = |lines| drain(&mut Reader::open(folder.path().to_owned(), all(), Some(lines), false).unwrap());
    assert_eq!(tail(1), "no newline");
    assert_eq!(tail(2), format!("{part}{part}end\nno newline"));
    assert_eq!(tail(3), format!("line 2\n{part}{part}end\nno newline"));
}

#[test]
fn what_is_no_entry_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = b"garbage\n\n\xff\xfe\n2026-11-20T22:00\n".to_vec();
    bytes.extend_from_slice(numbered(0, 1).as_bytes());
    bytes.extend_from_slice(&vec![b'z'; 400 << 10]);
    bytes.push(b'\n');
    bytes.extend_from_slice(numbered(1, 1).as_bytes());
    bytes.extend_from_slice(b"2026-11-20T22:00:00Z stdout F cut o");
    fs::write(folder.path().join("stdio.log"), bytes).unwrap();
    assert_eq!(read(folder.path(), all(), None), [0, 1]);
    for tail in 0..4 {
        assert_eq!(read(folder.path(), all(), Some(tail)).len() as u64, tail.min(2));
    }
}

#[test]
fn a_log_that_grows_ends_where_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdio.log");
    fs::write(&path, numbered(0, 5)).unwrap();
    let mut reader = Reader::open(folder.path().to_owned(), all(), None, false).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(numbered(5, 5).as_bytes()).unwrap();
    assert_eq!(drain(&mut reader).lines().count(), 5);
}

/// What the shim does: every file one number up, the one too many dropped.
fn rotate(folder: &Path, kept: usize) {
    let name = |n: usize| folder.join(if n == 0 { "stdio.log".into() } else { format!("stdio.log.{n}") });
    for n in (1..kept).rev() {
        let _ = fs::rename(name(n), name(n + 1));
    }
    fs::rename(name(0), name(1)).unwrap();
    fs::write(name(0), "").unwrap();
}

fn append(folder: &Path, text: &str) {
    let path = folder.join("stdio.log");
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Steps of a writer (lines, halves of lines, rotations) and a follower that looks now and then, but
    /// not so seldom that files go which it never saw: nothing is lost, nothing comes twice.
    #[test]
    fn a_follower_loses_and_doubles_nothing(steps in proptest::collection::vec(0_u8..6, 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = Reader::open(folder.path().to_owned(), all(), None, true).unwrap();
        let (mut written, mut seen, mut rotations) = (0, String::new(), 0);
        for step in steps {
            match step {
                0 | 1 => {
                    append(folder.path(), &numbered(written, 7));
                    written += 7;
                }
                2 => {
                    let line = numbered(written, 1);
                    let (half, rest) = line.split_at(line.len() / 2);
                    append(folder.path(), half);
                    seen.push_str(&drain(&mut reader));
                    rotations = 0;
                    append(folder.path(), rest);
                    written += 1;
                }
                3 if written > 0 && rotations < 2 => {
                    rotate(folder.path(), 2);
                    rotations += 1;
                }
                _ => {
                    seen.push_str(&drain(&mut reader));
                    rotations = 0;
                }
            }
        }
        seen.push_str(&drain(&mut reader));
        let wanted: String = (0..written).map(|n| format!("line {n}\n")).collect();
        prop_assert_eq!(seen, wanted);
    }

    #[test]
    fn any_bytes_can_be_read_and_tailed(bytes in proptest::collection::vec(any::<u8>(), 0..3000), tail in 0_u64..5) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stdio.log"), bytes).unwrap();
        drain(&mut Reader::open(folder.path().to_owned(), all(), Some(tail), false).unwrap());
        drain(&mut Reader::open(folder.path().to_owned(), all(), None, true).unwrap());
    }

    /// The tail is always the end of the whole.
    #[test]
    fn a_tail_is_the_end_of_the_whole(count in 0_usize..3000, tail in 0_u64..3000) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stdio.log"), numbered(0, count)).unwrap();
        let first = count.saturating_sub(usize::try_from(tail).unwrap());
        prop_assert_eq!(read(folder.path(), all(), Some(tail)), (first..count).collect::<Vec<_>>());
    }
}
