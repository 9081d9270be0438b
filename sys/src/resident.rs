//! What this process keeps in memory, and giving back what it only needed for a while.

#![expect(unsafe_code, reason = "the allocator and pages of the program have no wrappers")]

use std::io;
use std::time::Duration;

use rustix::mm::{Advice, madvise};
use rustix::time::{ClockId, clock_gettime};

/// A mapping of `/proc/self/maps`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    begin: usize,
    end: usize,
    permissions: &'a str,
    path: &'a str,
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let (begin, end) = words.next()?.split_once('-')?;
        let permissions = words.next()?;
        let path = words.nth(3).unwrap_or_default().trim_start();
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some(Self { begin: address(begin)?, end: address(end)?, permissions, path })
    }

    /// Instructions of a file, which nobody can have written to.
    fn is_program(&self) -> bool {
        self.permissions == "r-xp" && self.path.starts_with('/')
    }
}

/// Keeps the allocator to so many heaps for all threads together: each keeps what it was given.
pub fn limit_heaps(heaps: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's own. That it takes none is nothing that we could do anything about.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, heaps);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = heaps;
}

/// Gives back what the allocator holds and nobody uses.
pub fn give_back_free() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches nothing that anybody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the program's instructions: those that are run again come back from the page cache, at the price of a
/// fault, and those that only a start needs do not.
///
/// # Errors
/// When the kernel does not say what is mapped.
pub fn give_back_program() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for program in maps.lines().filter_map(Mapping::parse).filter(Mapping::is_program) {
        let at = std::ptr::with_exposed_provenance_mut(program.begin);
        // SAFETY: a private mapping that is not writable holds what its file holds, so the next access reads the same.
        unsafe { madvise(at, program.end - program.begin, Advice::LinuxDontNeed) }?;
    }
    Ok(())
}

/// Bytes of memory that this process has mapped and that are there.
///
/// # Errors
/// When the kernel does not say.
pub fn bytes() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).and_then(|word| word.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "statm has no such field"))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Processor time that all threads of this process have used.
#[must_use]
pub fn worked() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read() {
        let line = "55ec8e2ee000-55ec8fc95000 r-xp 008d4000 fe:00 123                        /usr/bin/a b";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.end - mapping.begin, 0x19a_7000);
        assert_eq!(mapping.path, "/usr/bin/a b");
        assert!(mapping.is_program());
        for other in [
            "55ec8fc95000-55ec8fd86000 r--p 0227a000 fe:00 123   /usr/bin/a",
            "7ffd0a1f0000-7ffd0a1f2000 r-xp 00000000 00:00 0     [vdso]",
            "7f8fec000000-7f8fece12000 rw-p 00000000 00:00 0 ",
        ] {
            assert!(!Mapping::parse(other).unwrap().is_program(), "{other}");
        }
        assert_eq!(Mapping::parse(""), None);
    }

    #[test]
    fn a_process_runs_on_without_what_it_gave_back() {
        limit_heaps(2);
        let before = worked();
        let much = vec![7_u8; 8 << 20];
        assert_eq!(much.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 7 * (8 << 20));
        assert!(bytes().unwrap() > 8 << 20);
        drop(much);
        give_back_free();
        give_back_program().unwrap();
        assert!(worked() > before);
    }
}
