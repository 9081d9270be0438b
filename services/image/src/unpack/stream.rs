//! From compressed bytes to an applied layer: one thread inflates, one hashes, the caller's applies.
//!
//! Buffers go round: the inflater fills one, both readers look at it, and the last of them sends it back. So a layer
//! of any size costs [`BUFFERS`] × [`BUFFER`] bytes, and no page is touched for the first time twice.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use davit_proto::id::Digest;
use davit_sys::file::Root;
use flate2::bufread::MultiGzDecoder;

use super::{Applied, Limits, Problem, UnpackError, apply};
use crate::digest::Hasher;

const BUFFER: usize = 64 << 10;
const BUFFERS: usize = 24;

/// Unpacks a layer that is compressed with gzip, zstd or not at all into an empty directory, and verifies its diff id.
///
/// The source is read to its end. When this fails, the directory holds a part and is only good to be removed.
pub fn unpack(
    source: impl BufRead + Send,
    root: Root,
    diff_id: &Digest,
    limits: &Limits,
) -> Result<Applied, UnpackError> {
    let (applied, actual) = unpack_as(source, root, limits, Expected::Any)?;
    if actual != *diff_id {
        return Err(UnpackError::DiffId { expected: diff_id.clone(), actual });
    }
    Ok(applied)
}

/// As [`unpack`], for a layer that is not compressed, whatever its first bytes look like; tells its diff id.
pub fn unpack_plain(
    source: impl BufRead + Send,
    root: Root,
    limits: &Limits,
) -> Result<(Applied, Digest), UnpackError> {
    unpack_as(source, root, limits, Expected::Plain)
}

/// What a source may be.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// Compressed in a way that its first bytes tell, or not.
    Any,
    /// Not compressed.
    Plain,
}

fn unpack_as(
    source: impl BufRead + Send,
    root: Root,
    limits: &Limits,
    expected: Expected,
) -> Result<(Applied, Digest), UnpackError> {
    thread::scope(|scope| {
        let (to_apply, from_inflate) = sync_channel(BUFFERS);
        let (to_hash, for_hash) = sync_channel::<Arc<Buffer>>(BUFFERS);
        let hash = scope.spawn(move || {
            let mut hasher = Hasher::default();
            while let Ok(buffer) = for_hash.recv() {
                hasher.update(&buffer.bytes);
            }
            hasher.finish()
        });
        let limits_of_inflate = *limits;
        scope.spawn(move || {
            let failed = inflate(source, expected, &limits_of_inflate, &to_apply, to_hash).err();
            // Whoever would read this has ended already when it cannot be sent.
            let _ = to_apply.send(failed.map_or(Piece::End, Piece::Failed));
        });
        let mut pieces = Pieces { from_inflate, current: None, at: 0, state: State::Open };
        let applied = apply(&mut pieces, root, limits);
        // What went wrong first is the cause of what the reader of the archive saw.
        if let State::Failed(problem) = pieces.state {
            return Err(UnpackError::Layer(problem));
        }
        let applied = applied?;
        drop(pieces);
        let actual = hash.join().map_err(|_| {
            UnpackError::Layer(Problem::Source(io::Error::other("hashing thread ended early")))
        })?;
        Ok((applied, actual))
    })
}

/// Some decompressed bytes, which go back to the inflater when the last reader is done.
struct Buffer {
    bytes: Vec<u8>,
    back: Sender<Vec<u8>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // The inflater may be done.
        let _ = self.back.send(std::mem::take(&mut self.bytes));
    }
}

/// What the inflater tells the applier.
enum Piece {
    Bytes(Arc<Buffer>),
    End,
    Failed(Problem),
}

/// Why inflating ended before its end.
fn inflate(
    source: impl BufRead,
    expected: Expected,
    limits: &Limits,
    to_apply: &SyncSender<Piece>,
    to_hash: SyncSender<Arc<Buffer>>,
) -> Result<(), Problem> {
    let mut counted = Counted { source, bytes: 0, failed: None };
    let mut head = [0; 6];
    let known = fill(&mut counted, &mut head).map_err(Problem::Source)?;
    let head = &head[..known];
    let mut whole: Whole<'_, _> = head.chain(&mut counted);
    let kind = match expected {
        Expected::Any => magic(head),
        Expected::Plain => Magic::None,
    };
    let result = match kind {
        Magic::Gzip => pump(MultiGzDecoder::new(&mut whole), limits, to_apply, &to_hash),
        Magic::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(&mut whole).map_err(Problem::Decompress)?;
            decoder.window_log_max(limits.zstd_window_log).map_err(Problem::Decompress)?;
            pump(decoder, limits, to_apply, &to_hash)
        }
        Magic::Other(name) => Err(Problem::Compression(name)),
        Magic::None => pump(&mut whole, limits, to_apply, &to_hash),
    };
    // A decoder passes on the error of its source as its own.
    match counted.failed.take() {
        Some(error) => Err(Problem::Source(error)),
        None => result,
    }
}

/// The first bytes, which were looked at, and the rest.
type Whole<'a, R> = io::Chain<&'a [u8], &'a mut Counted<R>>;

/// A decoder that can tell how many compressed bytes it has taken.
trait Progress: Read {
    fn taken(&self) -> u64;
}

impl<R: BufRead> Progress for MultiGzDecoder<&mut Whole<'_, R>> {
    fn taken(&self) -> u64 {
        self.get_ref().get_ref().1.bytes
    }
}

impl<R: BufRead> Progress for zstd::Decoder<'_, &mut Whole<'_, R>> {
    fn taken(&self) -> u64 {
        self.get_ref().get_ref().1.bytes
    }
}

impl<R: BufRead> Progress for &mut Whole<'_, R> {
    fn taken(&self) -> u64 {
        self.get_ref().1.bytes
    }
}

fn pump(
    mut decoder: impl Progress,
    limits: &Limits,
    to_apply: &SyncSender<Piece>,
    to_hash: &SyncSender<Arc<Buffer>>,
) -> Result<(), Problem> {
    let (back, returned) = channel::<Vec<u8>>();
    let mut made = 0;
    let mut total = 0u64;
    loop {
        let mut bytes = match returned.try_recv() {
            Ok(bytes) => bytes,
            Err(_) if made < BUFFERS => {
                made += 1;
                vec![0; BUFFER]
            }
            // All are under way; `back` is kept here, so this waits for one.
            Err(_) => returned.recv().map_err(|_| Problem::Source(io::ErrorKind::BrokenPipe.into()))?,
        };
        bytes.resize(BUFFER, 0);
        let n = fill(&mut decoder, &mut bytes).map_err(Problem::Decompress)?;
        if n == 0 {
            return Ok(());
        }
        bytes.truncate(n);
        total = total.saturating_add(n as u64);
        check(total, decoder.taken(), limits)?;
        let buffer = Arc::new(Buffer { bytes, back: back.clone() });
        // A reader that is gone has failed, and its own error is the one that counts.
        let gone = to_hash.send(Arc::clone(&buffer)).is_err() || to_apply.send(Piece::Bytes(buffer)).is_err();
        if gone {
            return Ok(());
        }
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(decoder: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match decoder.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn check(total: u64, taken: u64, limits: &Limits) -> Result<(), Problem> {
    if total > limits.bytes {
        return Err(Problem::Limit("number of decompressed bytes", limits.bytes));
    }
    if total > limits.ratio_from && total / limits.ratio > taken {
        return Err(Problem::Limit("ratio of decompressed to compressed bytes", limits.ratio));
    }
    Ok(())
}

/// How a stream is compressed, by its first bytes.
enum Magic {
    Gzip,
    Zstd,
    None,
    Other(&'static str),
}

fn magic(head: &[u8]) -> Magic {
    match head {
        [0x1f, 0x8b, ..] => Magic::Gzip,
        // A zstd stream may begin with a frame to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Magic::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Magic::Other("xz"),
        [b'B', b'Z', b'h', ..] => Magic::Other("bzip2"),
        _ => Magic::None,
    }
}

/// Counts what is consumed, and keeps the source's own error apart from a decoder's.
struct Counted<R> {
    source: R,
    bytes: u64,
    failed: Option<io::Error>,
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.source.fill_buf() {
            Ok(bytes) => Ok(bytes),
            Err(e) => {
                let kind = e.kind();
                if kind != io::ErrorKind::Interrupted {
                    self.failed = Some(e);
                }
                Err(kind.into())
            }
        }
    }

    fn consume(&mut self, n: usize) {
        self.bytes = self.bytes.saturating_add(n as u64);
        self.source.consume(n);
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = bytes.len().min(into.len());
        into[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// The decompressed stream as the applier reads it.
struct Pieces {
    from_inflate: Receiver<Piece>,
    current: Option<Arc<Buffer>>,
    at: usize,
    state: State,
}

enum State {
    Open,
    Ended,
    Failed(Problem),
}

impl BufRead for &mut Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.as_ref().is_none_or(|buffer| self.at >= buffer.bytes.len()) {
            self.current = None;
            self.at = 0;
            match &self.state {
                State::Open => {}
                State::Ended => return Ok(&[]),
                State::Failed(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
            match self.from_inflate.recv() {
                Ok(Piece::Bytes(buffer)) => self.current = Some(buffer),
                Ok(Piece::End) => self.state = State::Ended,
                Ok(Piece::Failed(problem)) => self.state = State::Failed(problem),
                Err(_) => {
                    let gone = io::Error::other("inflating thread ended early");
                    self.state = State::Failed(Problem::Source(gone));
                }
            }
        }
        Ok(self.current.as_ref().and_then(|buffer| buffer.bytes.get(self.at..)).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for &mut Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = bytes.len().min(into.len());
        into[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}
