//! Streams between the wire and threads that block.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use davit_proto::image::{CommitRequest, LoadRequest, SaveResponse, commit_request, load_request};
use davit_proto::status::status;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use super::Answers;
use crate::error::Error;
use crate::pull::{Board, Progress};

/// Largest piece of an archive on the wire.
const PIECE: usize = 64 << 10;
/// Frames that wait for a slow peer.
const FRAMES: usize = 16;

/// Work that ends when nobody wants its answer any more.
struct Work<T>(JoinHandle<T>);

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Does some work and streams what its board tells meanwhile, then its result. A client that does not read holds
/// nothing up; one that goes away ends the work.
pub(super) fn with_progress<T: Send + 'static, A: Send + 'static>(
    board: Arc<Board>,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
    progress: impl Fn(Progress) -> A + Send + 'static,
    result: impl FnOnce(T) -> Vec<A> + Send + 'static,
) -> Answers<A> {
    let (answers, stream) = mpsc::channel(FRAMES);
    let mut work = Work(tokio::spawn(work));
    let tell = async move {
        let done = loop {
            tokio::select! {
                done = &mut work.0 => break done,
                () = board.changed() => {
                    for change in board.take() {
                        if answers.send(Ok(progress(change))).await.is_err() {
                            return;
                        }
                    }
                }
                () = answers.closed() => return,
            }
        };
        let mut last: Vec<Result<A, Status>> =
            board.take().into_iter().map(|change| Ok(progress(change))).collect();
        match done.unwrap_or(Err(Error::Lost)) {
            Ok(value) => last.extend(result(value).into_iter().map(Ok)),
            Err(error) => last.push(Err(status(&error))),
        }
        for answer in last {
            if answers.send(answer).await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(tell);
    Box::pin(ReceiverStream::new(stream))
}

/// A frame that may be bytes of an archive.
pub(super) trait Chunk: Send + 'static {
    /// Its bytes, or why they are none.
    fn chunk(self) -> io::Result<Bytes>;
}

impl Chunk for LoadRequest {
    fn chunk(self) -> io::Result<Bytes> {
        match self.frame {
            Some(load_request::Frame::Chunk(chunk)) => Ok(chunk),
            _ => Err(no_chunk()),
        }
    }
}

impl Chunk for CommitRequest {
    fn chunk(self) -> io::Result<Bytes> {
        match self.frame {
            Some(commit_request::Frame::Chunk(chunk)) => Ok(chunk),
            Some(commit_request::Frame::Abort(why)) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, why))
            }
            _ => Err(no_chunk()),
        }
    }
}

fn no_chunk() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a frame that is no chunk")
}

/// The chunks of an archive as a thread reads them. A stream that breaks off is an error, not an end.
pub(super) fn source<F: Chunk>(mut frames: Streaming<F>) -> impl Read + Send + 'static {
    let (pieces, from_wire) = mpsc::channel(FRAMES);
    tokio::spawn(async move {
        while let Some(frame) = frames.next().await {
            let piece = match frame.map(Chunk::chunk) {
                Ok(chunk) => chunk,
                Err(broken) => {
                    Err(io::Error::new(io::ErrorKind::ConnectionAborted, broken.message().to_owned()))
                }
            };
            if pieces.send(Some(piece)).await.is_err() {
                return;
            }
        }
        // Whoever reads has gone when this fails.
        let _ = pieces.send(None).await;
    });
    Source { from_wire, current: Bytes::new(), ended: false }
}

struct Source {
    from_wire: mpsc::Receiver<Option<io::Result<Bytes>>>,
    current: Bytes,
    ended: bool,
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.from_wire.blocking_recv() {
                Some(Some(piece)) => self.current = piece?,
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let n = self.current.len().min(into.len());
        into[..n].copy_from_slice(&self.current[..n]);
        self.current.advance(n);
        Ok(n)
    }
}

/// Streams what a thread writes. When the client goes away, its next write fails.
pub(super) fn sink(
    work: impl FnOnce(Sink) -> Result<(), Error> + Send + 'static,
) -> Pin<Box<dyn Stream<Item = Result<SaveResponse, Status>> + Send>> {
    let (pieces, to_wire) = mpsc::channel(FRAMES);
    let failed = pieces.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = work(Sink { pieces, pending: Vec::with_capacity(PIECE) }) {
            // Nobody is told when the client is what is missing.
            let _ = failed.blocking_send(Err(status(&error)));
        }
    });
    Box::pin(Saved(to_wire))
}

struct Saved(mpsc::Receiver<Result<SaveResponse, Status>>);

impl Stream for Saved {
    type Item = Result<SaveResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

/// Gathers small writes into pieces for the wire.
pub(super) struct Sink {
    pieces: mpsc::Sender<Result<SaveResponse, Status>>,
    pending: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.len() == PIECE {
            self.flush()?;
        }
        let n = bytes.len().min(PIECE - self.pending.len());
        self.pending.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.pending, Vec::with_capacity(PIECE));
        let sent = self.pieces.blocking_send(Ok(SaveResponse { chunk: chunk.into() }));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
