//! What a client was not yet sent: in memory for a moment's pause, in a nameless file for a longer one, so
//! that `run … | slow` loses nothing and slows nobody. When that is full too, there is no room until the
//! client has taken some, and the shim decides how long it waits.
//!
//! ```text
//! from the shim ──▶ tail ──▶ file ──▶ head ──▶ to the client
//!                     └──── (nothing in the file) ────▲
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use davit_proto::task::AttachResponse;
use davit_proto::task::attach_response::Frame;
use prost::Message as _;

/// Bytes of output kept in memory before the file is begun.
const HEAD: usize = 2 << 20;
/// Bytes that go to the file at once.
const BATCH: usize = 1 << 20;
/// Bytes that a batch may come to, its last frame included.
const SLOT: u64 = (BATCH as u64) + (64 << 10);
/// Batches that the file holds at most.
const SLOTS: u64 = 256;
/// What a frame costs beside its bytes.
const FRAME: usize = 64;

/// Frames in order.
#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, frame: Frame) {
        self.bytes += size(&frame);
        self.frames.push_back(frame);
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= size(&frame);
        Some(frame)
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

fn size(frame: &Frame) -> usize {
    match frame {
        Frame::Output(output) => FRAME + output.data.len(),
        Frame::Attached(_) | Frame::Exit(_) | Frame::Dropped(_) => FRAME,
    }
}

/// The nameless file and where its batches lie.
#[derive(Debug)]
struct Spill {
    file: Arc<File>,
    /// Oldest first.
    batches: VecDeque<Batch>,
    /// Slots that were read, to be written again.
    free: Vec<u64>,
    /// Slots that were ever written.
    used: u64,
}

/// Frames in a slot of the file.
#[derive(Debug, Clone, Copy)]
struct Batch {
    slot: u64,
    /// Bytes in the file.
    length: usize,
    /// What they count as.
    bytes: usize,
}

impl Spill {
    async fn new(folder: PathBuf) -> io::Result<Self> {
        let file = blocking(move || tempfile::tempfile_in(folder)).await?;
        Ok(Self { file: Arc::new(file), batches: VecDeque::new(), free: Vec::new(), used: 0 })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Output that waits for a client.
#[derive(Debug)]
pub struct Backlog {
    folder: PathBuf,
    slots: u64,
    head: Queue,
    spill: Option<Spill>,
    tail: Queue,
    /// The file could not be written, so memory is all there is.
    failed: bool,
}

impl Backlog {
    /// An empty one; its file, should it need one, is made in `folder`.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            slots: SLOTS,
            head: Queue::default(),
            spill: None,
            tail: Queue::default(),
            failed: false,
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty() && self.spilled() == 0
    }

    fn spilled(&self) -> usize {
        self.spill.as_ref().map_or(0, |spill| spill.batches.iter().map(|batch| batch.bytes).sum())
    }

    /// Whether one more frame may be pushed.
    #[must_use]
    pub fn has_room(&self) -> bool {
        if self.failed {
            return self.tail.bytes < BATCH;
        }
        // Each batch counts at least as one, so below this there is a slot for the next.
        let limit = usize::try_from(self.slots.saturating_sub(1)).unwrap_or(usize::MAX).saturating_mul(BATCH);
        self.head.bytes + self.spilled() + self.tail.bytes < limit
    }

    /// Takes a frame. Never waits for the client.
    pub async fn push(&mut self, frame: Frame) {
        if self.tail.is_empty() && self.spilled() == 0 && self.head.bytes < HEAD {
            self.head.push(frame);
            return;
        }
        self.tail.push(frame);
        if self.tail.bytes < BATCH {
            return;
        }
        match self.write().await {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(%error, "output that a slow client has not taken stays in memory");
                }
            }
        }
    }

    /// The next frame for the client.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn pop(&mut self) -> io::Result<Option<Frame>> {
        if self.head.is_empty() {
            match self.read().await? {
                Some(frames) => frames.into_iter().for_each(|frame| self.head.push(frame)),
                None => std::mem::swap(&mut self.head, &mut self.tail),
            }
        }
        Ok(self.head.pop())
    }

    /// Moves the tail to the file.
    async fn write(&mut self) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(BATCH + (64 << 10));
        for frame in &self.tail.frames {
            let response = AttachResponse { frame: Some(frame.clone()) };
            response.encode_length_delimited(&mut bytes).map_err(io::Error::other)?;
        }
        let mut spill = match self.spill.take() {
            Some(spill) => spill,
            None => Spill::new(self.folder.clone()).await?,
        };
        let slot = spill.free.pop().unwrap_or(spill.used);
        let (file, length) = (spill.file.clone(), bytes.len());
        let written = if slot < self.slots && length as u64 <= SLOT {
            blocking(move || file.write_all_at(&bytes, slot * SLOT)).await
        } else {
            Err(io::Error::other("no slot of the file is free"))
        };
        match written {
            Ok(()) => {
                spill.batches.push_back(Batch { slot, length, bytes: self.tail.bytes });
                spill.used = spill.used.max(slot + 1);
                self.tail = Queue::default();
            }
            Err(_) if slot < spill.used => spill.free.push(slot),
            Err(_) => {}
        }
        self.spill = Some(spill).filter(|spill| !spill.batches.is_empty());
        written
    }

    /// The oldest batch of the file.
    async fn read(&mut self) -> io::Result<Option<Vec<Frame>>> {
        let Some(spill) = &mut self.spill else { return Ok(None) };
        let Some(Batch { slot, length, .. }) = spill.batches.pop_front() else { return Ok(None) };
        let file = spill.file.clone();
        spill.free.push(slot);
        if spill.batches.is_empty() {
            // The next batch begins a file of its own: this one's room comes free when it was read.
            self.spill = None;
        }
        let read = blocking(move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, slot * SLOT)?;
            let mut rest = bytes.as_slice();
            let mut frames = Vec::new();
            while !rest.is_empty() {
                let response =
                    AttachResponse::decode_length_delimited(&mut rest).map_err(io::Error::other)?;
                frames.extend(response.frame);
            }
            Ok(frames)
        });
        read.await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use davit_proto::types::{Output, Stdio};
    use proptest::prelude::*;

    fn output(stream: Stdio, offset: usize, length: usize) -> Frame {
        let data = Bytes::from(vec![u8::try_from(offset / length % 251).unwrap(); length]);
        Frame::Output(Output { stream: stream.into(), offset: offset as u64, data })
    }

    fn backlog(folder: &tempfile::TempDir, slots: u64) -> Backlog {
        Backlog { slots, ..Backlog::new(folder.path().to_owned()) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn what_comes_out_is_what_went_in(steps in proptest::collection::vec((any::<bool>(), 1_usize..150), 1..16)) {
            let folder = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut backlog = backlog(&folder, SLOTS);
                let (mut next, mut seen) = (0, 0);
                for (push, count) in steps {
                    for _ in 0..count {
                        if push {
                            backlog.push(output(Stdio::Stdout, next, 32 << 10)).await;
                            next += 32 << 10;
                        } else if let Some(frame) = backlog.pop().await.unwrap() {
                            assert_eq!(frame, output(Stdio::Stdout, seen, 32 << 10));
                            seen += 32 << 10;
                        }
                    }
                }
                while let Some(frame) = backlog.pop().await.unwrap() {
                    assert_eq!(frame, output(Stdio::Stdout, seen, 32 << 10));
                    seen += 32 << 10;
                }
                assert_eq!(seen, next);
                assert!(backlog.is_empty());
            });
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
        }
    }

    #[tokio::test]
    async fn a_client_that_stays_behind_uses_the_same_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut backlog = backlog(&folder, 8);
        let (mut pushed, mut popped) = (0, 0);
        while pushed < 64 << 20 {
            backlog.push(output(Stdio::Stdout, pushed, 32 << 10)).await;
            pushed += 32 << 10;
            if pushed - popped > 5 << 20 {
                let frame = backlog.pop().await.unwrap();
                assert_eq!(frame, Some(output(Stdio::Stdout, popped, 32 << 10)));
                popped += 32 << 10;
            }
        }
        assert!(backlog.spill.is_some_and(|spill| spill.used <= 8));
    }

    /// Pushes while there is room; answers with how much that was.
    async fn filled(backlog: &mut Backlog) -> usize {
        let mut pushed = 0;
        while backlog.has_room() {
            backlog.push(output(Stdio::Stdout, pushed, 32 << 10)).await;
            pushed += 32 << 10;
        }
        pushed
    }

    async fn drained(backlog: &mut Backlog) -> usize {
        let mut seen = 0;
        while let Some(frame) = backlog.pop().await.unwrap() {
            assert_eq!(frame, output(Stdio::Stdout, seen, 32 << 10));
            seen += 32 << 10;
        }
        seen
    }

    #[tokio::test]
    async fn a_full_backlog_has_room_again_for_each_frame_that_was_taken() {
        let folder = tempfile::tempdir().unwrap();
        let mut backlog = backlog(&folder, 8);
        let mut pushed = filled(&mut backlog).await;
        assert!((6 << 20..8 << 20).contains(&pushed), "{pushed}");
        let mut popped = 0;
        while popped < 20 << 20 {
            assert_eq!(backlog.pop().await.unwrap(), Some(output(Stdio::Stdout, popped, 32 << 10)));
            popped += 32 << 10;
            assert!(backlog.has_room());
            backlog.push(output(Stdio::Stdout, pushed, 32 << 10)).await;
            pushed += 32 << 10;
            assert!(!backlog.has_room() && !backlog.failed);
        }
    }

    #[tokio::test]
    async fn a_disk_that_refuses_costs_room_and_no_byte() {
        let mut backlog = Backlog::new("/nonexistent/folder".into());
        let pushed = filled(&mut backlog).await;
        assert!((HEAD..=HEAD + (2 * BATCH)).contains(&pushed), "{pushed}");
        assert_eq!(drained(&mut backlog).await, pushed);
        assert!(backlog.has_room());
    }
}
