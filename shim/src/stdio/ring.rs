//! The last bytes of one stream, for a client that comes back.

use std::collections::VecDeque;

use bytes::Bytes;

/// How much is kept of each stream, where nothing else is said.
pub const CAPACITY: usize = 64 << 10;

/// Keeps the end of a stream. Takes no memory before the first byte is kept.
#[derive(Debug)]
pub struct Ring {
    kept: VecDeque<u8>,
    /// How much is kept.
    capacity: usize,
    /// Offset of the byte after the last one kept.
    end: u64,
}

impl Ring {
    /// A ring that begins to keep at an offset.
    pub fn starting_at(offset: u64) -> Self {
        Self { kept: VecDeque::new(), capacity: CAPACITY, end: offset }
    }

    /// A ring for a stream from its first byte on.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { kept: VecDeque::new(), capacity, end: 0 }
    }

    /// Keeps the next bytes of the stream.
    pub fn push(&mut self, data: &[u8]) {
        self.end += data.len() as u64;
        let tail = data.get(data.len().saturating_sub(self.capacity)..).unwrap_or(data);
        let room = self.capacity - tail.len();
        let surplus = self.kept.len().saturating_sub(room);
        self.kept.drain(..surplus);
        if self.kept.capacity() < self.capacity {
            // By doubling, so that a program of few words costs little; and never beyond the capacity.
            let wanted = (self.kept.len() + tail.len()).next_power_of_two().clamp(1 << 10, self.capacity);
            self.kept.reserve_exact(wanted.saturating_sub(self.kept.len()));
        }
        self.kept.extend(tail);
    }

    /// What is kept from an offset on, in pieces of at most `piece` bytes, and the offset of its first byte: the one
    /// asked for, or the oldest kept, or the end when the one asked for is still to come.
    pub fn replay(&self, from: u64, piece: usize) -> (u64, Vec<Bytes>) {
        let oldest = self.end - self.kept.len() as u64;
        let first = from.clamp(oldest, self.end);
        let skip = usize::try_from(first - oldest).unwrap_or(usize::MAX);
        let (a, b) = self.kept.as_slices();
        let wanted =
            [a.get(skip..).unwrap_or_default(), b.get(skip.saturating_sub(a.len())..).unwrap_or_default()];
        let pieces = wanted.iter().flat_map(|part| part.chunks(piece)).map(Bytes::copy_from_slice).collect();
        (first, pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn says_where_it_begins() {
        let mut ring = Ring::starting_at(100);
        assert_eq!(ring.replay(0, 10), (100, Vec::new()));
        ring.push(b"hello");
        assert_eq!(ring.replay(0, 3), (100, vec![Bytes::from("hel"), Bytes::from("lo")]));
        assert_eq!(ring.replay(104, 3), (104, vec![Bytes::from("o")]));
        assert_eq!(ring.replay(999, 3), (105, Vec::new()));
    }

    proptest! {
        #[test]
        fn is_the_end_of_the_stream(
            pushes in prop::collection::vec(0_usize..100_000, 1..12),
            from in 0_u64..400_000,
        ) {
            let mut ring = Ring::starting_at(0);
            let mut all = Vec::new();
            for (n, length) in pushes.into_iter().enumerate() {
                let data: Vec<u8> = (0..length).map(|i| (i * 7 + n) as u8).collect();
                ring.push(&data);
                all.extend(data);
                prop_assert!(ring.kept.capacity() <= CAPACITY);
            }
            prop_assert_eq!(ring.replay(u64::MAX, 1).0, all.len() as u64);
            let (first, pieces) = ring.replay(from, 1000);
            prop_assert!(pieces.iter().all(|p| p.len() <= 1000));
            let oldest = all.len().saturating_sub(CAPACITY) as u64;
            prop_assert_eq!(first, from.clamp(oldest, all.len() as u64));
            prop_assert_eq!(pieces.concat(), &all[first as usize..]);
        }
    }
}
