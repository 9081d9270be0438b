//! Stats: what the container has used, and uses now.

use std::fs;
use std::time::SystemTime;

use super::driver::Driver;
use super::error::TaskError;
use super::update::configured;
use crate::cgroup::Counters;

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// When they were read.
    pub at: SystemTime,
    /// Those of the cgroup.
    pub counters: Counters,
    /// Bytes received by the container's own network.
    pub received: u64,
    /// Bytes sent by it.
    pub sent: u64,
}

/// Reads the counters. A network that is shared is nobody's own, and not counted.
pub(super) fn stats(driver: &Driver) -> Result<Stats, TaskError> {
    let body = configured(&driver.task)?;
    let at = SystemTime::now();
    let counters = body.cgroup.counters()?;
    let devices = match body.init.shape().net.is_own() {
        // Init may just have ended; its network is then as good as silent.
        true => fs::read_to_string(format!("/proc/{}/net/dev", body.init.host_pid())).unwrap_or_default(),
        false => String::new(),
    };
    let (received, sent) = network_bytes(&devices);
    Ok(Stats { at, counters, received, sent })
}

/// Bytes received and sent over all devices but the loopback.
fn network_bytes(table: &str) -> (u64, u64) {
    let devices = table.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let mut numbers = numbers.split_ascii_whitespace();
        let received = numbers.next()?.parse::<u64>().ok()?;
        let sent = numbers.nth(7)?.parse::<u64>().ok()?;
        (name.trim() != "lo").then_some((received, sent))
    });
    devices.fold((0, 0), |(a, b), (received, sent)| (a.saturating_add(received), b.saturating_add(sent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_added_up_without_the_loopback() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
            lo:  100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n  \
            eth0: 1500 9 0 0 0 0 0 0 700 8 0 0 0 0 0 0\n  eth1:10 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n";
        assert_eq!(network_bytes(table), (1510, 705));
        assert_eq!(network_bytes("eth0: 1 2\nx\n"), (0, 0));
    }
}
