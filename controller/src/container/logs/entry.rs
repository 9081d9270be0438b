//! One line of a log file: `2026-11-20T22:00:00.123456789Z stdout F text`.

use bytes::Bytes;
use davit_proto::container::LogLine;
use davit_proto::types::Stdio;
use prost_types::Timestamp;

const NANOS_A_SECOND: i64 = 1_000_000_000;

/// A point in time: seconds since 1970, and nanoseconds after that, fewer than a second has.
pub type Moment = (i64, i32);

/// Reads times; remembers the last second, since most lines of a burst share it.
#[derive(Debug, Default)]
pub struct Times {
    text: Vec<u8>,
    second: i64,
}

impl Times {
    fn read(&mut self, text: &[u8]) -> Option<Moment> {
        let (second, fraction) = text.split_at_checked("2026-11-20T22:00:00".len())?;
        if second == self.text
            && let Some(nanos) = nanoseconds(fraction)
        {
            return Some((self.second, nanos));
        }
        let read = std::str::from_utf8(text).ok()?.parse::<jiff::Timestamp>().ok()?;
        let at = moment(&Timestamp { seconds: read.as_second(), nanos: read.subsec_nanosecond() });
        if nanoseconds(fraction) == Some(at.1) {
            second.clone_into(&mut self.text);
            self.second = at.0;
        }
        Some(at)
    }
}

/// `.123456789Z`, as every entry of a shim's has it.
fn nanoseconds(fraction: &[u8]) -> Option<i32> {
    let digits: &[u8; 9] = fraction.strip_prefix(b".")?.strip_suffix(b"Z")?.try_into().ok()?;
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0')))
}

/// An entry, borrowed from the file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it was written.
    pub at: Moment,
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
    pub fn parse(line: &'a [u8], times: &mut Times) -> Option<Self> {
        let (at, rest) = word(line)?;
        let (stream, rest) = word(rest)?;
        // The text may be empty, and then some writers leave out the space before it.
        let (tags, text) = word(rest).unwrap_or((rest, b""));
        let at = times.read(at)?;
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

    /// The entry as a client gets it. `bytes` are those that it was read from, with the newline behind it: it shares
    /// them.
    #[must_use]
    pub fn to_line(&self, bytes: &Bytes) -> LogLine {
        let end = bytes.len() - usize::from(!self.ends_line);
        let data = bytes.slice(bytes.len() - 1 - self.text.len()..end);
        LogLine { stream: self.stream.into(), at: Some(timestamp(self.at)), data }
    }
}

fn word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b' ', line)?;
    Some((line.get(..end)?, line.get(end + 1..)?))
}

/// A moment as a client gets it.
#[must_use]
pub fn timestamp((seconds, nanos): Moment) -> Timestamp {
    Timestamp { seconds, nanos }
}

/// A protobuf timestamp as a moment, whatever its nanoseconds are.
#[must_use]
pub fn moment(at: &Timestamp) -> Moment {
    let nanos = i64::from(at.nanos);
    let seconds = at.seconds.saturating_add(nanos.div_euclid(NANOS_A_SECOND));
    (seconds, i32::try_from(nanos.rem_euclid(NANOS_A_SECOND)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &[u8]) -> Option<Entry<'_>> {
        Entry::parse(line, &mut Times::default())
    }

    fn line_of(line: &[u8]) -> LogLine {
        parse(line).unwrap().to_line(&[line, b"\n"].concat().into())
    }

    #[test]
    fn entries_are_read_with_time_stream_and_tag() {
        let bytes = b"2026-11-20T22:00:00.123456789Z stdout F a b ";
        let entry = parse(bytes).unwrap();
        assert_eq!((entry.stream, entry.ends_line, entry.text), (Stdio::Stdout, true, &b"a b "[..]));
        let line = line_of(bytes);
        assert_eq!(line.data, "a b \n");
        assert_eq!(line.at.unwrap().nanos, 123_456_789);
        let part = b"2026-11-20T22:00:00Z stderr P \xff";
        assert_eq!(
            (parse(part).unwrap().stream, line_of(part).data),
            (Stdio::Stderr, Bytes::from_static(b"\xff"))
        );
        assert_eq!(line_of(b"2026-11-20T22:00:00Z stdout F").data, "\n");
        assert_eq!(line_of(b"2026-11-20T22:00:00Z stdout P").data, "");
        assert!(parse(b"2026-11-20T22:00:00+01:00 stdout P:x t").is_some());
    }

    #[test]
    fn times_survive_both_ways() {
        for at in [(0, 0), (0, 1), (-1, 999_999_999), (1_763_676_000, 123_456_789)] {
            assert_eq!(moment(&timestamp(at)), at);
        }
        assert_eq!(moment(&Timestamp { seconds: 3, nanos: -1 }), (2, 999_999_999));
        assert_eq!(moment(&Timestamp { seconds: 3, nanos: 2_000_000_001 }), (5, 1));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
        }

        #[test]
        fn near_entries_never_panic(line in "(2026-11-20T22:00:00(\\.[0-9]{0,12})?Z)? ?(stdout|stderr|x)? ?[PFX:]{0,3} ?.{0,10}") {
            if let Some(entry) = parse(line.as_bytes()) {
                prop_assert!(line.as_bytes().ends_with(entry.text));
                let data = entry.to_line(&[line.as_bytes(), b"\n"].concat().into()).data;
                prop_assert_eq!(data.strip_suffix(b"\n").unwrap_or(&data), entry.text);
            }
        }

        #[test]
        fn one_reader_of_many_times_agrees_with_one_of_each(
            times in proptest::collection::vec("2026-11-20T2[23]:00:0[0-9](\\.[0-9]{0,9})?(Z|[+]01:00|x)", 1..20),
        ) {
            let mut shared = Times::default();
            for text in times {
                let alone = text.parse::<jiff::Timestamp>().ok();
                let alone = alone.map(|at| (at.as_second(), at.subsec_nanosecond()));
                prop_assert_eq!(shared.read(text.as_bytes()), alone);
            }
        }
    }
}
