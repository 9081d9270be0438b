//! Bytes on their way to a registry: read as the connection takes them, from any place, as often as it takes.

use std::fs::File;
use std::future::Future as _;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::error::Failure;

/// Bytes that are read from the disk at once.
const PIECE: usize = 256 << 10;

/// Told how far into the whole the connection has come.
pub type Meter = Arc<dyn Fn(u64) + Send + Sync>;

/// A part of a file, or a few bytes in memory, to be sent.
#[derive(Clone)]
pub(super) struct Payload {
    from: From,
    /// Place of the first byte.
    offset: u64,
    length: u64,
    /// Bytes that the connection took, over every attempt: tells that something still moves.
    taken: Arc<AtomicU64>,
    meter: Option<Meter>,
}

#[derive(Clone)]
enum From {
    Memory(Bytes),
    File(Arc<File>),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Payload")
            .field("offset", &self.offset)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Payload {
    /// Bytes in memory.
    pub(super) fn memory(bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        Self { from: From::Memory(bytes), offset: 0, length, taken: Arc::default(), meter: None }
    }

    /// A part of a file.
    pub(super) fn file(file: Arc<File>, offset: u64, length: u64, meter: Meter) -> Self {
        Self { from: From::File(file), offset, length, taken: Arc::default(), meter: Some(meter) }
    }

    /// The body of one request.
    pub(super) fn body(&self) -> reqwest::Body {
        match &self.from {
            From::Memory(bytes) => bytes.clone().into(),
            From::File(_) => {
                let end = self.offset.saturating_add(self.length);
                reqwest::Body::wrap(Reading { payload: self.clone(), at: self.offset, end, piece: None })
            }
        }
    }

    /// Waits for the answer to a request with this body for as long as the connection takes bytes: `idle` at most
    /// between two of them, `answer` after the last.
    pub(super) async fn watch<T>(
        &self,
        send: impl Future<Output = reqwest::Result<T>>,
        idle: Duration,
        answer: Duration,
    ) -> Result<T, Failure> {
        let mut send = std::pin::pin!(send);
        let mut seen = self.taken.load(Ordering::Relaxed);
        let begun = seen;
        loop {
            let whole = matches!(self.from, From::Memory(_)) || seen - begun >= self.length;
            let patience = if whole { answer } else { idle };
            match tokio::time::timeout(patience, &mut send).await {
                Ok(outcome) => return outcome.map_err(Failure::from_http),
                Err(_) => {
                    let now = self.taken.load(Ordering::Relaxed);
                    if now == seen {
                        return Err(Failure::TimedOut(patience));
                    }
                    seen = now;
                }
            }
        }
    }
}

/// A part of a file as a body.
struct Reading {
    payload: Payload,
    at: u64,
    end: u64,
    piece: Option<JoinHandle<io::Result<Bytes>>>,
}

impl http_body::Body for Reading {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let left = self.end - self.at;
        if left == 0 {
            return Poll::Ready(None);
        }
        let (from, at) = (self.payload.from.clone(), self.at);
        let piece =
            self.piece.get_or_insert_with(|| tokio::task::spawn_blocking(move || read(&from, at, left)));
        let outcome = ready!(Pin::new(piece).poll(context));
        self.piece = None;
        let bytes = outcome.map_err(io::Error::other).flatten()?;
        let length = bytes.len() as u64;
        self.at += length;
        self.payload.taken.fetch_add(length, Ordering::Relaxed);
        if let Some(meter) = &self.payload.meter {
            meter(self.at);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}

fn read(from: &From, at: u64, left: u64) -> io::Result<Bytes> {
    let From::File(file) = from else { return Ok(Bytes::new()) };
    // At most a piece, so it fits a `usize`.
    let mut buffer = vec![0; left.min(PIECE as u64) as usize];
    let read = loop {
        match file.read_at(&mut buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if read == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob on the disk is too short"));
    }
    buffer.truncate(read);
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    async fn pieces(mut body: Reading) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(frame) =
            std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await
        {
            bytes.extend_from_slice(&frame?.into_data().unwrap());
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn any_part_of_a_file_is_sent() {
        let content: Vec<u8> = (0..700_000_u32).map(|n| (n % 253) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let reached = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&reached);
        let meter: Meter = Arc::new(move |at| told.store(at, Ordering::Relaxed));
        let file = Arc::new(file);
        for (offset, length) in [(0, 700_000), (5, 600_000), (699_999, 1), (3, 0)] {
            let payload = Payload::file(Arc::clone(&file), offset, length, Arc::clone(&meter));
            let body = Reading { payload, at: offset, end: offset + length, piece: None };
            assert_eq!(http_body::Body::size_hint(&body).exact(), Some(length));
            let sent = pieces(body).await.unwrap();
            assert_eq!(sent, &content[offset as usize..(offset + length) as usize]);
        }
        assert_eq!(reached.load(Ordering::Relaxed), 700_000);
        let payload = Payload::file(file, 699_999, 2, meter);
        let body = Reading { payload, at: 699_999, end: 700_001, piece: None };
        assert_eq!(pieces(body).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn only_what_stands_still_is_given_up() {
        let payload = Payload::memory(Bytes::from_static(b"x"));
        let (idle, answer) = (Duration::from_millis(10), Duration::from_millis(20));
        let never = std::future::pending::<reqwest::Result<()>>();
        assert_eq!(payload.watch(never, idle, answer).await, Err(Failure::TimedOut(answer)));
        assert_eq!(payload.watch(std::future::ready(Ok(1)), idle, answer).await, Ok(1));
    }
}
