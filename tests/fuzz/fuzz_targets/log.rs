//! A log's files as a shim leaves them, or a crash, or another writer: read whole, from the end, in a span of time and
//! while they grow, the same lines come, each once and in bounded pieces.
#![no_main]

#[path = "../../../controller/src/container/logs/entry.rs"]
mod entry;
#[path = "../../../controller/src/container/logs/file.rs"]
mod file;
#[path = "../../../controller/src/container/logs/reader.rs"]
mod reader;
#[path = "../../../controller/src/container/logs/tail.rs"]
mod tail;

use std::fs;
use std::path::Path;

use davit_proto::container::LogLine;
use davit_proto::types::Stdio;
use entry::{Entry, Times};
use libfuzzer_sys::fuzz_target;
use reader::{Reader, Wanted};

/// Bytes of the lines of one frame, and of the longest line with its time.
const FRAME: usize = 64 << 10;

// How many lines from the end, which files of the log the rest is cut into, and the rest.
fuzz_target!(|input: (u8, u8, i8, &[u8])| {
    let (lines, cut, since, bytes) = input;
    let folder = tempfile::tempdir_in(memory()).expect("a temporary folder");
    let folder = folder.path();
    lay(folder, usize::from(cut), bytes);
    let all = Wanted { stdout: true, stderr: true, since: None, until: None };
    remember(bytes);
    let whole = read(folder, &all, None, false);
    assert_eq!(read(folder, &all, None, true), whole, "following, up to now");
    let end = read(folder, &all, Some(u64::from(lines)), false);
    assert!(whole.ends_with(&end), "a tail is the end of the whole");
    assert!(ends(&end) <= usize::from(lines), "of so many lines at most");
    assert_eq!(read(folder, &all, Some(u64::MAX), false), whole, "and of all lines it is the whole");

    let at = |line: &LogLine| entry::moment(line.at.as_ref().expect("each line has a time"));
    let (seconds, nanos) = whole.first().map_or((0, 0), at);
    let since = Some((seconds.saturating_add(since.into()), nanos));
    let until = since.map(|(seconds, nanos)| (seconds.saturating_add(3), nanos));
    let span = Wanted { stdout: cut & 1 == 0, stderr: cut & 2 == 0, since, until };
    let wanted = |line: &&LogLine| {
        let stream = if line.stream() == Stdio::Stderr { span.stderr } else { span.stdout };
        stream
            && span.since.is_some_and(|since| at(line) >= since)
            && span.until.is_some_and(|until| at(line) < until)
    };
    let shown = read(folder, &span, None, false);
    assert_eq!(shown, whole.iter().filter(wanted).cloned().collect::<Vec<_>>(), "all of a span, and no more");
});

/// Whoever remembers the last second reads the same times as who does not.
fn remember(bytes: &[u8]) {
    let mut times = Times::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        assert_eq!(Entry::parse(line, &mut times), Entry::parse(line, &mut Times::default()));
    }
}

/// The files of a log: up to three, the older ones first.
fn lay(folder: &Path, cut: usize, bytes: &[u8]) {
    let (old, rest) = bytes.split_at((cut / 16 * bytes.len() / 16).min(bytes.len()));
    let (older, young) = rest.split_at((cut % 16 * rest.len() / 16).min(rest.len()));
    for (name, bytes) in [("stdio.log.2", old), ("stdio.log.1", older), ("stdio.log", young)] {
        if !bytes.is_empty() {
            fs::write(folder.join(name), bytes).expect("a file of the log");
        }
    }
}

fn read(folder: &Path, wanted: &Wanted, tail: Option<u64>, follow: bool) -> Vec<LogLine> {
    let mut reader =
        Reader::open(folder.to_owned(), wanted.clone(), tail, follow).expect("the files are there");
    let mut lines = Vec::new();
    loop {
        let some = reader.read().expect("the files are there");
        if some.is_empty() {
            return lines;
        }
        let bytes = some.iter().map(|line| line.data.len()).sum::<usize>();
        assert!(bytes <= FRAME + reader::LONGEST, "a frame is bounded: {bytes}");
        lines.extend(some);
    }
}

/// Lines that end.
fn ends(lines: &[LogLine]) -> usize {
    lines.iter().filter(|line| line.data.ends_with(b"\n")).count()
}

/// Memory, where there is some, for the file system is most of the time.
fn memory() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}
