//! What was typed and may have to be sent once more: a connection that broke took an unknown part of it along.

use std::collections::VecDeque;

use bytes::Bytes;
use davit_proto::types::Input;

/// More than fits between this process and a container's input: all windows, queues and buffers on the way.
const KEPT: usize = 4 << 20;

/// Input by offset, from the oldest byte that may still be on its way.
#[derive(Debug, Default)]
pub struct Typed {
    /// Offset of the first byte that is kept.
    begin: u64,
    kept: VecDeque<Bytes>,
    size: usize,
    /// Nothing follows.
    ended: bool,
}

/// The container took less than what is remembered here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "input was lost while the engine was away: it took {taken} bytes, and those before byte {begin} are gone"
)]
pub struct Lost {
    taken: u64,
    begin: u64,
}

impl Typed {
    /// More was typed: the frame that carries it.
    pub fn push(&mut self, data: Bytes) -> Input {
        let offset = self.end();
        self.size += data.len();
        self.kept.push_back(data.clone());
        while let Some(oldest) = self.kept.front().filter(|oldest| self.size - oldest.len() >= KEPT) {
            self.size -= oldest.len();
            self.begin += oldest.len() as u64;
            self.kept.pop_front();
        }
        Input { offset, data, eof: false }
    }

    /// Nothing more will be typed: the frame that says so.
    pub fn finish(&mut self) -> Input {
        self.ended = true;
        Input { offset: self.end(), data: Bytes::new(), eof: true }
    }

    /// What a container that took so many bytes must be sent once more.
    pub fn again(&self, taken: u64) -> Result<VecDeque<Input>, Lost> {
        if taken < self.begin {
            return Err(Lost { taken, begin: self.begin });
        }
        let mut offset = self.begin;
        let mut frames = VecDeque::new();
        for data in &self.kept {
            let end = offset + data.len() as u64;
            if end > taken {
                frames.push_back(Input { offset, data: data.clone(), eof: false });
            }
            offset = end;
        }
        if self.ended {
            frames.push_back(Input { offset, data: Bytes::new(), eof: true });
        }
        Ok(frames)
    }

    fn end(&self) -> u64 {
        self.begin + self.size as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_is_sent_again_and_the_end_too() {
        let mut typed = Typed::default();
        assert_eq!(typed.push("abc".into()).offset, 0);
        assert_eq!(typed.push("de".into()).offset, 3);
        let frames = |typed: &Typed, taken| {
            let frames = typed.again(taken).unwrap();
            frames.iter().map(|frame| (frame.offset, frame.data.len(), frame.eof)).collect::<Vec<_>>()
        };
        assert_eq!(frames(&typed, 0), [(0, 3, false), (3, 2, false)]);
        assert_eq!(frames(&typed, 1), [(0, 3, false), (3, 2, false)], "the container skips what it took");
        assert_eq!(frames(&typed, 3), [(3, 2, false)]);
        assert_eq!(frames(&typed, 5), []);
        assert!(typed.finish().eof);
        assert_eq!(frames(&typed, 5), [(5, 0, true)]);
    }

    #[test]
    fn memory_is_bounded_and_a_gap_is_an_error() {
        let mut typed = Typed::default();
        let piece = Bytes::from(vec![0; 32 << 10]);
        for _ in 0..1000 {
            typed.push(piece.clone());
        }
        assert!((KEPT..KEPT + piece.len()).contains(&typed.size), "{}", typed.size);
        assert!(typed.again(typed.begin).is_ok());
        assert_eq!(typed.again(typed.begin - 1), Err(Lost { taken: typed.begin - 1, begin: typed.begin }));
    }
}
