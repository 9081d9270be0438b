//! Which address next, which range next: values in, values out.
//!
//! Addresses are given round-robin and not lowest-free: one that was just let go may still be wired to a namespace
//! that the kernel is taking down, and be in the caches of neighbours.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The range of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// All of it.
    pub subnet: Ipv4Net,
    /// The bridge's own address.
    pub gateway: Ipv4Addr,
    /// The part to give addresses from; none for the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Ipv4Net>,
}

/// Why a range can be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRange {
    /// Too large or too small.
    #[error("must have a prefix between /8 and /30")]
    Length,
    /// Not for hosts.
    #[error("must be a range of addresses for hosts, not loopback, multicast, link-local or reserved")]
    NotForHosts,
    /// The gateway is elsewhere, or is the first or last address.
    #[error("must have its gateway among its hosts")]
    Gateway,
    /// The part is elsewhere.
    #[error("must hold the part that addresses are given from")]
    Part,
}

impl Range {
    /// A range whose gateway is its first host, or the address that was written with the prefix.
    pub fn new(net: Ipv4Net) -> Result<Self, InvalidRange> {
        let subnet = net.trunc();
        let first = Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1));
        let gateway = if net.addr() == subnet.network() { first } else { net.addr() };
        Self { subnet, gateway, part: None }.checked()
    }

    /// Itself, when it can be used.
    pub fn checked(self) -> Result<Self, InvalidRange> {
        let ip = self.subnet.network();
        if !(8..=30).contains(&self.subnet.prefix_len()) || self.subnet != self.subnet.trunc() {
            Err(InvalidRange::Length)
        } else if ip.is_loopback()
            || ip.is_multicast()
            || ip.is_link_local()
            || matches!(ip.octets()[0], 0 | 240..)
        {
            Err(InvalidRange::NotForHosts)
        } else if !self.is_host(self.gateway) {
            Err(InvalidRange::Gateway)
        } else if self.part.is_some_and(|part| !self.subnet.contains(&part)) {
            Err(InvalidRange::Part)
        } else {
            Ok(self)
        }
    }

    /// Whether an address is a host's: in the range, and neither its first nor its last.
    pub fn is_host(&self, ip: Ipv4Addr) -> bool {
        self.subnet.contains(&ip) && ip != self.subnet.network() && ip != self.subnet.broadcast()
    }

    /// Whether a container may have an address when it asks for it.
    pub fn is_leasable(&self, ip: Ipv4Addr) -> bool {
        self.is_host(ip) && ip != self.gateway
    }
}

/// The next free address at or after `cursor`, going round once. `taken` says what is not free.
pub fn next_free(range: &Range, cursor: Ipv4Addr, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let part = range.part.unwrap_or(range.subnet);
    let (first, last) = (u32::from(part.network()), u32::from(part.broadcast()));
    let start = u32::from(cursor).clamp(first, last);
    let start = if u32::from(cursor) > last { first } else { start };
    let round = (start..=last).chain(first..start).map(Ipv4Addr::from);
    round.into_iter().find(|ip| range.is_leasable(*ip) && !taken(*ip))
}

/// Where to look first after `given`.
pub fn after(given: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(given).wrapping_add(1))
}

/// The ranges that networks get when nobody says which, in order: docker's, so that notes about it stay right.
pub fn pool() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..=31).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16));
    let small = (0..16).map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20));
    large
        .chain(small)
        .map(|(ip, length)| Ipv4Net::new(ip, length).expect("16 and 20 are lengths of prefixes"))
}

/// The first range of the pool that overlaps nothing of `taken`.
pub fn free_subnet(taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    pool().find(|net| !taken.iter().any(|other| overlaps(net, other)))
}

/// Whether two ranges have an address in common.
pub fn overlaps(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(text: &str) -> Range {
        Range::new(text.parse().unwrap()).unwrap()
    }

    #[test]
    fn addresses_come_in_sequence_and_go_round() {
        let range = range("10.9.0.0/29");
        assert_eq!(range.gateway, Ipv4Addr::new(10, 9, 0, 1));
        let mut cursor = range.subnet.network();
        let mut given = Vec::new();
        for _ in 0..7 {
            let ip = next_free(&range, cursor, |_| false).unwrap();
            given.push(ip.octets()[3]);
            cursor = after(ip);
        }
        assert_eq!(given, [2, 3, 4, 5, 6, 2, 3]);
        assert_eq!(next_free(&range, cursor, |_| true), None);
    }

    #[test]
    fn gateways_and_parts() {
        assert_eq!(range("10.1.0.254/24").gateway, Ipv4Addr::new(10, 1, 0, 254));
        let part =
            Range { part: Some("10.1.0.128/30".parse().unwrap()), ..range("10.1.0.0/24") }.checked().unwrap();
        let all: Vec<u8> = (0..5)
            .scan(part.subnet.network(), |cursor, _| {
                let ip = next_free(&part, *cursor, |_| false)?;
                *cursor = after(ip);
                Some(ip.octets()[3])
            })
            .collect();
        assert_eq!(all, [128, 129, 130, 131, 128]);
        for bad in [
            "10.0.0.0/31",
            "0.0.0.0/8",
            "127.0.0.0/16",
            "224.0.0.0/8",
            "169.254.0.0/16",
            "10.0.0.255/24",
            "1.0.0.0/4",
        ] {
            assert!(Range::new(bad.parse().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_pool_skips_what_is_taken() {
        let taken = ["172.17.0.0/16", "172.18.3.0/24", "172.16.0.0/30"].map(|net| net.parse().unwrap());
        assert_eq!(free_subnet(&taken), Some("172.19.0.0/16".parse().unwrap()));
        assert_eq!(free_subnet(&["0.0.0.0/0".parse().unwrap()]), None);
        assert_eq!(pool().count(), 31);
    }

    proptest! {
        /// Against a model: whatever comes and goes, nothing is given twice, all is given before anything again,
        /// and only a full range gives nothing.
        #[test]
        fn never_one_twice(length in 24_u8..=30, steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..400)) {
            let range = Range::new(Ipv4Net::new(Ipv4Addr::new(10, 20, 30, 0), length).unwrap()).unwrap();
            let size = 2_usize.pow(32 - u32::from(length)) - 3;
            let mut held: BTreeSet<Ipv4Addr> = BTreeSet::new();
            let mut cursor = range.subnet.network();
            for (give, which) in steps {
                if give {
                    match next_free(&range, cursor, |ip| held.contains(&ip)) {
                        Some(ip) => {
                            prop_assert!(range.is_leasable(ip));
                            prop_assert!(held.insert(ip), "{ip} was given twice");
                            cursor = after(ip);
                        }
                        None => prop_assert_eq!(held.len(), size),
                    }
                } else if !held.is_empty() {
                    let freed = *which.get(&held.iter().copied().collect::<Vec<_>>());
                    held.remove(&freed);
                    let next = next_free(&range, cursor, |ip| held.contains(&ip));
                    prop_assert!(next != Some(freed) || held.len() + 1 == size || u32::from(freed) >= u32::from(cursor) || wraps(&range, &held, cursor, freed));
                }
            }
        }

        #[test]
        fn any_cursor_will_do(cursor in any::<u32>(), taken in any::<u8>()) {
            let range = Range::new("192.168.7.0/28".parse().unwrap()).unwrap();
            let ip = next_free(&range, cursor.into(), |ip| ip.octets()[3] == taken).unwrap();
            prop_assert!(range.is_leasable(ip) && ip.octets()[3] != taken);
        }
    }

    /// Whether everything from the cursor to the end is held, so that going round was right.
    fn wraps(range: &Range, held: &BTreeSet<Ipv4Addr>, cursor: Ipv4Addr, freed: Ipv4Addr) -> bool {
        let last = u32::from(range.subnet.broadcast());
        (u32::from(cursor)..=last).map(Ipv4Addr::from).all(|ip| !range.is_leasable(ip) || held.contains(&ip))
            && (u32::from(range.subnet.network())..u32::from(freed))
                .map(Ipv4Addr::from)
                .all(|ip| !range.is_leasable(ip) || held.contains(&ip))
    }
}
