//! One attached client, as the pump sees it: a queue that may be full.

use std::time::Duration;

use bytes::Bytes;
use davit_proto::types::Exit;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use super::Stream;
use super::source::PIPE;

/// Most bytes in one frame.
pub const PIECE: usize = 32 << 10;
/// Frames that wait for a client.
pub const QUEUE: usize = 16;
/// How long a client that has been keeping up may take for the next piece before it counts as late.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// Most bytes of a stream that a client which says what it has seen has not seen yet, before its exec waits for it.
pub const WINDOW: u64 = 256 << 10;
/// Frames that one read of both streams comes to at most.
const BURST: usize = 2 * PIPE.div_ceil(PIECE);
/// How long a client may take for its last frames.
const LAST: Duration = Duration::from_secs(5);

/// What a client gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Bytes of a stream.
    Output {
        /// Which.
        stream: Stream,
        /// Offset of the first byte.
        offset: u64,
        /// The bytes, at most [`PIECE`].
        data: Bytes,
    },
    /// Bytes of a stream that the client does not get because it was late.
    Dropped {
        /// Which.
        stream: Stream,
        /// How many before the next output of this stream.
        bytes: u64,
    },
    /// The life is over and all its output was sent: always last.
    Exit(Exit),
}

/// The pump's end of a client.
#[derive(Debug)]
pub struct Client {
    frames: mpsc::Sender<Frame>,
    wants: [bool; 2],
    late: bool,
    dropped: [u64; 2],
    /// What it has seen of each stream, where it says that, and as whom it says so.
    seen: Option<(String, [u64; 2])>,
}

impl Client {
    /// A client that wants these streams, and its own end of the queue.
    pub fn new(wants: [bool; 2]) -> (Self, mpsc::Receiver<Frame>) {
        let (frames, queue) = mpsc::channel(QUEUE);
        (Self { frames, wants, late: false, dropped: [0; 2], seen: None }, queue)
    }

    /// Will say what it has seen, and has seen all before these offsets.
    pub fn says_seen(&mut self, session: String, offsets: [u64; 2]) {
        self.seen = Some((session, offsets));
    }

    /// The client of a session has seen all before these offsets.
    pub fn has_seen(&mut self, session: &str, offsets: [u64; 2]) {
        if let Some((_, seen)) = self.seen.as_mut().filter(|(known, _)| known == session) {
            *seen = [seen[0].max(offsets[0]), seen[1].max(offsets[1])];
        }
    }

    /// Whether it can take what one more read of both streams brings, `now` being their offsets.
    pub fn has_room(&self, now: [u64; 2]) -> bool {
        let keeps_up = |stream: Stream| {
            let [out, err] = self.wants;
            let wanted = if stream == Stream::Stdout { out } else { err };
            let seen = self.seen.as_ref().map_or(u64::MAX, |(_, seen)| seen[stream.index()]);
            !wanted || now[stream.index()].saturating_sub(seen) < WINDOW
        };
        self.frames.capacity() >= BURST && Stream::BOTH.into_iter().all(keeps_up)
    }

    /// Resolves when it has gone, or has taken so many frames that there is room for what one more read brings.
    pub async fn moved(&self) {
        if self.frames.capacity() < BURST {
            // The places are given back at once: nobody else fills them. It fails when the client has gone.
            let _ = self.frames.reserve_many(BURST).await;
        } else {
            self.frames.closed().await;
        }
    }

    /// Whether it is still there.
    pub fn is_there(&self) -> bool {
        !self.frames.is_closed()
    }

    /// Another sender for its queue, to see when the client has gone.
    pub fn sender(&self) -> mpsc::Sender<Frame> {
        self.frames.clone()
    }

    /// Sends the next piece of a stream, or counts it as dropped. Takes at most [`PATIENCE`].
    pub async fn offer(&mut self, stream: Stream, offset: u64, data: &Bytes) {
        let [out, err] = self.wants;
        if !(if stream == Stream::Stdout { out } else { err }) {
            return;
        }
        if self.late && !self.catch_up() {
            self.drop_bytes(stream, data.len());
            return;
        }
        let frame = Frame::Output { stream, offset, data: data.clone() };
        let Err(TrySendError::Full(frame)) = self.frames.try_send(frame) else { return };
        let sent = timeout(PATIENCE, self.frames.send(frame)).await;
        if sent.is_err() {
            self.late = true;
            self.drop_bytes(stream, data.len());
        }
    }

    fn drop_bytes(&mut self, stream: Stream, bytes: usize) {
        self.dropped[stream.index()] += bytes as u64;
    }

    /// A late client is served again once it has read everything that waited for it.
    fn catch_up(&mut self) -> bool {
        if self.frames.capacity() < self.frames.max_capacity() {
            return false;
        }
        for frame in self.take_dropped() {
            // There is room for more than two frames, and for a client that has gone it is no loss.
            let _ = self.frames.try_send(frame);
        }
        self.late = false;
        true
    }

    fn take_dropped(&mut self) -> Vec<Frame> {
        let dropped = std::mem::take(&mut self.dropped);
        let frames = Stream::BOTH.into_iter().zip(dropped).filter(|(_, bytes)| *bytes > 0);
        frames.map(|(stream, bytes)| Frame::Dropped { stream, bytes }).collect()
    }

    /// Sends the last frames; the client has [`LAST`] to take them.
    pub async fn finish(mut self, exit: Exit) {
        let mut frames = self.take_dropped();
        frames.push(Frame::Exit(exit));
        let send = async {
            for frame in frames {
                if self.frames.send(frame).await.is_err() {
                    return;
                }
            }
        };
        if timeout(LAST, send).await.is_err() {
            tracing::warn!("an attached client did not take the last frames");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn output(offset: u64, data: &Bytes) -> Frame {
        Frame::Output { stream: Stream::Stdout, offset, data: data.clone() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_client_costs_one_wait_and_learns_what_it_missed() {
        let (mut client, mut queue) = Client::new([true, true]);
        let data = Bytes::from_static(b"0123456789");
        for n in 0..QUEUE as u64 {
            client.offer(Stream::Stdout, n * 10, &data).await;
        }
        let before = Instant::now();
        client.offer(Stream::Stdout, 160, &data).await;
        assert_eq!(before.elapsed(), PATIENCE);
        client.offer(Stream::Stdout, 170, &data).await;
        client.offer(Stream::Stderr, 0, &data).await;
        assert_eq!(before.elapsed(), PATIENCE, "late is late: no second wait");
        for n in 0..QUEUE as u64 {
            assert_eq!(queue.recv().await, Some(output(n * 10, &data)));
        }
        client.offer(Stream::Stdout, 180, &data).await;
        assert_eq!(queue.recv().await, Some(Frame::Dropped { stream: Stream::Stdout, bytes: 20 }));
        assert_eq!(queue.recv().await, Some(Frame::Dropped { stream: Stream::Stderr, bytes: 10 }));
        assert_eq!(queue.recv().await, Some(output(180, &data)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_keeps_up_gets_everything() {
        let (mut client, mut queue) = Client::new([true, false]);
        let reader = tokio::spawn(async move {
            let mut bytes = 0;
            while let Some(frame) = queue.recv().await {
                match frame {
                    Frame::Output { data, .. } => bytes += data.len(),
                    Frame::Dropped { .. } => panic!("nothing was to be dropped"),
                    Frame::Exit(_) => break,
                }
                tokio::time::sleep(PATIENCE / 2).await;
            }
            bytes
        });
        let data = Bytes::from(vec![1; 1000]);
        for n in 0..100 {
            client.offer(Stream::Stdout, n * 1000, &data).await;
            client.offer(Stream::Stderr, n * 1000, &data).await;
        }
        client.finish(Exit::default()).await;
        assert_eq!(reader.await.unwrap(), 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_went_costs_nothing() {
        let (mut client, queue) = Client::new([true, true]);
        drop(queue);
        assert!(!client.is_there());
        let before = Instant::now();
        for n in 0..100 {
            client.offer(Stream::Stdout, n, &Bytes::from_static(b"x")).await;
        }
        client.finish(Exit::default()).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
