//! One layer: its bytes go to the blob file and to the unpacker at once.
//!
//! ```text
//! registry ─▶ this task ─▶ writer thread ─▶ blob file, digest
//!                              └──────────▶ unpacker thread ─▶ inflate, diff id, files
//! ```
//!
//! What an earlier attempt left is read from the file first, and goes the same way. The writer ends last: it knows
//! whether the bytes were right and whether they unpacked, and decides what becomes of the partial file.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;
use davit_proto::id::Digest;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::{LayerState, Pull, PullError};
use crate::content::{BlobWriter, ContentError, Ingest, Turn};
use crate::document::Descriptor;
use crate::snapshot::SnapshotError;
use crate::store::{Store, StoreError};

/// Pieces of the download that wait for the writer, and for the unpacker. A piece may have half a MiB.
const PIECES: usize = 8;

/// A layer on its way, with the right to make it.
struct Job {
    store: Store,
    diff_id: Digest,
    ingest: Ingest,
    /// Held when the layer is to be unpacked too.
    unpacking: Option<Turn>,
}

/// How a layer's bytes ended.
enum Ending {
    /// All are there, verified, unpacked.
    Whole,
    /// The download ended first; its own error tells why.
    Cut,
}

impl Pull {
    /// Makes sure that a layer's blob and files are here. Tells whether something was missing.
    pub(super) async fn layer(&self, blob: Descriptor, diff_id: Digest) -> Result<bool, PullError> {
        let (blob, diff_id) = (&blob, &diff_id);
        let set = |state, current| self.board.set(&blob.digest, state, current, blob.size);
        let mut restarted = false;
        loop {
            let Some(ingest) = self.store.content().ingest(&blob.digest, blob.size).await? else {
                if self.store.snapshots().layer(diff_id)?.is_some() {
                    set(LayerState::Exists, blob.size);
                    return Ok(false);
                }
                set(LayerState::Unpacking, blob.size);
                if self.unpack_here(blob, diff_id).await? {
                    set(LayerState::Complete, blob.size);
                    return Ok(true);
                }
                continue;
            };
            let resumed = ingest.left() > 0 && !restarted;
            match self.fetch(blob, diff_id, ingest, restarted).await {
                // The fault may be in what was left on the disk: once from the start.
                Err(PullError::Store(error)) if resumed && is_wrong(&error) => {
                    tracing::warn!(digest = %blob.digest, "a partial blob was damaged, fetching it anew");
                    restarted = true;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    set(LayerState::Complete, blob.size);
                    return Ok(true);
                }
            }
        }
    }

    /// Unpacks a layer from the blob that is here; false when the blob was damaged, and is gone.
    async fn unpack_here(&self, blob: &Descriptor, diff_id: &Digest) -> Result<bool, PullError> {
        let (store, blob, diff_id) = (self.store.clone(), blob.clone(), diff_id.clone());
        let lost = blob.digest.clone();
        let work = move || match store.add_layer(&blob, &diff_id) {
            Err(StoreError::Snapshot(SnapshotError::Unpack(error)))
                if error.is_content() && store.content().is_damaged(&blob.digest)? =>
            {
                tracing::warn!(digest = %blob.digest, "a blob is damaged, fetching it anew");
                store.content().remove(&blob.digest)?;
                Ok(false)
            }
            other => other.map(|()| true),
        };
        Ok(spawn_blocking(work).await.map_err(|_| PullError::Lost(lost))??)
    }

    async fn fetch(
        &self,
        blob: &Descriptor,
        diff_id: &Digest,
        ingest: Ingest,
        anew: bool,
    ) -> Result<(), PullError> {
        let turn = self.store.unpacking().take(diff_id).await;
        let unpacking = self.store.snapshots().layer(diff_id)?.is_none().then_some(turn);
        let job = Job { store: self.store.clone(), diff_id: diff_id.clone(), ingest, unpacking };
        let (pieces, for_writer) = mpsc::channel(PIECES);
        let (position, at) = oneshot::channel();
        let writer = spawn_blocking(move || job.run(anew, position, for_writer));
        let downloaded = match at.await {
            Ok(offset) => self.download(blob, offset, pieces).await,
            // The writer ended before it knew where to begin.
            Err(_) => Ok(()),
        };
        let ended = writer.await.map_err(|_| PullError::Lost(blob.digest.clone()))?;
        match (ended, downloaded) {
            (Err(error), Ok(())) => Err(error),
            (Ok(Ending::Whole), _) => Ok(()),
            (_, Err(error)) => Err(error),
            (Ok(Ending::Cut), Ok(())) => Err(PullError::Lost(blob.digest.clone())),
        }
    }

    async fn download(
        &self,
        blob: &Descriptor,
        offset: u64,
        pieces: mpsc::Sender<Bytes>,
    ) -> Result<(), PullError> {
        let set = |state, current| self.board.set(&blob.digest, state, current, blob.size);
        set(LayerState::Downloading, offset);
        let mut stream = self.repository.blob(&blob.digest, blob.size, offset);
        let mut current = offset;
        while let Some(piece) = stream.next().await? {
            current += piece.len() as u64;
            if pieces.send(piece).await.is_err() {
                // The writer has failed and tells why.
                return Ok(());
            }
            set(LayerState::Downloading, current);
        }
        set(LayerState::Unpacking, current);
        Ok(())
    }
}

impl Job {
    /// On a thread of its own: takes the bytes, hands them on, and decides at the end.
    fn run(
        self,
        anew: bool,
        position: oneshot::Sender<u64>,
        pieces: mpsc::Receiver<Bytes>,
    ) -> Result<Ending, PullError> {
        let Self { store, diff_id, ingest, unpacking } = self;
        if unpacking.is_none() {
            let writer = if anew { ingest.restart()? } else { ingest.resume(|_| true)? };
            return match take(writer, position, pieces, |_| true)? {
                Some(writer) => writer.commit().map(|()| Ending::Whole).map_err(PullError::from),
                None => Ok(Ending::Cut),
            };
        }
        let (to_unpack, from_writer) = sync_channel(PIECES);
        thread::scope(|scope| {
            let unpacker = scope.spawn(|| {
                let mut source = Source { pieces: from_writer, current: Bytes::new(), ended: false };
                store.snapshots().unpack(&diff_id, &mut source, store.limits())
            });
            let hand_on = |piece: Bytes| to_unpack.send(Piece::Bytes(piece)).is_ok();
            let writer = if anew {
                ingest.restart()
            } else {
                ingest.resume(|piece| hand_on(Bytes::copy_from_slice(piece)))
            };
            let writer = writer.and_then(|writer| take(writer, position, pieces, hand_on));
            finish(writer, to_unpack, || unpacker.join())
        })
    }
}

/// Writes pieces until there are no more. `None` when they ended too early.
fn take(
    mut writer: BlobWriter,
    position: oneshot::Sender<u64>,
    mut pieces: mpsc::Receiver<Bytes>,
    mut hand_on: impl FnMut(Bytes) -> bool,
) -> Result<Option<BlobWriter>, ContentError> {
    // Nobody waits for it any more when the pull was ended.
    let _ = position.send(writer.position());
    while let Some(piece) = pieces.blocking_recv() {
        if let Err(error) = writer.write(&piece) {
            // What is partial would only keep the disk full.
            if error.is_full() {
                writer.discard()?;
            }
            return Err(error);
        }
        if !hand_on(piece) {
            // The unpacker has failed; what is left would be fetched in vain.
            return Ok(Some(writer));
        }
    }
    if !writer.is_complete() {
        if writer.position() == 0 {
            writer.discard()?;
        }
        return Ok(None);
    }
    Ok(Some(writer))
}

/// Waits for the unpacker and decides what becomes of the blob.
fn finish(
    writer: Result<Option<BlobWriter>, ContentError>,
    to_unpack: SyncSender<Piece>,
    unpacked: impl FnOnce() -> thread::Result<Result<crate::snapshot::Layer, SnapshotError>>,
) -> Result<Ending, PullError> {
    if let Ok(Some(writer)) = &writer
        && writer.is_complete()
    {
        // The unpacker may have failed meanwhile, and is asked next.
        let _ = to_unpack.send(Piece::End);
    }
    drop(to_unpack);
    let unpacked = unpacked().map_err(|_| io::Error::other("unpacking thread ended early"));
    let Some(writer) = writer? else { return Ok(Ending::Cut) };
    let unpacked = unpacked.map_err(ContentError::io("unpack", "layer"))?;
    let Err(error) = unpacked else {
        writer.commit()?;
        return Ok(Ending::Whole);
    };
    // Bytes that are not those of the digest are the cause of whatever the unpacker saw.
    let writer = if writer.is_complete() { writer.verify()? } else { writer };
    if let SnapshotError::Unpack(unpack) = &error
        && (unpack.is_content() || unpack.io_error().is_some_and(|e| e.kind() == io::ErrorKind::StorageFull))
    {
        writer.discard()?;
    }
    Err(error.into())
}

/// Whether the bytes themselves are at fault.
fn is_wrong(error: &StoreError) -> bool {
    match error {
        StoreError::Content(ContentError::WrongDigest { .. }) => true,
        StoreError::Snapshot(SnapshotError::Unpack(error)) => error.is_content(),
        _ => false,
    }
}

/// What the writer hands to the unpacker.
enum Piece {
    Bytes(Bytes),
    End,
}

/// The download as the unpacker reads it. An end that was not announced is an error, not an end.
struct Source {
    pieces: Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.recv() {
                Ok(Piece::Bytes(piece)) => self.current = piece,
                Ok(Piece::End) => self.ended = true,
                Err(_) => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "download ended early"));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, n: usize) {
        let n = n.min(self.current.len());
        bytes::Buf::advance(&mut self.current, n);
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = bytes.len().min(into.len());
        into[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}
