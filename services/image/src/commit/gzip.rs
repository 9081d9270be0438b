//! Compressing a layer on several processors at once: blocks of one size, each a member of its own in the gzip file, as
//! the format allows and every reader of layers understands.
//!
//! The same bytes make the same file, however many processors there are and however the bytes came: where a block ends
//! is counted from the beginning, no header tells a time, and what a block is like decides how it is packed.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Bytes of a block before it is compressed.
const BLOCK: usize = 1 << 20;
/// How much of its beginning is tried.
const SAMPLE: usize = 16 << 10;
/// Most threads: so many blocks, and what became of them, are in memory.
const THREADS: usize = 4;

/// Writes what comes, compressed.
///
/// # Errors
/// When it cannot be written.
pub fn compress<W: Write>(pieces: &Receiver<Vec<u8>>, into: W) -> io::Result<W> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    thread::scope(|scope| {
        let mut row = Row { into, threads, workers: Vec::new(), begun: 0, done: 0 };
        let mut block = Vec::new();
        for piece in pieces {
            let mut piece = piece.as_slice();
            while !piece.is_empty() {
                if block.len() == BLOCK {
                    row.begin(scope, std::mem::replace(&mut block, Vec::with_capacity(BLOCK)))?;
                }
                let (fits, rest) = piece.split_at(piece.len().min(BLOCK - block.len()));
                block.extend_from_slice(fits);
                piece = rest;
            }
        }
        row.end(&block)
    })
}

/// Threads that take turns, so that what they made is written in its order.
struct Row<W> {
    into: W,
    threads: usize,
    workers: Vec<Worker>,
    /// Blocks that were given away.
    begun: usize,
    /// Blocks that were written.
    done: usize,
}

/// A thread with at most one block.
struct Worker {
    blocks: SyncSender<Vec<u8>>,
    members: Receiver<io::Result<Vec<u8>>>,
}

impl Worker {
    fn start<'scope>(scope: &'scope Scope<'scope, '_>) -> Self {
        let (blocks, given) = sync_channel::<Vec<u8>>(1);
        let (made, members) = sync_channel(1);
        scope.spawn(move || {
            for block in given {
                // Whoever does not take it any more has told why.
                if made.send(member(&block)).is_err() {
                    return;
                }
            }
        });
        Self { blocks, members }
    }
}

impl<W: Write> Row<W> {
    fn begin<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, block: Vec<u8>) -> io::Result<()> {
        if self.workers.len() < self.threads {
            self.workers.push(Worker::start(scope));
        } else {
            self.write_next()?;
        }
        let turn = self.begun % self.threads;
        let worker = self.workers.get(turn).ok_or_else(gone)?;
        worker.blocks.send(block).map_err(|_| gone())?;
        self.begun += 1;
        Ok(())
    }

    fn write_next(&mut self) -> io::Result<()> {
        let worker = self.workers.get(self.done % self.threads).ok_or_else(gone)?;
        let member = worker.members.recv().map_err(|_| gone())??;
        self.done += 1;
        self.into.write_all(&member)
    }

    /// The last block, which may be all there is and needs no thread.
    fn end(mut self, block: &[u8]) -> io::Result<W> {
        let last = member(block)?;
        while self.done < self.begun {
            self.write_next()?;
        }
        self.into.write_all(&last)?;
        Ok(self.into)
    }
}

fn gone() -> io::Error {
    io::Error::other("a compressing thread ended early")
}

/// A block as a gzip file.
fn member(block: &[u8]) -> io::Result<Vec<u8>> {
    let sample = block.get(..SAMPLE).unwrap_or(block);
    let fast = packed(sample, Compression::fast())?;
    if sample.len() == block.len() {
        return Ok(fast);
    }
    // What is compressed or encrypted already does not get smaller, but costs as much.
    let worth = fast.len() < sample.len() - sample.len() / 32;
    packed(block, if worth { Compression::fast() } else { Compression::none() })
}

fn packed(bytes: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn compressed(pieces: Vec<Vec<u8>>) -> Vec<u8> {
        let (sender, receiver) = sync_channel(1);
        thread::scope(|scope| {
            scope.spawn(move || pieces.into_iter().for_each(|piece| sender.send(piece).unwrap()));
            compress(&receiver, Vec::new()).unwrap()
        })
    }

    /// Words that repeat, or bytes that do not.
    fn bytes(length: usize, random: bool) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        (0..length).map(|at| if random { next() } else { b"a word and another"[at % 18] }).collect()
    }

    #[test]
    fn the_same_bytes_make_the_same_file_however_they_come() {
        for (length, random) in [
            (0, false),
            (5, true),
            (BLOCK, true),
            (BLOCK + 1, false),
            (6 * BLOCK + 7, true),
            (6 * BLOCK, false),
        ] {
            let bytes = bytes(length, random);
            let whole = compressed(vec![bytes.clone()]);
            let pieces = compressed(bytes.chunks(70_001).map(<[u8]>::to_vec).collect());
            assert!(whole == pieces, "{length} {random}");
            let mut read = Vec::new();
            flate2::read::MultiGzDecoder::new(whole.as_slice()).read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{length} {random}");
            let most = if random { length + length / 1000 + 64 } else { length / 20 + 64 };
            assert!(whole.len() <= most, "{length} {random}: {}", whole.len());
        }
    }

    #[test]
    fn who_cannot_write_is_told_once() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, receiver) = sync_channel(1);
        let error = thread::scope(|scope| {
            scope.spawn(move || while sender.send(bytes(BLOCK, true)).is_ok() {});
            let failed = compress(&receiver, Full).err().unwrap();
            drop(receiver);
            failed
        });
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
