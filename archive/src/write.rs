//! Writes tar archives: ustar, with PAX records where ustar does not suffice. The same entries make the same bytes.

use std::io::{self, Write};

use crate::pax;
use crate::tar::{BLOCK, Entry, Kind, OCTAL_SIZE_MAX};

/// What seven octal digits hold.
const OCTAL_ID_MAX: u32 = 0o777_7777;
/// Longest name and longest prefix in a header.
const NAME: usize = 100;
const PREFIX: usize = 155;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Writes entries one after the other.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    /// Data of the current entry that is still to come.
    left: u64,
    /// Zero bytes that will fill its last block.
    padding: usize,
    /// Bytes written.
    written: u64,
    /// No time of an entry is later than this, in seconds since 1970.
    not_after: Option<i64>,
}

impl<W: Write> Writer<W> {
    /// Writes to `output`, in pieces as small as headers: a buffer is the caller's business.
    pub fn new(output: W) -> Self {
        Self { output, left: 0, padding: 0, written: 0, not_after: None }
    }

    /// Writes every time that is later than this, in seconds since 1970, as this one.
    #[must_use]
    pub fn not_after(mut self, seconds: Option<i64>) -> Self {
        self.not_after = seconds;
        self
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Begins an entry. As many bytes as its size says must follow by [`Writer::data`].
    ///
    /// # Errors
    /// When the output fails, the entry before is not complete, or this one cannot be in an archive.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.complete()?;
        if entry.kind != Kind::File && entry.size > 0 {
            return Err(invalid("entry with data is no regular file"));
        }
        let clamped;
        let entry = match self.not_after {
            Some(latest) => {
                let clamp = |time: (i64, u32)| time.min((latest, 0));
                clamped = Entry {
                    modified: clamp(entry.modified),
                    accessed: entry.accessed.map(clamp),
                    ..entry.clone()
                };
                &clamped
            }
            None => entry,
        };
        let mut path = entry.path.clone();
        if entry.kind == Kind::Directory && path.last() != Some(&b'/') {
            path.push(b'/');
        }
        let split = split_name(&path);
        let records = records(entry, &path, split.is_none());
        if !records.is_empty() {
            let name = [b"PaxHeaders/", &path[path.len().saturating_sub(80)..]].concat();
            let name = name.strip_suffix(b"/").unwrap_or(&name).to_vec();
            let size = records.len() as u64;
            let header = header(&Head { flag: b'x', name: &name, size, mode: 0o644, ..Head::default() })?;
            self.put(&header)?;
            self.put(&records)?;
            self.put(&ZEROS[..padding(size)])?;
        }
        let (prefix, name) = split.unwrap_or((&[], &path[..NAME.min(path.len())]));
        let octal_time = u64::try_from(entry.modified.0).ok().filter(|&s| s <= OCTAL_SIZE_MAX);
        let header = header(&Head {
            flag: flag(entry.kind),
            prefix,
            name,
            link: &entry.link[..NAME.min(entry.link.len())],
            mode: entry.mode & 0o7777,
            owner: (if_fits(entry.uid), if_fits(entry.gid)),
            size: if entry.size <= OCTAL_SIZE_MAX { entry.size } else { 0 },
            modified: octal_time.unwrap_or(0),
            device: entry.device,
        })?;
        self.put(&header)?;
        self.left = entry.size;
        self.padding = padding(entry.size);
        Ok(())
    }

    /// Some data of the current entry.
    ///
    /// # Errors
    /// When the output fails, or there is more of it than was told.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| invalid("more data than the entry was to have"))?;
        self.put(bytes)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When the output fails, or the last entry is not complete.
    pub fn end(&mut self) -> io::Result<()> {
        self.complete()?;
        self.put(&ZEROS)?;
        self.put(&ZEROS)?;
        self.output.flush()
    }

    /// Ends the archive, and answers with the output.
    ///
    /// # Errors
    /// When the output fails, or the last entry is not complete.
    pub fn finish(mut self) -> io::Result<W> {
        self.end()?;
        Ok(self.output)
    }

    fn complete(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(invalid("less data than the entry was to have"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.put(&ZEROS[..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        self.output.write_all(bytes)
    }
}

/// The fields of one header.
#[derive(Default)]
struct Head<'a> {
    flag: u8,
    prefix: &'a [u8],
    name: &'a [u8],
    link: &'a [u8],
    mode: u32,
    owner: (u32, u32),
    size: u64,
    modified: u64,
    device: (u32, u32),
}

fn header(head: &Head<'_>) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut text = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    text(0, head.name);
    text(157, head.link);
    text(257, b"ustar\x0000");
    text(345, head.prefix);
    text(156, &[head.flag]);
    let fields: [(usize, usize, u64); 7] = [
        (100, 7, head.mode.into()),
        (108, 7, head.owner.0.into()),
        (116, 7, head.owner.1.into()),
        (124, 11, head.size),
        (136, 11, head.modified),
        (329, 7, head.device.0.into()),
        (337, 7, head.device.1.into()),
    ];
    for (at, digits, value) in fields {
        octal(&mut block[at..at + digits], value)?;
    }
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut block[148..154], sum)?;
    block[154] = 0;
    Ok(block)
}

fn octal(field: &mut [u8], mut value: u64) -> io::Result<()> {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    if value == 0 { Ok(()) } else { Err(invalid("number is too large for an archive's header")) }
}

/// What the header cannot say.
fn records(entry: &Entry, path: &[u8], long_path: bool) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| pax::push(&mut records, key, value);
    if long_path {
        add(b"path", path);
    }
    if entry.link.len() > NAME {
        add(b"linkpath", &entry.link);
    }
    if entry.size > OCTAL_SIZE_MAX {
        add(b"size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if id > OCTAL_ID_MAX {
            add(key, id.to_string().as_bytes());
        }
    }
    let (seconds, nanoseconds) = entry.modified;
    if nanoseconds != 0 || !u64::try_from(seconds).is_ok_and(|s| s <= OCTAL_SIZE_MAX) {
        add(b"mtime", pax::time_text(entry.modified).as_bytes());
    }
    if let Some(accessed) = entry.accessed {
        add(b"atime", pax::time_text(accessed).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        add(&[pax::XATTR, name].concat(), value);
    }
    records
}

/// A name as prefix and rest, where it fits.
fn split_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME {
        return Some((&[], path));
    }
    // A slash at the very end belongs to the name.
    let slashes = path.iter().enumerate().rev().skip(1).filter(|(_, byte)| **byte == b'/');
    let fits = |at: &usize| (1..=PREFIX).contains(at) && path.len() - at - 1 <= NAME;
    let at = slashes.map(|(at, _)| at).find(fits)?;
    Some((&path[..at], &path[at + 1..]))
}

fn if_fits(id: u32) -> u32 {
    if id <= OCTAL_ID_MAX { id } else { 0 }
}

fn padding(size: u64) -> usize {
    // Less than a block.
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::Hardlink => b'1',
        Kind::Symlink => b'2',
        Kind::Character => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests;
