//! An archive on disk for as long as it is read: a file without a name, and a table of what lies where in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use davit_proto::id::Digest;
use flate2::bufread::MultiGzDecoder;

use super::error::{ArchiveError, EntryProblem, shown};
use crate::digest::Hasher;
use crate::document::CONFIG_BYTES;
use davit_archive::tar::{self, Kind, Reader};

const BUFFER: usize = 128 << 10;
const NAME_BYTES: usize = 4096;
const HEADER_BYTES: u64 = 1 << 20;
/// Links to links that are followed.
const LINKS_MAX: usize = 8;
/// Base-2 logarithm of the largest window a zstd stream may ask for.
const ZSTD_WINDOW_LOG: u32 = 26;

/// What one archive may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes after decompression.
    pub bytes: u64,
    /// Decompressed bytes for each compressed one, once `ratio_from` bytes came out.
    pub ratio: u64,
    /// Bytes of output below which no ratio is looked at.
    pub ratio_from: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 100_000, bytes: 512 << 30, ratio: 200, ratio_from: 256 << 20 }
    }
}

/// Where an entry's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    offset: u64,
    pub(super) size: u64,
}

#[derive(Debug)]
enum Node {
    File(Span),
    /// The name within the archive that it stands for.
    Link(String),
}

/// The entries of an archive by name.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    nodes: BTreeMap<String, Node>,
}

impl Spool {
    /// Reads a stream to its end into a nameless file in `folder`.
    pub(super) fn read(source: impl Read, folder: &Path, limits: &Limits) -> Result<Self, ArchiveError> {
        let mut counted =
            Counted { source: BufReader::with_capacity(BUFFER, source), bytes: 0, failed: None };
        let head = counted.fill_buf().map_err(ArchiveError::Source)?;
        let kind = Compression::of(head)?;
        let outcome = match kind {
            Compression::None => Self::fill(&mut counted, folder, limits),
            Compression::Gzip => {
                let decoder =
                    Measured { decoder: MultiGzDecoder::new(&mut counted), total: 0, limits: *limits };
                Self::fill(BufReader::with_capacity(BUFFER, decoder), folder, limits)
            }
            Compression::Zstd => {
                let mut decoder =
                    zstd::Decoder::with_buffer(&mut counted).map_err(ArchiveError::Decompress)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(ArchiveError::Decompress)?;
                let decoder = Measured { decoder, total: 0, limits: *limits };
                Self::fill(BufReader::with_capacity(BUFFER, decoder), folder, limits)
            }
        };
        // A decoder passes on the error of its source as its own.
        match (counted.failed.take(), outcome) {
            (Some(error), _) => Err(ArchiveError::Source(error)),
            (None, Err(ArchiveError::Tar { problem: tar::Problem::Read(error), .. })) => {
                Err(Exceeded::find(&error).unwrap_or(ArchiveError::Decompress(error)))
            }
            (None, outcome) => outcome,
        }
    }

    fn fill(input: impl BufRead, folder: &Path, limits: &Limits) -> Result<Self, ArchiveError> {
        let file = tempfile::tempfile_in(folder).map_err(ArchiveError::Spool)?;
        let mut spool = Self { file, nodes: BTreeMap::new() };
        let mut reader = Reader::new(input, HEADER_BYTES);
        let (mut offset, mut entries) = (0_u64, 0_u64);
        loop {
            let entry = match reader.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(spool),
                Err(problem) => return Err(wrong(reader.name(), problem)),
            };
            entries += 1;
            if entries > limits.entries {
                return Err(ArchiveError::Limit("number of entries", limits.entries));
            }
            let name = text(&entry.path)?;
            let path = normal("", name).ok_or_else(|| ArchiveError::entry(name, EntryProblem::Escapes))?;
            let node = match entry.kind {
                Kind::Directory => continue,
                Kind::File => {
                    if offset.saturating_add(entry.size) > limits.bytes {
                        return Err(ArchiveError::Limit("number of bytes", limits.bytes));
                    }
                    spool.copy_in(&mut reader, offset)?;
                    let span = Span { offset, size: entry.size };
                    offset += entry.size;
                    Node::File(span)
                }
                Kind::Symlink | Kind::Hardlink => {
                    let folder = if entry.kind == Kind::Symlink { parent(&path) } else { "" };
                    let target = normal(folder, text(&entry.link)?);
                    Node::Link(target.ok_or_else(|| ArchiveError::entry(name, EntryProblem::Escapes))?)
                }
                Kind::Character | Kind::Block | Kind::Fifo => {
                    return Err(ArchiveError::entry(name, EntryProblem::Kind));
                }
            };
            if path.is_empty() {
                return Err(ArchiveError::entry(name, EntryProblem::Name));
            }
            if spool.nodes.insert(path, node).is_some() {
                return Err(ArchiveError::entry(name, EntryProblem::Twice));
            }
        }
    }

    /// Copies the data of the current entry to `offset`.
    fn copy_in(&self, reader: &mut Reader<impl BufRead>, mut offset: u64) -> Result<(), ArchiveError> {
        loop {
            let piece = match reader.data() {
                Ok([]) => return Ok(()),
                Ok(piece) => piece,
                Err(problem) => return Err(wrong(reader.name(), problem)),
            };
            let length = piece.len();
            self.file.write_all_at(piece, offset).map_err(ArchiveError::Spool)?;
            reader.consume(length);
            offset += length as u64;
        }
    }

    /// Whether there is an entry of this name, of whatever kind.
    pub(super) fn has(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// Where the bytes of a file are; links are followed within the archive.
    pub(super) fn find(&self, name: &str) -> Result<Span, ArchiveError> {
        let mut path = normal("", name).ok_or_else(|| ArchiveError::entry(name, EntryProblem::Escapes))?;
        for hop in 0..=LINKS_MAX {
            match self.nodes.get(&path) {
                Some(Node::File(span)) => return Ok(*span),
                Some(Node::Link(target)) => path.clone_from(target),
                None if hop == 0 => return Err(ArchiveError::entry(name, EntryProblem::Missing)),
                None => break,
            }
        }
        Err(ArchiveError::entry(name, EntryProblem::Dangling))
    }

    /// A whole document, which must be a file of its own.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        if matches!(self.nodes.get(name), Some(Node::Link(_))) {
            return Err(ArchiveError::entry(name, EntryProblem::Link));
        }
        self.small(name, self.find(name)?)
    }

    /// The bytes of a span that must be no larger than a document.
    pub(super) fn small(&self, name: &str, span: Span) -> Result<Vec<u8>, ArchiveError> {
        let size = usize::try_from(span.size).ok().filter(|size| *size <= CONFIG_BYTES);
        let mut bytes = vec![0; size.ok_or_else(|| ArchiveError::entry(name, EntryProblem::Large))?];
        self.file.read_exact_at(&mut bytes, span.offset).map_err(ArchiveError::Spool)?;
        Ok(bytes)
    }

    /// The first bytes of a span.
    pub(super) fn head(&self, span: Span) -> Result<Vec<u8>, ArchiveError> {
        let mut head = vec![0; usize::try_from(span.size.min(8)).unwrap_or_default()];
        self.file.read_exact_at(&mut head, span.offset).map_err(ArchiveError::Spool)?;
        Ok(head)
    }

    /// The digest of a span.
    pub(super) fn digest(&self, span: Span) -> Result<Digest, ArchiveError> {
        let mut hasher = Hasher::default();
        self.each(span, |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    /// Shows the bytes of a span piece by piece.
    pub(super) fn each(
        &self,
        span: Span,
        mut take: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; BUFFER];
        let (mut offset, mut left) = (span.offset, span.size);
        while left > 0 {
            let wanted = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let Some(piece) = buffer.get_mut(..wanted) else { break };
            self.file.read_exact_at(piece, offset).map_err(ArchiveError::Spool)?;
            take(piece)?;
            offset += wanted as u64;
            left -= wanted as u64;
        }
        Ok(())
    }
}

fn wrong(name: &[u8], problem: tar::Problem) -> ArchiveError {
    ArchiveError::Tar { entry: shown(&String::from_utf8_lossy(name)), problem }
}

fn text(bytes: &[u8]) -> Result<&str, ArchiveError> {
    let name = std::str::from_utf8(bytes).ok().filter(|name| name.len() <= NAME_BYTES);
    name.ok_or_else(|| ArchiveError::entry(&String::from_utf8_lossy(bytes), EntryProblem::Name))
}

/// A name without `.` and empty parts, seen from `folder`; `None` if it is absolute or leads above the archive.
fn normal(folder: &str, name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    let own = folder.is_empty();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            // Links step up; names of entries have no business to.
            ".." if own => return None,
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(head: &[u8]) -> Result<Self, ArchiveError> {
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(ArchiveError::Compression("xz")),
            [b'B', b'Z', b'h', ..] => Err(ArchiveError::Compression("bzip2")),
            _ => Ok(Self::None),
        }
    }
}

/// Counts compressed bytes, and keeps the source's own error apart from a decoder's.
struct Counted<R> {
    source: BufReader<R>,
    bytes: u64,
    failed: Option<io::Error>,
}

impl<R: Read> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        loop {
            match self.source.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let kind = error.kind();
                    self.failed = Some(error);
                    return Err(kind.into());
                }
            }
        }
        Ok(self.source.buffer())
    }

    fn consume(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.source.consume(bytes);
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let read = available.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// A decoder whose source can be asked how much of it was taken.
trait Taken: Read {
    fn taken(&self) -> u64;
}

impl<R: Read> Taken for MultiGzDecoder<&mut Counted<R>> {
    fn taken(&self) -> u64 {
        self.get_ref().bytes
    }
}

impl<R: Read> Taken for zstd::Decoder<'_, &mut Counted<R>> {
    fn taken(&self) -> u64 {
        self.get_ref().bytes
    }
}

/// Ends a stream that grows out of proportion.
struct Measured<D> {
    decoder: D,
    total: u64,
    limits: Limits,
}

impl<D: Taken> Read for Measured<D> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(into)?;
        self.total = self.total.saturating_add(read as u64);
        let Limits { ratio, ratio_from, .. } = self.limits;
        if self.total > ratio_from && self.total / ratio.max(1) > self.decoder.taken() {
            return Err(io::Error::other(Exceeded(ratio)));
        }
        Ok(read)
    }
}

/// The ratio was exceeded: told through `io::Error`, since that is all a reader can say.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} decompressed bytes for each compressed one")]
struct Exceeded(u64);

impl Exceeded {
    fn find(error: &io::Error) -> Option<ArchiveError> {
        let exceeded = error.get_ref()?.downcast_ref::<Self>()?;
        Some(ArchiveError::Limit("ratio of decompressed to compressed bytes", exceeded.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_archive() {
        assert_eq!(normal("", "./a//b/./c").as_deref(), Some("a/b/c"));
        assert_eq!(normal("a/b", "../c/layer.tar").as_deref(), Some("a/c/layer.tar"));
        assert_eq!(normal("a", "../x").as_deref(), Some("x"));
        for (folder, bad) in
            [("", "/a"), ("", "../a"), ("", "a/../b"), ("a", "../../x"), ("", "a\0b"), ("a", "/x")]
        {
            assert_eq!(normal(folder, bad), None, "{folder} {bad}");
        }
    }
}
