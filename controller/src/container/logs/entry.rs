//! One line of a log file: `2026-11-20T22:00:00.123456789Z stdout F text`.

use davit_proto::container::LogLine;
use davit_proto::types::Stdio;
use prost_types::Timestamp;

/// An entry, borrowed from the file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it was written, in nanoseconds since 1970.
    pub at: i128,
    /// Which stream wrote it.
    pub stream: Stdio,
    /// It ends a line; else the line goes on in the stream's next entry.
    pub ends_line: bool,
    /// The text, without a newline.
    pub text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads a line without its newline. `None` for what is no entry, such as what a shim that was killed
    /// left half written.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (at, rest) = word(line)?;
        let (stream, rest) = word(rest)?;
        // The text may be empty, and then some writers leave out the space before it.
        let (tags, text) = word(rest).unwrap_or((rest, b""));
        let at = std::str::from_utf8(at).ok()?.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
        let stream = match stream {
            b"stdout" => Stdio::Stdout,
            b"stderr" => Stdio::Stderr,
            _ => return None,
        };
        let ends_line = match tags.split(|b| *b == b':').next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Self { at, stream, ends_line, text })
    }

    /// The entry as a client gets it.
    #[must_use]
    pub fn to_line(&self) -> LogLine {
        let mut data = Vec::with_capacity(self.text.len() + 1);
        data.extend_from_slice(self.text);
        if self.ends_line {
            data.push(b'\n');
        }
        LogLine { stream: self.stream.into(), at: Some(timestamp(self.at)), data }
    }
}

fn word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(|b| *b == b' ')?;
    Some((line.get(..end)?, line.get(end + 1..)?))
}

fn timestamp(nanoseconds: i128) -> Timestamp {
    let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).unwrap_or(i64::MAX);
    let nanos = i32::try_from(nanoseconds.rem_euclid(1_000_000_000)).unwrap_or_default();
    Timestamp { seconds, nanos }
}

/// A protobuf timestamp in nanoseconds since 1970.
#[must_use]
pub fn nanoseconds(at: &Timestamp) -> i128 {
    i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_are_read_with_time_stream_and_tag() {
        let entry = Entry::parse(b"2026-11-20T22:00:00.123456789Z stdout F a b ").unwrap();
        assert_eq!((entry.stream, entry.ends_line, entry.text), (Stdio::Stdout, true, &b"a b "[..]));
        let line = entry.to_line();
        assert_eq!(line.data, b"a b \n");
        assert_eq!(line.at.unwrap().nanos, 123_456_789);
        let part = Entry::parse(b"2026-11-20T22:00:00Z stderr P \xff").unwrap();
        assert_eq!((part.stream, part.to_line().data), (Stdio::Stderr, b"\xff".to_vec()));
        assert_eq!(Entry::parse(b"2026-11-20T22:00:00Z stdout F").unwrap().to_line().data, b"\n");
        assert!(Entry::parse(b"2026-11-20T22:00:00+01:00 stdout P:x t").is_some());
    }

    #[test]
    fn times_survive_both_ways() {
        for at in [0_i128, 1, -1, 1_763_676_000_123_456_789] {
            assert_eq!(nanoseconds(&timestamp(at)), at);
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entry::parse(&line);
        }

        #[test]
        fn near_entries_never_panic(line in "(2026-11-20T22:00:00(\\.[0-9]{0,12})?Z)? ?(stdout|stderr|x)? ?[PFX:]{0,3} ?.{0,10}") {
            if let Some(entry) = Entry::parse(line.as_bytes()) {
                prop_assert!(line.as_bytes().ends_with(entry.text));
            }
        }
    }
}
