//! Finds the last lines of a log from its end, so that the length of a log does not matter.

use std::io;

use davit_proto::types::Stdio;

use super::entry::{Entry, Times};
use super::file::Piece;
use super::reader::{LONGEST, Wanted};

/// Bytes read at once, backwards.
const BLOCK: u64 = 64 << 10;

/// What was counted so far, walking backwards.
#[derive(Debug, Default)]
struct Count {
    lines: u64,
    stdout_seen: bool,
    stderr_seen: bool,
    times: Times,
}

impl Count {
    /// Whether the entry is the end of one more line: a part counts only where nothing of its stream
    /// follows, for else its line was counted at its end.
    fn is_new_line(&mut self, entry: &Entry<'_>) -> bool {
        let seen = match entry.stream {
            Stdio::Stderr => &mut self.stderr_seen,
            _ => &mut self.stdout_seen,
        };
        let first = !std::mem::replace(seen, true);
        entry.ends_line || first
    }
}

/// The piece and the offset in it where the last `lines` lines begin.
///
/// # Errors
/// When a file cannot be read.
pub fn start(pieces: &[Piece], lengths: &[u64], lines: u64, wanted: &Wanted) -> io::Result<(usize, u64)> {
    let mut count = Count::default();
    for (index, (piece, length)) in pieces.iter().zip(lengths).enumerate().rev() {
        if let Some(offset) = walk(piece, *length, lines, wanted, &mut count)? {
            return Ok((index, offset));
        }
    }
    Ok((0, 0))
}

/// Walks one file backwards. Answers with the offset after the first line that is one too many.
fn walk(
    piece: &Piece,
    length: u64,
    lines: u64,
    wanted: &Wanted,
    count: &mut Count,
) -> io::Result<Option<u64>> {
    let mut block = vec![0; usize::try_from(BLOCK).unwrap_or_default()];
    // Bytes of a line whose beginning was not read yet, at `position`.
    let mut rest: Vec<u8> = Vec::new();
    // What stands behind the last newline is not whole, so it is no entry.
    let mut skipping = true;
    let mut position = length;
    while position > 0 {
        let size = position.min(BLOCK);
        position -= size;
        let Some(part) = block.get_mut(..usize::try_from(size).unwrap_or_default()) else { break };
        let got = piece.read_at(part, position)?;
        let mut bytes = part.get(..got).unwrap_or_default();
        while let Some(newline) = bytes.iter().rposition(|b| *b == b'\n') {
            let (head, tail) = bytes.split_at(newline);
            let line = joined(tail.get(1..).unwrap_or_default(), &mut rest);
            let begin = position + newline as u64 + 1;
            let end = begin + line.len() as u64;
            let skip = std::mem::take(&mut skipping);
            if !skip && let Some(stop) = one_too_many(&line, end, lines, wanted, count) {
                return Ok(Some(stop.min(length)));
            }
            bytes = head;
        }
        skipping |= rest.len() + bytes.len() > LONGEST;
        if skipping {
            rest.clear();
        } else {
            rest.splice(..0, bytes.iter().copied());
        }
    }
    let end = rest.len() as u64;
    let stop = if skipping { None } else { one_too_many(&rest, end, lines, wanted, count) };
    Ok(stop.map(|stop| stop.min(length)))
}

fn joined(head: &[u8], rest: &mut Vec<u8>) -> Vec<u8> {
    let mut line = head.to_vec();
    line.append(rest);
    line
}

/// The offset behind a line when it is one too many, or older than what is wanted.
fn one_too_many(line: &[u8], end: u64, lines: u64, wanted: &Wanted, count: &mut Count) -> Option<u64> {
    let entry = Entry::parse(line, &mut count.times)?;
    if wanted.since.is_some_and(|since| entry.at < since) {
        return Some(end + 1);
    }
    if !wanted.takes(&entry) || !count.is_new_line(&entry) {
        return None;
    }
    if count.lines == lines {
        return Some(end + 1);
    }
    count.lines += 1;
    None
}
