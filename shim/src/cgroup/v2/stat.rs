//! Counters of the unified hierarchy.

use std::io;

use super::super::dir::Dir;
use super::super::{CgroupError, Counters, counter};

/// Reads the counters of a cgroup and all below it; what this host does not count is 0.
pub(super) fn read_counters(dir: &Dir) -> Result<Counters, CgroupError> {
    let text = |file: &str| match dir.read(file) {
        Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    };
    let number = |file: &str| text(file).map(|text| text.trim().parse::<u64>().unwrap_or(0));
    let (read, written) = block_bytes(&text("io.stat")?);
    let idle = counter(&text("memory.stat")?, "inactive_file").unwrap_or(0);
    Ok(Counters {
        cpu_nanoseconds: counter(&text("cpu.stat")?, "usage_usec").unwrap_or(0).saturating_mul(1000),
        // What the kernel would give back at once is not what somebody needs.
        memory: number("memory.current")?.saturating_sub(idle),
        memory_limit: Some(number("memory.max")?).filter(|limit| *limit != 0),
        pids: number("pids.current")?,
        block_read: read,
        block_written: written,
    })
}

/// Bytes read and written over all devices: `8:0 rbytes=1 wbytes=2 rios=…`.
fn block_bytes(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words =
            text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        words.fold(0_u64, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_added_up() {
        let text =
            "254:0 rbytes=4096 wbytes=1 rios=1 wios=1 dbytes=0 dios=0\n8:0 rbytes=4 wbytes=2 rios=1\n7:0 \n";
        assert_eq!(block_bytes(text), (4100, 3));
        assert_eq!(block_bytes(""), (0, 0));
    }
}
