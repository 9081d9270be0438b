//! Sparse entries: files whose holes are not in the archive, in the three forms that are met.
//!
//! ```text
//! GNU's own old form     type 'S', pairs of numbers in the header and in blocks after it
//! PAX 0.1                GNU.sparse.map=offset,length,… in the extended header
//! PAX 1.0                GNU.sparse.major=1, the pairs as text before the data
//! ```
//!
//! Whatever a map says, its pieces ascend, do not touch what is behind the end, and are all of the data there is.

use std::collections::VecDeque;

use crate::pax::digits;
use crate::tar::{BLOCK, Problem};

/// What the keys of extended headers begin with.
pub(super) const KEYS: &[u8] = b"GNU.sparse.";
/// Pieces that a file may have between its holes.
const PIECES: usize = 1_000_000;
/// The largest file that is believed to have holes.
const SIZE: u64 = 1 << 44;
/// Characters of a number in a map of text.
const DIGITS: usize = 20;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Some of the zeros of a hole.
pub(super) fn zeros(hole: u64) -> &'static [u8] {
    &ZEROS[..usize::try_from(hole).map_or(ZEROS.len(), |hole| hole.min(ZEROS.len()))]
}

/// A hole and the data after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub hole: u64,
    pub data: u64,
}

impl Segment {
    pub fn is_empty(&self) -> bool {
        self.hole == 0 && self.data == 0
    }
}

/// What is known of a sparse entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Bytes with the holes.
    pub size: u64,
    /// The name that it really has, where an extended header says one.
    pub name: Option<Vec<u8>>,
    /// Where data is, and how long.
    pub map: Vec<(u64, u64)>,
    version: (Option<u64>, Option<u64>),
    sized: bool,
    mapped: bool,
}

impl Sparse {
    /// A file of so many bytes, whose map is to come.
    pub fn of(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    /// Takes a record of the extended header, whose key is without what all have in common.
    pub fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        let wrong = || Problem::Pax(format!("GNU.sparse.{}", String::from_utf8_lossy(key)));
        let twice = || Problem::Doubled(format!("GNU.sparse.{}", String::from_utf8_lossy(key)));
        match key {
            b"major" | b"minor" => {
                let slot = if key == b"major" { &mut self.version.0 } else { &mut self.version.1 };
                slot.replace(digits(value).ok_or_else(wrong)?).map_or(Ok(()), |_| Err(twice()))
            }
            b"name" if value.is_empty() || value.contains(&0) => Err(wrong()),
            b"name" => self.name.replace(value.to_vec()).map_or(Ok(()), |_| Err(twice())),
            b"size" | b"realsize" if self.sized => Err(twice()),
            b"size" | b"realsize" => {
                self.sized = true;
                self.size = digits(value).ok_or_else(wrong)?;
                Ok(())
            }
            b"map" if self.mapped => Err(twice()),
            b"map" => {
                self.mapped = true;
                let numbers = value.split(|byte| *byte == b',').map(digits).collect::<Option<Vec<u64>>>();
                let numbers = numbers.filter(|numbers| numbers.len() % 2 == 0).ok_or_else(wrong)?;
                self.map = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
                Ok(())
            }
            // How many there are is seen.
            b"numblocks" => digits(value).map(drop).ok_or_else(wrong),
            // The oldest form repeats its keys, which no other record may.
            _ => Err(Problem::Sparse),
        }
    }

    /// Whether the map is before the data.
    pub fn is_in_data(&self) -> bool {
        self.version == (Some(1), Some(0))
    }

    /// Takes pairs of numbers of GNU's old form; false when the last was among them.
    pub fn table(&mut self, bytes: &[u8], number: impl Fn(&[u8]) -> Option<u64>) -> Result<bool, Problem> {
        for pair in bytes.chunks_exact(24) {
            if pair[0] == 0 && pair[12] == 0 {
                return Ok(false);
            }
            let one = |bytes: &[u8]| number(bytes).ok_or(Problem::Number("sparse map"));
            self.map.push((one(&pair[..12])?, one(&pair[12..])?));
            if self.map.len() > PIECES {
                return Err(Problem::HeaderLimit(PIECES as u64));
            }
        }
        Ok(true)
    }

    /// The holes and what is between them, for `data` bytes of data.
    pub fn segments(&self, data: u64) -> Result<VecDeque<Segment>, Problem> {
        let wrong = || Problem::Number("sparse map");
        if self.size > SIZE || (self.version.0.is_some() && !self.is_in_data()) {
            return Err(Problem::Sparse);
        }
        let (mut segments, mut at, mut sum) = (VecDeque::new(), 0_u64, 0_u64);
        for (offset, length) in &self.map {
            let hole = offset.checked_sub(at).ok_or_else(wrong)?;
            at = offset.checked_add(*length).filter(|end| *end <= self.size).ok_or_else(wrong)?;
            sum += length;
            segments.push_back(Segment { hole, data: *length });
        }
        if sum != data {
            return Err(wrong());
        }
        segments.push_back(Segment { hole: self.size - at, data: 0 });
        segments.retain(|segment| !segment.is_empty());
        Ok(segments)
    }
}

/// A map of text that stands before the data: how many pairs, then each number on a line of its own.
#[derive(Debug, Default)]
pub(super) struct InData {
    count: Option<u64>,
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl InData {
    /// Takes a block; true when it was the last.
    pub fn block(&mut self, block: &[u8; BLOCK]) -> Result<bool, Problem> {
        let wrong = || Problem::Number("sparse map");
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > DIGITS {
                    return Err(wrong());
                }
                continue;
            }
            let number = digits(&self.digits).ok_or_else(wrong)?;
            self.digits.clear();
            match self.count {
                None if number > PIECES as u64 => return Err(Problem::HeaderLimit(PIECES as u64)),
                None => self.count = Some(number),
                Some(_) => self.numbers.push(number),
            }
            if self.count.is_some_and(|count| self.numbers.len() as u64 == 2 * count) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The pairs.
    pub fn finish(self) -> Vec<(u64, u64)> {
        self.numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(size: u64, map: &[(u64, u64)]) -> Sparse {
        Sparse { map: map.to_vec(), ..Sparse::of(size) }
    }

    #[test]
    fn holes_are_what_the_map_leaves_out() {
        let segment = |hole, data| Segment { hole, data };
        let of = |size, map: &[(u64, u64)], data| mapped(size, map).segments(data).map(Vec::from);
        assert_eq!(
            of(10, &[(2, 3), (7, 1), (10, 0)], 4).unwrap(),
            [segment(2, 3), segment(2, 1), segment(2, 0)]
        );
        assert_eq!(of(5, &[], 0).unwrap(), [segment(5, 0)]);
        assert_eq!(of(0, &[], 0).unwrap(), []);
        // Overlapping, beyond the end, of other data than there is, beyond all numbers, and beyond belief.
        assert!(of(10, &[(2, 3), (4, 1)], 4).is_err());
        assert!(of(10, &[(8, 3)], 3).is_err());
        assert!(of(10, &[(0, 3)], 4).is_err());
        assert!(of(10, &[(u64::MAX, 2)], 2).is_err());
        assert!(of(SIZE + 1, &[], 0).is_err());
    }

    #[test]
    fn maps_of_text_are_read_over_blocks() {
        let mut bytes = format!("60\n{}", "123456789\n0\n".repeat(60)).into_bytes();
        bytes.resize(2 * BLOCK, 0);
        let (first, second) = bytes.split_at(BLOCK);
        let mut map = InData::default();
        assert!(!map.block(first.try_into().unwrap()).unwrap());
        assert!(map.block(second.try_into().unwrap()).unwrap());
        assert_eq!(map.finish(), [(123_456_789, 0); 60]);
        for wrong in ["x\n", "99999999999\n", "123456789012345678901"] {
            let mut block = [0; BLOCK];
            block[..wrong.len()].copy_from_slice(wrong.as_bytes());
            assert!(InData::default().block(&block).is_err(), "{wrong}");
        }
    }
}
