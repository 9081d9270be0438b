//! Which flows lead where they no longer should. Pure.
//!
//! A flow keeps the way that it was given at its first packet. So when a port leads elsewhere or an address changes
//! hands, the old flows must be forgotten, or they go on reaching the former container, or a new one in its place.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use crate::ipam::Range;
use crate::port::{HostPort, Protocol, Publication};

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// From.
    pub src: Ipv4Addr,
    /// To.
    pub dst: Ipv4Addr,
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

/// What holds now.
#[derive(Debug, Default)]
pub struct View {
    /// Ranges of our networks.
    pub ranges: Vec<Range>,
    /// Addresses that containers have.
    pub held: HashSet<Ipv4Addr>,
    /// Addresses of the host.
    pub local: HashSet<Ipv4Addr>,
    /// Ports that lead to containers.
    pub published: HashMap<(u8, u16), Vec<Publication>>,
    /// Ports that did until now.
    pub withdrawn: HashMap<(u8, u16), Vec<Publication>>,
}

/// Ports by what a packet shows of them.
pub fn by_number(ports: impl Iterator<Item = Publication>) -> HashMap<(u8, u16), Vec<Publication>> {
    let mut map: HashMap<(u8, u16), Vec<Publication>> = HashMap::new();
    for port in ports {
        map.entry((port.host.protocol.number(), port.host.port)).or_default().push(port);
    }
    map
}

impl View {
    /// Whether a flow leads where it no longer should.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let Flow { there, back } = flow;
        let ends = [there.src, there.dst, back.src, back.dst];
        ends.iter().any(|ip| self.is_abandoned(*ip))
            || self.was_withdrawn(there, back)
            || self.misses(there, back)
    }

    /// An address of our ranges that nobody has.
    fn is_abandoned(&self, ip: Ipv4Addr) -> bool {
        let range = self.ranges.iter().find(|range| range.subnet.contains(&ip));
        range.is_some_and(|range| range.is_leasable(ip)) && !self.held.contains(&ip)
    }

    /// It was led by a port of ours that is one no more.
    fn was_withdrawn(&self, there: &Tuple, back: &Tuple) -> bool {
        let was = self.withdrawn.get(&(there.protocol, there.dst_port));
        was.into_iter().flatten().any(|port| leads(port, back) && self.matches(&port.host, there.dst))
    }

    /// It was sent to a port that leads to a container, and did not reach that container: it is older than the port.
    fn misses(&self, there: &Tuple, back: &Tuple) -> bool {
        let ports = self.published.get(&(there.protocol, there.dst_port));
        let mut ports = ports.into_iter().flatten().filter(|port| self.matches(&port.host, there.dst));
        ports.next().is_some_and(|port| !leads(port, back))
    }

    /// Whether a packet to this address is one to this port: only what is addressed to the host is.
    fn matches(&self, port: &HostPort, dst: Ipv4Addr) -> bool {
        match port.ip {
            Some(ip) => ip == dst,
            None => dst.is_loopback() || self.local.contains(&dst),
        }
    }
}

fn leads(port: &Publication, back: &Tuple) -> bool {
    back.src == *port.target.ip() && back.src_port == port.target.port()
}

impl Protocol {
    /// All transports that have ports.
    #[cfg(test)]
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Wish;
    use proptest::prelude::*;

    const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const HELD: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
    const GONE: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 9);

    fn port(ip: &str, protocol: &str, to: Ipv4Addr) -> Publication {
        let wish = Wish::parse(ip, 8080, 80, protocol).unwrap();
        Publication { host: wish.host, target: std::net::SocketAddrV4::new(to, 80) }
    }

    fn view(published: &[Publication], withdrawn: &[Publication]) -> View {
        View {
            ranges: vec![Range::new("172.17.0.0/16".parse().unwrap()).unwrap()],
            held: [HELD].into(),
            local: [HOST, Ipv4Addr::new(172, 17, 0, 1)].into(),
            published: by_number(published.iter().copied()),
            withdrawn: by_number(withdrawn.iter().copied()),
        }
    }

    fn flow(src: Ipv4Addr, dst: (Ipv4Addr, u16), reached: (Ipv4Addr, u16), protocol: u8) -> Flow {
        Flow {
            there: Tuple { src, dst: dst.0, protocol, src_port: 40_000, dst_port: dst.1 },
            back: Tuple { src: reached.0, dst: src, protocol, src_port: reached.1, dst_port: 40_000 },
        }
    }

    #[test]
    fn what_leads_where_it_should_stays() {
        let view = view(&[port("", "udp", HELD)], &[]);
        for fine in [
            flow(FAR, (HOST, 8080), (HELD, 80), 17),
            flow(HELD, (FAR, 8080), (FAR, 8080), 17),
            flow(FAR, (HOST, 22), (HOST, 22), 6),
            flow(FAR, (HOST, 8080), (HOST, 8080), 6),
            flow(HELD, (Ipv4Addr::new(172, 17, 0, 1), 53), (Ipv4Addr::new(172, 17, 0, 1), 53), 17),
        ] {
            assert!(!view.is_stale(&fine), "{fine:?}");
        }
    }

    #[test]
    fn what_does_not_goes() {
        let older = flow(FAR, (HOST, 8080), (HOST, 8080), 17);
        assert!(view(&[port("", "udp", HELD)], &[]).is_stale(&older), "older than the port");
        let led = flow(FAR, (HOST, 8080), (HELD, 80), 17);
        assert!(view(&[], &[port("", "udp", HELD)]).is_stale(&led), "the port was withdrawn");
        assert!(!view(&[], &[port("", "tcp", HELD)]).is_stale(&led), "another one was");
        assert!(!view(&[], &[]).is_stale(&led), "somebody else's rule leads to our container");
        for end in [
            flow(GONE, (FAR, 1), (FAR, 1), 6),
            flow(FAR, (HOST, 1), (GONE, 1), 6),
            flow(HOST, (GONE, 1), (GONE, 1), 6),
        ] {
            assert!(view(&[], &[]).is_stale(&end), "an end of {end:?} is nobody's");
        }
        let local = view(&[port("127.0.0.1", "udp", HELD)], &[]);
        assert!(local.is_stale(&flow(HOST, (Ipv4Addr::LOCALHOST, 8080), (Ipv4Addr::LOCALHOST, 8080), 17)));
        assert!(!local.is_stale(&older), "published on another address");
    }

    proptest! {
        #[test]
        fn other_hosts_traffic_is_never_touched(a: [u8; 4], b: [u8; 4], port_a: u16, port_b: u16, p in 0_usize..3) {
            let (a, b) = (Ipv4Addr::from(a), Ipv4Addr::from(b));
            let ours = |ip: Ipv4Addr| ip.octets()[..2] == [172, 17] || ip == HOST || ip.is_loopback();
            prop_assume!(!ours(a) && !ours(b));
            let number = Protocol::ALL[p].number();
            let flow = Flow {
                there: Tuple { src: a, dst: b, protocol: number, src_port: port_a, dst_port: port_b },
                back: Tuple { src: b, dst: a, protocol: number, src_port: port_b, dst_port: port_a },
            };
            prop_assert!(!view(&[port("", "udp", HELD)], &[port("", "tcp", HELD)]).is_stale(&flow));
        }
    }
}
