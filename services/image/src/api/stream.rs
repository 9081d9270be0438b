//! Streams between the wire and threads that block.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use davit_proto::image::{CommitRequest, LoadRequest, SaveResponse, commit_request, load_request};
use davit_proto::pieces::{Piece, Pieces, Sink};
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
    /// Whether a frame of its own says that the archive is whole. Without it an end that is only the client's, who
    /// broke the call off, cannot be told from the archive's.
    const SAYS_ITS_END: bool;

    /// Its bytes, the end, or why it is neither.
    fn chunk(self) -> Piece;
}

impl Chunk for LoadRequest {
    // Every part of an image is named by its digest.
    const SAYS_ITS_END: bool = false;

    fn chunk(self) -> Piece {
        match self.frame {
            Some(load_request::Frame::Chunk(chunk)) => Ok(Some(chunk)),
            _ => Err(no_chunk()),
        }
    }
}

impl Chunk for CommitRequest {
    const SAYS_ITS_END: bool = true;

    fn chunk(self) -> Piece {
        match self.frame {
            Some(commit_request::Frame::Chunk(chunk)) => Ok(Some(chunk)),
            Some(commit_request::Frame::End(_)) => Ok(None),
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
    let (pieces, source) = Pieces::channel(FRAMES);
    tokio::spawn(async move {
        while let Some(frame) = frames.next().await {
            let piece = match frame.map(Chunk::chunk) {
                Ok(chunk) => chunk,
                Err(broken) => {
                    Err(io::Error::new(io::ErrorKind::ConnectionAborted, broken.message().to_owned()))
                }
            };
            let is_last = !matches!(piece, Ok(Some(_)));
            if pieces.send(piece).await.is_err() || is_last {
                return;
            }
        }
        if !F::SAYS_ITS_END {
            // Whoever reads has gone when this fails.
            let _ = pieces.send(Ok(None)).await;
        }
    });
    source
}

/// Streams what a thread writes. When the client goes away, its next write fails.
pub(super) fn sink(
    work: impl FnOnce(&mut dyn Write) -> Result<(), Error> + Send + 'static,
) -> Pin<Box<dyn Stream<Item = Result<SaveResponse, Status>> + Send>> {
    let (pieces, to_wire) = mpsc::channel(FRAMES);
    let failed = pieces.clone();
    tokio::task::spawn_blocking(move || {
        let mut sink = Sink::new(PIECE, |chunk| {
            let sent = pieces.blocking_send(Ok(SaveResponse { chunk }));
            sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        if let Err(error) = work(&mut sink) {
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
