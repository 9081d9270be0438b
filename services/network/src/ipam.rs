//! Which address next, which range next: values in, values out.
//!
//! Addresses are given round-robin and not lowest-free: one that was just let go may still be wired to a namespace
//! that the kernel is taking down, and be in the caches of neighbours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::hash::fnv;

/// A range of a network, of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// All of it.
    pub subnet: IpNet,
    /// The bridge's own address.
    pub gateway: IpAddr,
    /// The part to give addresses from; none for the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<IpNet>,
}

/// Why a range can be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRange {
    /// Too large or too small.
    #[error("must have a prefix between /8 and /30, or /126 for IPv6")]
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
    pub fn new(net: impl Into<IpNet>) -> Result<Self, InvalidRange> {
        let net = net.into();
        let subnet = net.trunc();
        let gateway = if net.addr() == subnet.network() { after(subnet.network()) } else { net.addr() };
        Self { subnet, gateway, part: None }.checked()
    }

    /// Itself, when it can be used.
    pub fn checked(self) -> Result<Self, InvalidRange> {
        let longest = if self.is_ipv4() { 30 } else { 126 };
        if !(8..=longest).contains(&self.subnet.prefix_len()) || self.subnet != self.subnet.trunc() {
            Err(InvalidRange::Length)
        } else if !is_for_hosts(self.subnet.network()) {
            Err(InvalidRange::NotForHosts)
        } else if !self.is_host(self.gateway) {
            Err(InvalidRange::Gateway)
        } else if self.part.is_some_and(|part| !self.subnet.contains(&part)) {
            Err(InvalidRange::Part)
        } else {
            Ok(self)
        }
    }

    /// Whether it is one of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.subnet.addr().is_ipv4()
    }

    /// Whether an address is a host's: in the range, and not its first, and with IPv4 not its last.
    pub fn is_host(&self, ip: IpAddr) -> bool {
        let last = self.is_ipv4() && ip == self.subnet.broadcast();
        self.subnet.contains(&ip) && ip != self.subnet.network() && !last
    }

    /// Whether a container may have an address when it asks for it.
    pub fn is_leasable(&self, ip: IpAddr) -> bool {
        self.is_host(ip) && ip != self.gateway
    }

    /// The bridge's own address, with the length of the range.
    pub fn gateway_net(&self) -> IpNet {
        self.net_of(self.gateway)
    }

    /// An address of the range, with its length.
    pub fn net_of(&self, ip: IpAddr) -> IpNet {
        IpNet::new(ip, self.subnet.prefix_len()).expect("it is the length of a range of this family")
    }
}

fn is_for_hosts(first: IpAddr) -> bool {
    match first {
        IpAddr::V4(ip) => {
            !ip.is_loopback()
                && !ip.is_multicast()
                && !ip.is_link_local()
                && !matches!(ip.octets()[0], 0 | 240..)
        }
        // Below 2000::/3 is what is reserved, such as ::1 and mapped IPv4 addresses; above it are private ones.
        IpAddr::V6(ip) => ip.octets()[0] >= 0x20 && !ip.is_multicast() && !ip.is_unicast_link_local(),
    }
}

/// The next free address at or after `cursor`, going round once. `taken` says what is not free.
pub fn next_free(range: &Range, cursor: IpAddr, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let part = range.part.unwrap_or(range.subnet);
    let (first, last) = (number(part.network()), number(part.broadcast()));
    let cursor = if cursor.is_ipv4() == range.is_ipv4() { number(cursor) } else { first };
    let start = if cursor > last { first } else { cursor.max(first) };
    let address = |number: u128| match range.is_ipv4() {
        true => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        false => Ipv6Addr::from(number).into(),
    };
    let round = (start..=last).chain(first..start).map(address);
    round.into_iter().find(|ip| range.is_leasable(*ip) && !taken(*ip))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// Where to look first after `given`.
pub fn after(given: IpAddr) -> IpAddr {
    match given {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).wrapping_add(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip).wrapping_add(1)).into(),
    }
}

/// The ranges that networks get when nobody says which, in order: docker's, so that notes about it stay right.
pub fn pool() -> impl Iterator<Item = IpNet> {
    let large = (17..=31).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16));
    let small = (0..16).map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20));
    large
        .chain(small)
        .map(|(ip, length)| Ipv4Net::new(ip, length).expect("16 and 20 are lengths of prefixes").into())
}

/// The private IPv6 ranges that a network gets when nobody says which, in order. They follow from whose it is, so that
/// no two networks, of this engine or another, on this host or another, come to share one.
pub fn private_pool(instance: &str, network: &str) -> impl Iterator<Item = IpNet> {
    (0_u8..16).map(move |attempt| {
        // RFC 4193: fd, 40 bits that nobody else has, 16 bits for the range.
        let bits = fnv([instance, network, &attempt.to_string()]) >> 8;
        let prefix = 0xfd << 120 | u128::from(bits) << 64;
        Ipv6Net::new(Ipv6Addr::from(prefix), 64).expect("64 is a length of a prefix").into()
    })
}

/// The first range that overlaps nothing of `taken`.
pub fn free_subnet(mut pool: impl Iterator<Item = IpNet>, taken: &[IpNet]) -> Option<IpNet> {
    pool.find(|net| !taken.iter().any(|other| overlaps(net, other)))
}

/// Whether two ranges have an address in common.
pub fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(text: &str) -> Range {
        Range::new(text.parse::<IpNet>().unwrap()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn last_byte(ip: IpAddr) -> u8 {
        match ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[15],
        }
    }

    #[test]
    fn addresses_come_in_sequence_and_go_round() {
        let range = range("10.9.0.0/29");
        assert_eq!(range.gateway, ip("10.9.0.1"));
        let mut cursor = range.subnet.network();
        let mut given = Vec::new();
        for _ in 0..7 {
            let ip = next_free(&range, cursor, |_| false).unwrap();
            given.push(last_byte(ip));
            cursor = after(ip);
        }
        assert_eq!(given, [2, 3, 4, 5, 6, 2, 3]);
        assert_eq!(next_free(&range, cursor, |_| true), None);
    }

    #[test]
    fn gateways_and_parts() {
        assert_eq!(range("10.1.0.254/24").gateway, ip("10.1.0.254"));
        let part =
            Range { part: Some("10.1.0.128/30".parse().unwrap()), ..range("10.1.0.0/24") }.checked().unwrap();
        let all: Vec<u8> = (0..5)
            .scan(part.subnet.network(), |cursor, _| {
                let ip = next_free(&part, *cursor, |_| false)?;
                *cursor = after(ip);
                Some(last_byte(ip))
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
            "::/64",
            "::1/64",
            "fe80::/64",
            "ff02::/16",
            "::ffff:10.0.0.0/112",
            "fd00::/127",
        ] {
            assert!(Range::new(bad.parse::<IpNet>().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_pool_skips_what_is_taken() {
        let taken = ["172.17.0.0/16", "172.18.3.0/24", "172.16.0.0/30"].map(|net| net.parse().unwrap());
        assert_eq!(free_subnet(pool(), &taken), Some("172.19.0.0/16".parse().unwrap()));
        assert_eq!(free_subnet(pool(), &["0.0.0.0/0".parse().unwrap()]), None);
        assert_eq!(free_subnet(pool(), &["::/0".parse().unwrap()]), Some("172.17.0.0/16".parse().unwrap()));
        assert_eq!(pool().count(), 31);
    }

    #[test]
    fn ipv6_has_no_last_address_and_its_own_pool() {
        let mut range = range("fd00:1::/126");
        assert_eq!(range.gateway, ip("fd00:1::1"));
        assert!(range.is_leasable(ip("fd00:1::3")) && !range.is_leasable(ip("fd00:1::")));
        assert_eq!(next_free(&range, ip("10.0.0.1"), |_| false), Some(ip("fd00:1::2")));
        range.subnet = "fd00:1::/64".parse().unwrap();
        assert_eq!(next_free(&range, ip("fd00:1::ffff"), |_| false), Some(ip("fd00:1::ffff")));
        let first: Vec<IpNet> = private_pool("davit", "a").collect();
        assert_eq!(first, private_pool("davit", "a").collect::<Vec<_>>(), "the same each time");
        assert_ne!(first[0], private_pool("davit", "b").next().unwrap());
        assert_ne!(first[0], private_pool("other", "a").next().unwrap());
        assert!(first.iter().all(|net| Range::new(*net).is_ok() && net.prefix_len() == 64));
        assert_eq!(free_subnet(private_pool("davit", "a"), &first[..1]), Some(first[1]));
    }

    proptest! {
        /// Against a model: whatever comes and goes, nothing is given twice, all is given before anything again,
        /// and only a full range gives nothing.
        #[test]
        fn never_one_twice(length in 24_u8..=30, steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..400)) {
            let range = Range::new(Ipv4Net::new(Ipv4Addr::new(10, 20, 30, 0), length).unwrap()).unwrap();
            let size = 2_usize.pow(32 - u32::from(length)) - 3;
            let mut held: BTreeSet<IpAddr> = BTreeSet::new();
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
                    prop_assert!(next != Some(freed) || held.len() + 1 == size || freed >= cursor || wraps(&range, &held, cursor, freed));
                }
            }
        }

        #[test]
        fn any_cursor_will_do(cursor in any::<u32>(), taken in any::<u8>()) {
            let range = Range::new("192.168.7.0/28".parse::<IpNet>().unwrap()).unwrap();
            let ip = next_free(&range, Ipv4Addr::from(cursor).into(), |ip| last_byte(ip) == taken).unwrap();
            prop_assert!(range.is_leasable(ip) && last_byte(ip) != taken);
        }
    }

    /// Whether everything from the cursor to the end is held, so that going round was right.
    fn wraps(range: &Range, held: &BTreeSet<IpAddr>, cursor: IpAddr, freed: IpAddr) -> bool {
        let ip = |number: u128| IpAddr::from(Ipv4Addr::from(u32::try_from(number).unwrap()));
        let full = |ip: IpAddr| !range.is_leasable(ip) || held.contains(&ip);
        (number(cursor)..=number(range.subnet.broadcast())).map(ip).all(full)
            && (number(range.subnet.network())..number(freed)).map(ip).all(full)
    }
}
