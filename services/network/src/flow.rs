//! Which flows lead where they no longer should. Pure.
//!
//! A flow keeps the way that it was given at its first packet. So when a port leads elsewhere or an address changes
//! hands, the old flows must be forgotten, or they go on reaching the former container, or a new one in its place.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

#[cfg(test)]
use crate::port::Protocol;
use crate::port::Publication;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// From.
    pub src: IpAddr,
    /// To.
    pub dst: IpAddr,
    /// Number of the transport.
    pub protocol: u8,
    /// From; 0 where there are no ports.
    pub src_port: u16,
    /// To.
    pub dst_port: u16,
}

/// A flow as the kernel tracks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// As its first packet was sent.
    pub there: Tuple,
    /// As an answer is sent; its source is who was really reached.
    pub back: Tuple,
}

/// A range that addresses are given from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The range.
    pub subnet: IpNet,
    /// The bridge's address.
    pub gateway: IpAddr,
}

impl Pool {
    /// Whether an address is one that a container may have.
    fn is_leasable(&self, ip: IpAddr) -> bool {
        let broadcast = ip.is_ipv4() && ip == self.subnet.broadcast();
        self.subnet.contains(&ip) && ip != self.gateway && ip != self.subnet.network() && !broadcast
    }
}

/// Ports by what a packet shows of them.
#[derive(Debug, Default)]
pub struct Ports {
    single: HashMap<(u8, u16), Vec<Publication>>,
    rows: Vec<Publication>,
}

impl FromIterator<Publication> for Ports {
    fn from_iter<T: IntoIterator<Item = Publication>>(ports: T) -> Self {
        let mut found = Self::default();
        for port in ports {
            if port.count == 1 {
                found.single.entry((port.host.protocol.number(), port.host.port)).or_default().push(port);
            } else {
                found.rows.push(port);
            }
        }
        found
    }
}

impl Ports {
    /// Where packets of a transport to a port may lead, and the publications that say so.
    fn of(&self, protocol: u8, port: u16) -> impl Iterator<Item = (&Publication, SocketAddr)> {
        let single = self.single.get(&(protocol, port)).into_iter().flatten();
        let rows = self.rows.iter().filter(move |row| row.host.protocol.number() == protocol);
        single.chain(rows).filter_map(move |found| Some((found, found.target_of(port)?)))
    }
}

/// What holds now.
#[derive(Debug, Default)]
pub struct View {
    /// Ranges of our networks.
    pub pools: Vec<Pool>,
    /// Addresses that containers have.
    pub held: HashSet<IpAddr>,
    /// Addresses of the host.
    pub local: HashSet<IpAddr>,
    /// Ports that lead to containers.
    pub published: Ports,
    /// Ports that did until now.
    pub withdrawn: Ports,
}

impl View {
    /// Whether a flow leads where it no longer should.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let Flow { there, back } = flow;
        let ends = [there.src, there.dst, back.src, back.dst];
        ends.iter().any(|ip| self.is_abandoned(*ip)) || self.is_led_astray(there, back)
    }

    /// An address of our ranges that nobody has.
    fn is_abandoned(&self, ip: IpAddr) -> bool {
        self.pools.iter().any(|pool| pool.is_leasable(ip)) && !self.held.contains(&ip)
    }

    /// It was sent to a port that leads to a container, and did not reach that container: it is older than the port.
    /// Or it was led by a port of ours that is one no more.
    fn is_led_astray(&self, there: &Tuple, back: &Tuple) -> bool {
        let reached = SocketAddr::new(back.src, back.src_port);
        match self.target(&self.published, there).next() {
            Some(target) => target != reached,
            None => self.target(&self.withdrawn, there).any(|target| target == reached),
        }
    }

    /// Where ports lead a packet, the one of one address before those of every one. Only what is addressed to the host
    /// is led.
    fn target<'a>(&'a self, ports: &'a Ports, there: &Tuple) -> impl Iterator<Item = SocketAddr> + use<'a> {
        let to = there.dst;
        let local = to.is_loopback() || self.local.contains(&to);
        let found = ports.of(there.protocol, there.dst_port);
        let mut found: Vec<_> = found
            .filter(|(port, _)| port.host.ip == to || (local && port.host.is_on(to)))
            .map(|(port, target)| (port.host.ip.is_unspecified(), target))
            .collect();
        found.sort_by_key(|(every, _)| *every);
        found.into_iter().map(|(_, target)| target)
    }
}

#[cfg(test)]
impl Protocol {
    /// All transports that have ports.
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Wish;
    use proptest::prelude::*;

    const FAR: &str = "192.0.2.2";
    const HOST: &str = "192.0.2.1";
    const HELD: &str = "172.17.0.2";
    const GONE: &str = "172.17.0.9";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn port(ip: &str, protocol: &str, count: u16) -> Publication {
        let wish = Wish { count, ..Wish::parse(ip, 8080, 80, protocol).unwrap() };
        wish.lead(Some(HELD.parse().unwrap()), Some("fd00:17::2".parse().unwrap())).remove(0)
    }

    fn view(published: &[Publication], withdrawn: &[Publication]) -> View {
        let pool =
            |subnet: &str, gateway: &str| Pool { subnet: subnet.parse().unwrap(), gateway: ip(gateway) };
        View {
            pools: vec![pool("172.17.0.0/16", "172.17.0.1"), pool("fd00:17::/64", "fd00:17::1")],
            held: [ip(HELD), ip("fd00:17::2")].into(),
            local: [ip(HOST), ip("172.17.0.1"), ip("2001:db8::1")].into(),
            published: published.iter().copied().collect(),
            withdrawn: withdrawn.iter().copied().collect(),
        }
    }

    fn flow(src: &str, dst: (&str, u16), reached: (&str, u16), protocol: u8) -> Flow {
        let (src, dst, reached) = (ip(src), (ip(dst.0), dst.1), (ip(reached.0), reached.1));
        Flow {
            there: Tuple { src, dst: dst.0, protocol, src_port: 40_000, dst_port: dst.1 },
            back: Tuple { src: reached.0, dst: src, protocol, src_port: reached.1, dst_port: 40_000 },
        }
    }

    #[test]
    fn what_leads_where_it_should_stays() {
        let view = view(&[port("", "udp", 1), port("::", "udp", 1)], &[]);
        for fine in [
            flow(FAR, (HOST, 8080), (HELD, 80), 17),
            flow("2001:db8::2", ("2001:db8::1", 8080), ("fd00:17::2", 80), 17),
            flow(HELD, (FAR, 8080), (FAR, 8080), 17),
            flow(FAR, (HOST, 22), (HOST, 22), 6),
            flow(FAR, (HOST, 8080), (HOST, 8080), 6),
            flow(HELD, ("172.17.0.1", 53), ("172.17.0.1", 53), 17),
        ] {
            assert!(!view.is_stale(&fine), "{fine:?}");
        }
    }

    #[test]
    fn what_does_not_goes() {
        let older = flow(FAR, (HOST, 8080), (HOST, 8080), 17);
        assert!(view(&[port("", "udp", 1)], &[]).is_stale(&older), "older than the port");
        let led = flow(FAR, (HOST, 8080), (HELD, 80), 17);
        assert!(view(&[], &[port("", "udp", 1)]).is_stale(&led), "the port was withdrawn");
        assert!(!view(&[], &[port("", "tcp", 1)]).is_stale(&led), "another one was");
        assert!(!view(&[], &[]).is_stale(&led), "somebody else's rule leads to our container");
        for end in [
            flow(GONE, (FAR, 1), (FAR, 1), 6),
            flow(FAR, (HOST, 1), (GONE, 1), 6),
            flow(HOST, (GONE, 1), (GONE, 1), 6),
            flow("2001:db8::2", ("2001:db8::1", 1), ("fd00:17::9", 1), 6),
        ] {
            assert!(view(&[], &[]).is_stale(&end), "an end of {end:?} is nobody's");
        }
        let local = view(&[port("127.0.0.1", "udp", 1)], &[]);
        assert!(local.is_stale(&flow(HOST, ("127.0.0.1", 8080), ("127.0.0.1", 8080), 17)));
        assert!(!local.is_stale(&older), "published on another address");
        let both = view(
            &[
                port("", "udp", 1),
                Publication { target: "172.17.0.2:81".parse().unwrap(), ..port(HOST, "udp", 1) },
            ],
            &[],
        );
        assert!(
            both.is_stale(&led) && !both.is_stale(&flow(FAR, (HOST, 8080), (HELD, 81), 17)),
            "one address first"
        );
    }

    #[test]
    fn rows_are_looked_into() {
        let row = port("", "tcp", 10);
        let led = |dst, reached| flow(FAR, (HOST, dst), (HELD, reached), 6);
        assert!(!view(&[row], &[]).is_stale(&led(8089, 89)));
        assert!(view(&[row], &[]).is_stale(&led(8089, 88)));
        assert!(!view(&[row], &[]).is_stale(&led(8090, 90)), "none of it");
        assert!(view(&[], &[row]).is_stale(&led(8085, 85)));
        let shorter = Publication { count: 9, ..row };
        assert!(!view(&[shorter], &[row]).is_stale(&led(8085, 85)), "published again, to the same place");
        assert!(view(&[shorter], &[row]).is_stale(&led(8089, 89)), "what the new row has no more");
    }

    proptest! {
        #[test]
        fn other_hosts_traffic_is_never_touched(a: [u8; 4], b: [u8; 4], port_a: u16, port_b: u16, p in 0_usize..3) {
            let (a, b) = (IpAddr::from(a), IpAddr::from(b));
            let ours = |some: IpAddr| ip("172.17.0.0") == some || view(&[], &[]).pools[0].subnet.contains(&some)
                || some == ip(HOST) || some.is_loopback();
            prop_assume!(!ours(a) && !ours(b));
            let protocol = Protocol::ALL[p].number();
            let flow = Flow {
                there: Tuple { src: a, dst: b, protocol, src_port: port_a, dst_port: port_b },
                back: Tuple { src: b, dst: a, protocol, src_port: port_b, dst_port: port_a },
            };
            let (row, one) = (port("", "udp", 5), port("", "tcp", 1));
            prop_assert!(!view(&[row], &[one]).is_stale(&flow));
        }
    }
}
