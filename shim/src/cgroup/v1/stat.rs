//! Counters of v1 hierarchies.

use std::fs;
use std::io;
use std::path::Path;

use super::super::{CgroupError, Counters, Doing, counter};
use super::Controllers;

/// A limit above this is none: the kernel's own is the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 62;

/// Bytes that went to and from block devices, where the kernel counts them: by the throttle, which sees all, or by the
/// one scheduler that knows of cgroups.
const BLOCK: [&str; 3] = [
    "blkio.throttle.io_service_bytes_recursive",
    "blkio.bfq.io_service_bytes_recursive",
    "blkio.io_service_bytes_recursive",
];

impl Controllers {
    /// Reads the counters; what this host does not count is 0.
    pub(super) fn read_counters(&self) -> Result<Counters, CgroupError> {
        let number = |controller, file| -> Result<u64, CgroupError> {
            let text = self.read(controller, file)?;
            Ok(text.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
        };
        let stat = self.read("memory", "memory.stat")?.unwrap_or_default();
        let of_stat = |key| counter(&stat, key).unwrap_or(0);
        let mut counters = Counters {
            cpu_nanoseconds: number("cpuacct", "cpuacct.usage")?,
            // What the kernel would give back at once is not what somebody needs.
            memory: number("memory", "memory.usage_in_bytes")?.saturating_sub(of_stat("total_inactive_file")),
            memory_limit: Some(of_stat("hierarchical_memory_limit")).filter(|n| (1..NO_LIMIT).contains(n)),
            pids: number("pids", "pids.current")?,
            ..Counters::default()
        };
        for file in BLOCK {
            let (read, written) = block_bytes(&self.read("blkio", file)?.unwrap_or_default());
            counters.block_read = counters.block_read.max(read);
            counters.block_written = counters.block_written.max(written);
        }
        Ok(counters)
    }

    fn read(&self, controller: &str, file: &str) -> Result<Option<String>, CgroupError> {
        match self.dir(controller) {
            Some(dir) => read_if_there(&dir.join(file)),
            None => Ok(None),
        }
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).doing(|| format!("read {}", path.display())),
    }
}

/// Bytes read and written over all devices: `8:0 Read 4096`.
fn block_bytes(text: &str) -> (u64, u64) {
    let sum = |wanted: &str| {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            (words.next()? == wanted).then(|| words.next()?.parse::<u64>().ok())?
        });
        lines.fold(0_u64, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_added_up() {
        let text = "8:0 Read 4096\n8:0 Write 1\n8:0 Sync 7\n8:16 Read 4\n8:16 Write 2\nTotal 4103\n";
        assert_eq!(block_bytes(text), (4100, 3));
        assert_eq!(block_bytes("Total 0\n"), (0, 0));
        assert_eq!(block_bytes("8:0 Read x\n\n8:0\n"), (0, 0));
    }
}
