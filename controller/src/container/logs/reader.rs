//! Reads a log forwards from a place in it, across rotations, a bounded piece at a time.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use davit_proto::container::LogLine;
use davit_proto::types::Stdio;

use super::entry::{Entry, Moment, Times, timestamp};
use super::file::{self, Piece};
use super::tail;

/// Bytes read from a file at once. What they hold is one frame: together with the beginning of a line that was read
/// before, it has no more than 64 KiB of data.
const BLOCK: usize = 48 << 10;
/// Longest line that can be an entry; what is longer is skipped whole.
pub const LONGEST: usize = 128 << 10;

/// Which entries are wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// At or after this time.
    pub since: Option<Moment>,
    /// Before this time.
    pub until: Option<Moment>,
    /// What a stream wrote at one moment comes as one line.
    pub joined: bool,
}

impl Wanted {
    /// Whether an entry is wanted.
    #[must_use]
    pub fn takes(&self, entry: &Entry<'_>) -> bool {
        let stream = match entry.stream {
            Stdio::Stdout => self.stdout,
            Stdio::Stderr => self.stderr,
            Stdio::Stdin | Stdio::Unspecified => false,
        };
        stream
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
    }
}

/// A file being read.
#[derive(Debug)]
struct Place {
    piece: Piece,
    position: u64,
    /// Where to stop; absent for wherever it ends.
    end: Option<u64>,
}

/// A log being read.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    wanted: Wanted,
    follow: bool,
    /// Files to read, the present one first.
    places: VecDeque<Place>,
    /// The last file that was read to its end, as long as it is the youngest known.
    last: Option<Place>,
    /// Bytes of a line whose end was not read yet.
    rest: Vec<u8>,
    /// The line in `rest` is too long to be an entry: drop everything to its end.
    skipping: bool,
    times: Times,
    joint: Joint,
}

impl Reader {
    /// Opens a log. With `tail`, reading begins so many lines before its end.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(folder: PathBuf, wanted: Wanted, tail: Option<u64>, follow: bool) -> io::Result<Self> {
        let pieces = file::pieces(&folder)?;
        let lengths = pieces.iter().map(Piece::len).collect::<io::Result<Vec<_>>>()?;
        let (first, offset) = match tail {
            Some(lines) => tail::start(&pieces, &lengths, lines, &wanted)?,
            None => (0, 0),
        };
        let mut places = VecDeque::new();
        for (index, (piece, length)) in pieces.into_iter().zip(lengths).enumerate().skip(first) {
            let position = if index == first { offset } else { 0 };
            // Without following, the end is where it was when it was asked for: a log that grows faster
            // than it is read would have none.
            places.push_back(Place { piece, position, end: (!follow).then_some(length) });
        }
        Ok(Self {
            folder,
            wanted,
            follow,
            places,
            last: None,
            rest: Vec::new(),
            skipping: false,
            times: Times::default(),
            joint: Joint::default(),
        })
    }

    /// Some more lines; none when all that there is was read.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&mut self) -> io::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        while lines.is_empty() {
            if self.places.is_empty() && !self.younger()? {
                break;
            }
            if !self.advance(&mut lines)? {
                // The end of this file. What is cut off there is no entry and never becomes one, unless it
                // is still being written.
                let done = self.places.pop_front();
                self.last = done;
            }
        }
        Ok(lines)
    }

    /// Goes to the file after the one read last, when there is one, or tells whether the same has grown.
    fn younger(&mut self) -> io::Result<bool> {
        if !self.follow {
            return Ok(false);
        }
        let Some(mut last) = self.last.take() else {
            let found = file::pieces(&self.folder)?;
            self.places = found.into_iter().map(|piece| Place { piece, position: 0, end: None }).collect();
            return Ok(!self.places.is_empty());
        };
        let current = file::is_current(&self.folder, &last.piece)?;
        // Asked in this order: nothing is written to a file after it was renamed, so what it holds after
        // that was seen is all.
        let length = last.piece.len()?;
        if length > last.position {
            self.places.push_back(last);
            return Ok(true);
        }
        if length < last.position {
            // The writer took back what a full disk had cut off in the middle.
            last.position = length;
            self.rest.clear();
            self.skipping = false;
        }
        if current {
            self.last = Some(last);
            return Ok(false);
        }
        let found = file::pieces(&self.folder)?;
        let known = found.iter().position(|piece| piece.is(&last.piece));
        let younger = found.into_iter().skip(known.map_or(0, |at| at + 1));
        self.places = younger.map(|piece| Place { piece, position: 0, end: None }).collect();
        self.rest.clear();
        self.skipping = false;
        if self.places.is_empty() {
            self.last = Some(last);
        }
        Ok(!self.places.is_empty())
    }

    /// Reads a block of the present file; `false` at its end.
    fn advance(&mut self, lines: &mut Vec<LogLine>) -> io::Result<bool> {
        let Some(place) = self.places.front_mut() else { return Ok(false) };
        let left = place.end.map_or(BLOCK as u64, |end| end.saturating_sub(place.position));
        // Lines keep the block that they are in.
        let mut block = BytesMut::zeroed(usize::try_from(left).unwrap_or(BLOCK).min(BLOCK));
        let count = place.piece.read_at(&mut block, place.position)?;
        if count == 0 {
            if self.places.len() > 1 || !self.follow {
                self.rest.clear();
                self.skipping = false;
            }
            return Ok(false);
        }
        block.truncate(count);
        let block = block.freeze();
        place.position += count as u64;
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', &block) {
            let line = begin..end + 1;
            begin = line.end;
            if !std::mem::take(&mut self.skipping) {
                if self.rest.is_empty() {
                    self.take(&block, line, lines);
                } else {
                    self.rest.extend_from_slice(block.get(line).unwrap_or_default());
                    let whole = Bytes::from(std::mem::take(&mut self.rest));
                    self.take(&whole, 0..whole.len(), lines);
                }
            }
            self.rest.clear();
        }
        lines.extend(self.joint.end());
        let open = block.get(begin..).unwrap_or_default();
        if self.rest.len() + open.len() > LONGEST {
            self.skipping = true;
            self.rest.clear();
        } else if !self.skipping {
            self.rest.extend_from_slice(open);
        }
        Ok(true)
    }

    /// Takes a line, which has its newline, when it is an entry that is wanted.
    fn take(&mut self, block: &Bytes, line: Range<usize>, lines: &mut Vec<LogLine>) {
        let Some(text) = block.get(line.clone()).and_then(|line| line.strip_suffix(b"\n")) else { return };
        let entry = Entry::parse(text, &mut self.times).filter(|entry| self.wanted.takes(entry));
        let Some(entry) = entry else { return };
        if self.wanted.joined {
            lines.extend(self.joint.take(&entry));
        } else {
            lines.push(entry.to_line(&block.slice(line)));
        }
    }
}

/// Entries of one stream and moment, put together.
#[derive(Debug, Default)]
struct Joint {
    of: Option<(Moment, Stdio)>,
    data: BytesMut,
}

impl Joint {
    /// Adds an entry; answers with those before it, when it does not belong to them.
    fn take(&mut self, entry: &Entry<'_>) -> Option<LogLine> {
        let of = (entry.at, entry.stream);
        let before = if self.of == Some(of) { None } else { self.end() };
        self.of = Some(of);
        if self.data.capacity() == 0 {
            self.data.reserve(BLOCK);
        }
        self.data.extend_from_slice(entry.text);
        if entry.ends_line {
            self.data.extend_from_slice(b"\n");
        }
        before
    }

    fn end(&mut self) -> Option<LogLine> {
        let (at, stream) = self.of.take()?;
        let data = self.data.split().freeze();
        Some(LogLine { stream: stream.into(), at: Some(timestamp(at)), data })
    }
}
