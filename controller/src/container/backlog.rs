//! What a client was not yet sent: in memory for a moment's pause, in a nameless file for a longer one, so
//! that `run … | slow` loses nothing although nobody ever waits for the slow one. What is too much even
//! for that is counted.
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
use davit_proto::types::{Dropped, Output};
use prost::Message as _;

/// Bytes of output kept in memory before the file is begun.
const HEAD: usize = 2 << 20;
/// Bytes that go to the file at once.
const BATCH: usize = 1 << 20;
/// Most bytes of the file.
const FILE: u64 = 256 << 20;

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
        Frame::Output(output) => output.data.len(),
        Frame::Attached(_) | Frame::Exit(_) | Frame::Dropped(_) => 0,
    }
}

/// The nameless file and where its batches lie.
#[derive(Debug)]
struct Spill {
    file: Arc<File>,
    batches: VecDeque<(u64, usize)>,
    end: u64,
}

/// Output that waits for a client.
#[derive(Debug)]
pub struct Backlog {
    folder: PathBuf,
    limit: u64,
    head: Queue,
    spill: Option<Spill>,
    tail: Queue,
}

impl Backlog {
    /// An empty one; its file, should it need one, is made in `folder`.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, limit: FILE, head: Queue::default(), spill: None, tail: Queue::default() }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty() && self.spilled() == 0
    }

    fn spilled(&self) -> usize {
        self.spill.as_ref().map_or(0, |spill| spill.batches.len())
    }

    /// Takes a frame. Never waits for the client.
    pub async fn push(&mut self, frame: Frame) {
        if self.tail.is_empty() && self.spilled() == 0 && self.head.bytes < HEAD {
            self.head.push(frame);
            return;
        }
        self.tail.push(frame);
        if self.tail.bytes >= BATCH
            && let Err(error) = self.write().await
        {
            tracing::warn!(%error, "output that a slow client did not take is dropped");
            self.drop_tail();
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
        let (folder, limit, spill) = (self.folder.clone(), self.limit, self.spill.take());
        let at = spill.as_ref().map_or(0, |spill| spill.end);
        let length = bytes.len();
        let known = spill.as_ref().map(|spill| spill.file.clone());
        let written = tokio::task::spawn_blocking(move || {
            if at.saturating_add(length as u64) > limit {
                return Err(io::Error::other(format!("more than {limit} bytes wait for it")));
            }
            let file = match known {
                Some(file) => file,
                None => Arc::new(tempfile::tempfile_in(folder)?),
            };
            file.write_all_at(&bytes, at)?;
            Ok(file)
        });
        let written = written.await.map_err(io::Error::other).and_then(|written| written);
        match (written, spill) {
            (Ok(file), spill) => {
                let mut spill = spill.unwrap_or(Spill { file, batches: VecDeque::new(), end: 0 });
                spill.batches.push_back((at, length));
                spill.end = at + length as u64;
                self.spill = Some(spill);
                self.tail = Queue::default();
                Ok(())
            }
            (Err(error), spill) => {
                self.spill = spill;
                Err(error)
            }
        }
    }

    /// The oldest batch of the file.
    async fn read(&mut self) -> io::Result<Option<Vec<Frame>>> {
        let Some(spill) = &mut self.spill else { return Ok(None) };
        let Some((at, length)) = spill.batches.pop_front() else { return Ok(None) };
        let file = spill.file.clone();
        if spill.batches.is_empty() {
            // The next batch begins a file of its own: this one's room comes free when it was read.
            self.spill = None;
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at)?;
            let mut rest = bytes.as_slice();
            let mut frames = Vec::new();
            while !rest.is_empty() {
                let response =
                    AttachResponse::decode_length_delimited(&mut rest).map_err(io::Error::other)?;
                frames.extend(response.frame);
            }
            Ok(frames)
        });
        read.await.map_err(io::Error::other)?.map(Some)
    }

    /// Makes counts of what there is no room for.
    fn drop_tail(&mut self) {
        let mut kept = Queue::default();
        let mut counts: [Option<Dropped>; 4] = Default::default();
        for frame in std::mem::take(&mut self.tail).frames {
            let (stream, bytes) = match frame {
                Frame::Output(Output { stream, data, .. }) => (stream, data.len() as u64),
                Frame::Dropped(Dropped { stream, bytes }) => (stream, bytes),
                other @ (Frame::Attached(_) | Frame::Exit(_)) => {
                    kept.push(other);
                    continue;
                }
            };
            let slot = usize::try_from(stream).ok().and_then(|at| counts.get_mut(at));
            if let Some(slot) = slot {
                slot.get_or_insert(Dropped { stream, bytes: 0 }).bytes += bytes;
            }
        }
        counts.into_iter().flatten().for_each(|dropped| kept.push(Frame::Dropped(dropped)));
        self.tail = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use davit_proto::types::Stdio;
    use proptest::prelude::*;

    fn output(stream: Stdio, offset: usize, length: usize) -> Frame {
        let data: Bytes = (offset..offset + length).map(|n| u8::try_from(n % 251).unwrap()).collect();
        Frame::Output(Output { stream: stream.into(), offset: offset as u64, data })
    }

    fn backlog(folder: &tempfile::TempDir, limit: u64) -> Backlog {
        Backlog { limit, ..Backlog::new(folder.path().to_owned()) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_comes_out_is_what_went_in(steps in proptest::collection::vec((any::<bool>(), 1_usize..400), 1..60)) {
            let folder = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut backlog = backlog(&folder, FILE);
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
    async fn what_is_too_much_is_counted_where_it_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let mut backlog = backlog(&folder, 3 << 20);
        let total = 20 << 20;
        for offset in (0..total).step_by(32 << 10) {
            backlog.push(output(Stdio::Stdout, offset, 32 << 10)).await;
        }
        backlog.push(output(Stdio::Stderr, 0, 10)).await;
        let (mut next, mut missing, mut errors) = (0, 0, 0);
        while let Some(frame) = backlog.pop().await.unwrap() {
            match frame {
                Frame::Output(output) if output.stream == i32::from(Stdio::Stdout) => {
                    assert_eq!(output.offset, next);
                    next += output.data.len() as u64;
                }
                Frame::Output(output) => errors += output.data.len(),
                Frame::Dropped(dropped) => {
                    next += dropped.bytes;
                    missing += dropped.bytes;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((next, errors), (total as u64, 10));
        assert!(missing > 10 << 20, "{missing}");
    }

    #[tokio::test]
    async fn a_disk_that_refuses_costs_only_what_it_refused() {
        let mut backlog = Backlog::new("/nonexistent/folder".into());
        for offset in (0..8 << 20).step_by(32 << 10) {
            backlog.push(output(Stdio::Stdout, offset, 32 << 10)).await;
        }
        let mut kept = 0;
        while let Some(frame) = backlog.pop().await.unwrap() {
            kept += size(&frame);
        }
        assert!((HEAD..=HEAD + (2 * BATCH)).contains(&kept), "{kept}");
    }
}
