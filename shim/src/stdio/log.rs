//! The log of a container: lines in the CRI's text format, in files that are rotated by size and count.
//!
//! ```text
//! 2026-11-20T22:00:00.123456789Z stdout F text
//! ```
//!
//! `F` ends a line, `P` is a part of one that goes on in the next entry of the same stream. Each entry is whole or not
//! there: what cannot be written is counted, cut off again, and told of by an entry of its own once there is room.
//! A program's output is never held back for the log's sake.
//!
//! A reader that follows: read `stdio.log` to its end; when the name stands for another file, read the old one to its
//! end (nothing is written to it after the rename) and go on with the next younger. Parts of one line may stand in two
//! files.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Stream;
use super::clock::{Clock, Stamp};

/// Name of the file that is written to; older ones have a number behind it.
pub const FILE: &str = "stdio.log";
/// Most bytes of text in one entry.
const MAX_TEXT: usize = 16 << 10;
/// Bytes of an entry beside its text: time, stream, tag, newline.
const ENTRY: usize = size_of::<Stamp>() + " stdout F ".len() + 1;
/// Entries are collected up to so many bytes before they are written.
const BATCH: usize = 64 << 10;

/// How long a log may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a file.
    pub max_size: u64,
    /// Files kept, the one being written included.
    pub max_files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 3 }
    }
}

/// What could not be written since the last entry that told of it.
#[derive(Debug, Default)]
struct Lost {
    bytes: u64,
    reason: String,
}

/// The writing end of a container's log.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    limits: Limits,
    file: Option<File>,
    size: u64,
    clock: Clock,
    batch: Vec<u8>,
    lost: [Lost; 2],
    warned: bool,
}

impl Log {
    /// Goes on with the log in a folder, or begins it. A folder that cannot be written to now may be later.
    pub fn open(folder: PathBuf, limits: Limits) -> Self {
        let limits = Limits { max_size: limits.max_size.max(1), max_files: limits.max_files.max(1) };
        let mut log = Self {
            folder,
            limits,
            file: None,
            size: 0,
            clock: Clock::new(),
            batch: Vec::new(),
            lost: Default::default(),
            warned: false,
        };
        if let Err(error) = log.reopen() {
            log.warn("open the log", &error);
        }
        log
    }

    /// Writes what a stream said at one moment.
    pub fn write(&mut self, stream: Stream, data: &[u8], time: SystemTime) {
        let stamp = self.clock.stamp(time);
        let mut rest = data;
        let mut batched = 0;
        // No batch is larger than a file may be.
        let most = usize::try_from(self.limits.max_size).unwrap_or(usize::MAX).min(BATCH);
        while !rest.is_empty() {
            let window = rest.get(..MAX_TEXT).unwrap_or(rest);
            let (text, tag, taken) = match memchr::memchr(b'\n', window) {
                Some(end) => (window.get(..end).unwrap_or(window), b"F ", end + 1),
                None => (window, b"P ", window.len()),
            };
            if !self.batch.is_empty() && self.batch.len() + ENTRY + text.len() > most {
                self.flush(stream, batched, &stamp);
                batched = 0;
            }
            self.batch.extend_from_slice(&stamp);
            self.batch.extend_from_slice(stream.tag());
            self.batch.extend_from_slice(tag);
            self.batch.extend_from_slice(text);
            self.batch.push(b'\n');
            batched += taken as u64;
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.flush(stream, batched, &stamp);
    }

    /// Gives back the memory that writing took; called when a burst of output is over.
    pub fn rest(&mut self) {
        self.batch = Vec::new();
    }

    fn flush(&mut self, stream: Stream, bytes: u64, stamp: &Stamp) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        if let Err(error) = self.tell_lost(stamp).and_then(|()| self.append(&batch)) {
            let lost = &mut self.lost[stream.index()];
            lost.bytes += bytes;
            lost.reason = crate::init::error::reason(&error);
            self.warn("write the log", &error);
        }
        self.batch = batch;
        self.batch.clear();
    }

    /// An entry for what was lost, now that there may be room again.
    fn tell_lost(&mut self, stamp: &Stamp) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let Lost { bytes: 1.., reason } = &self.lost[stream.index()] else { continue };
            let bytes = self.lost[stream.index()].bytes;
            let mut entry = stamp.to_vec();
            entry.extend_from_slice(stream.tag());
            entry.extend_from_slice(
                format!("F [davit: {bytes} bytes are missing here: {reason}]\n").as_bytes(),
            );
            self.append(&entry)?;
            self.lost[stream.index()] = Lost::default();
            self.warned = false;
        }
        Ok(())
    }

    /// Adds whole entries, or nothing.
    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let length = entries.len() as u64;
        let is_full = self.size > 0 && self.size.saturating_add(length) > self.limits.max_size;
        if is_full && let Err(error) = self.rotate() {
            self.warn("rotate the log", &error);
        }
        let Some(file) = &mut self.file else { return Err(io::Error::other("log is not open")) };
        match file.write_all(entries) {
            Ok(()) => {
                self.size += length;
                Ok(())
            }
            Err(error) => {
                // What cannot be cut off now is ended by a newline when the file is opened again.
                let _ = file.set_len(self.size);
                self.file = None;
                Err(error)
            }
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut file = open(&self.folder.join(FILE))?;
        self.size = file.metadata()?.len();
        let mut last = [b'\n'];
        if self.size > 0 && file.read_at(&mut last, self.size - 1)? == 1 && last != [b'\n'] {
            file.write_all(b"\n")?;
            self.size += 1;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Moves every file one number up, drops the one too many, and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        let name = |n: u32| match n {
            0 => self.folder.join(FILE),
            n => self.folder.join(format!("{FILE}.{n}")),
        };
        let kept = self.limits.max_files - 1;
        for n in (1..kept).rev() {
            ignore_missing(std::fs::rename(name(n), name(n + 1)))?;
        }
        std::fs::rename(name(0), name(1))?;
        match open(&name(0)) {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                // The old file stays the one that is written to.
                std::fs::rename(name(1), name(0))?;
                return Err(error);
            }
        }
        self.size = 0;
        if kept == 0 { ignore_missing(std::fs::remove_file(name(1))) } else { Ok(()) }
    }

    /// Once, until it worked again: a full disk shall not fill our own log too.
    fn warn(&mut self, what: &str, error: &io::Error) {
        if !self.warned {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot {what}");
            self.warned = true;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
