//! The stack of a process's first thread: a deep call leaves pages behind that the kernel keeps for ever.

#![expect(unsafe_code, reason = "madvise(2) on one's own stack")]

use std::io;
use std::ops::Range;

/// Where the first thread's stack was mapped when this was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    addresses: Range<usize>,
}

/// Left alone below the caller: its own calls from here on, and what the ABI lets a leaf function keep below its frame.
const MARGIN: usize = 8 << 10;
const PAGE: usize = 4 << 10;

impl Stack {
    /// Finds it. The stack may grow later and never shrinks.
    pub fn find() -> io::Result<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let addresses = maps.lines().find_map(|line| {
            let (range, _) = line.strip_suffix("[stack]")?.split_once(' ')?;
            let (low, high) = range.split_once('-')?;
            Some(usize::from_str_radix(low, 16).ok()?..usize::from_str_radix(high, 16).ok()?)
        });
        addresses.map(|addresses| Self { addresses }).ok_or_else(|| io::Error::other("no stack is mapped"))
    }

    /// Gives back the pages that calls deeper than the present one have touched. On another thread than the first, or
    /// when there is nothing to give back, nothing is done.
    pub fn trim(&self) -> io::Result<()> {
        let here = 0_u8;
        let here = std::ptr::from_ref(&here).addr();
        let end = here.saturating_sub(MARGIN) & !(PAGE - 1);
        if !self.addresses.contains(&here) || end <= self.addresses.start {
            return Ok(());
        }
        let low = std::ptr::without_provenance_mut(self.addresses.start);
        // SAFETY: the range is mapped as this thread's stack and ends well below the present frame, where nothing is
        // alive; whoever calls deeper again finds fresh pages, as on a first call.
        let result = unsafe { libc::madvise(low, end - self.addresses.start, libc::MADV_DONTNEED) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_found_and_other_threads_are_left_alone() {
        let stack = Stack::find().unwrap();
        assert!(stack.addresses.len() >= 64 << 10);
        // Tests run on threads of their own.
        let here = 0_u8;
        assert!(!stack.addresses.contains(&std::ptr::from_ref(&here).addr()));
        stack.trim().unwrap();
    }
}
