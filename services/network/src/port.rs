//! Published ports: which ports of the host lead to which ports of a container.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A transport that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "tcp" | "" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::invalid("protocol", text, "must be tcp, udp or sctp")),
        }
    }
}

/// A port of the host, as somebody reaches it. One address' port goes before every address' port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// The address; the unspecified one for every one of its family.
    #[serde(default = "every_ipv4", skip_serializing_if = "is_every_ipv4")]
    pub ip: IpAddr,
    /// Its transport.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

fn every_ipv4() -> IpAddr {
    Ipv4Addr::UNSPECIFIED.into()
}

fn is_every_ipv4(ip: &IpAddr) -> bool {
    *ip == every_ipv4()
}

impl HostPort {
    /// Whether a packet to an address may be one to this port; an address of the host, where it is every one's.
    pub fn is_on(&self, ip: IpAddr) -> bool {
        self.ip == ip || (self.ip.is_unspecified() && self.ip.is_ipv4() == ip.is_ipv4())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.ip, self.port), self.protocol)
    }
}

/// Ports of the host in a row, and what they lead to: the first one to `target`, the next one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The first one, on the host.
    #[serde(flatten)]
    pub host: HostPort,
    /// In the container.
    pub target: SocketAddr,
    /// How many.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u16,
}

fn one() -> u16 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_one(count: &u16) -> bool {
    *count == 1
}

impl Publication {
    /// Where a port of the host leads that is among these.
    pub fn target_of(&self, port: u16) -> Option<SocketAddr> {
        let offset = port.checked_sub(self.host.port).filter(|offset| *offset < self.count)?;
        Some(SocketAddr::new(self.target.ip(), self.target.port().checked_add(offset)?))
    }

    /// Whether both would be one port of the host, on some address.
    pub fn clashes(&self, other: &Self) -> bool {
        let (a, b) = (self.host, other.host);
        let begins_in = |a: &Self, b: &Self| b.target_of(a.host.port).is_some();
        a.protocol == b.protocol
            && (a.is_on(b.ip) || b.is_on(a.ip))
            && (begins_in(self, other) || begins_in(other, self))
    }
}

/// Ports that are to be published, before the container has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Address on the host; none for every one of both families.
    pub ip: Option<IpAddr>,
    /// Transport.
    pub protocol: Protocol,
    /// The first one on the host.
    pub host_port: u16,
    /// The first one in the container.
    pub container_port: u16,
    /// How many in a row.
    pub count: u16,
}

impl Wish {
    /// Reads a request's fields.
    pub fn parse(host_ip: &str, host: u32, container: u32, protocol: &str) -> Result<Self, Error> {
        let ip = match host_ip {
            "" => None,
            text => Some(text.parse().map_err(|_| Error::invalid("host_ip", text, "must be an IP address"))?),
        };
        Ok(Self {
            ip,
            protocol: protocol.parse()?,
            host_port: number("host_port", host)?,
            container_port: number("container_port", container)?,
            count: 1,
        })
    }

    /// The same wishes with those that follow each other on both sides as one.
    pub fn in_rows(wishes: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut rows: Vec<Self> = Vec::new();
        for wish in wishes {
            match rows.last_mut() {
                Some(row) if row.is_followed_by(&wish) => row.count += wish.count,
                _ => rows.push(wish),
            }
        }
        rows
    }

    fn is_followed_by(&self, next: &Self) -> bool {
        self.ip == next.ip
            && self.protocol == next.protocol
            && self.host_port.checked_add(self.count) == Some(next.host_port)
            && self.container_port.checked_add(self.count) == Some(next.container_port)
    }

    /// What it comes to for a container with these addresses. Nothing where it has none of the wished family, and for
    /// `::1`, which the firewall cannot lead anywhere.
    pub fn lead(&self, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Vec<Publication> {
        let to = |host: IpAddr, target: Option<IpAddr>| {
            let host = HostPort { ip: host, protocol: self.protocol, port: self.host_port };
            let target = SocketAddr::new(target?, self.container_port);
            Some(Publication { host, target, count: self.count })
        };
        let (ipv4, ipv6) = (ipv4.map(IpAddr::from), ipv6.map(IpAddr::from));
        let led = match self.ip {
            None => [to(Ipv4Addr::UNSPECIFIED.into(), ipv4), to(Ipv6Addr::UNSPECIFIED.into(), ipv6)],
            Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) => [None, None],
            Some(ip) => [to(ip, if ip.is_ipv4() { ipv4 } else { ipv6 }), None],
        };
        led.into_iter().flatten().collect()
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.ip.unwrap_or_else(every_ipv4);
        write!(f, "{}", SocketAddr::new(ip, self.host_port))?;
        if self.count > 1 {
            write!(f, "-{}", self.host_port.saturating_add(self.count - 1))?;
        }
        write!(f, "/{}", self.protocol)
    }
}

fn number(field: &'static str, value: u32) -> Result<u16, Error> {
    match u16::try_from(value) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(Error::invalid(field, value, "must be between 1 and 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wish(ip: &str, host: u32, container: u32) -> Wish {
        Wish::parse(ip, host, container, "tcp").unwrap()
    }

    fn led(ip: &str) -> String {
        let published =
            wish(ip, 8080, 80).lead(Some([172, 17, 0, 2].into()), Some("fd00::2".parse().unwrap()));
        let shown: Vec<_> = published.iter().map(|p| format!("{} {}", p.host, p.target)).collect();
        shown.join(", ")
    }

    #[test]
    fn wishes_are_checked() {
        let wish = Wish::parse("127.0.0.1", 8080, 80, "udp").unwrap();
        assert_eq!(wish.to_string(), "127.0.0.1:8080/udp");
        for (ip, host, container, protocol) in
            [("x", 1, 1, "tcp"), ("", 0, 1, "tcp"), ("", 1, 65536, "tcp"), ("", 1, 1, "icmp")]
        {
            assert!(
                Wish::parse(ip, host, container, protocol).is_err(),
                "{ip} {host} {container} {protocol}"
            );
        }
    }

    #[test]
    fn each_family_is_led_to_the_address_of_its_own() {
        assert_eq!(led(""), "0.0.0.0:8080/tcp 172.17.0.2:80, [::]:8080/tcp [fd00::2]:80");
        assert_eq!(led("0.0.0.0"), "0.0.0.0:8080/tcp 172.17.0.2:80");
        assert_eq!(led("::"), "[::]:8080/tcp [fd00::2]:80");
        assert_eq!(led("192.0.2.1"), "192.0.2.1:8080/tcp 172.17.0.2:80");
        assert_eq!(led("fd00::1"), "[fd00::1]:8080/tcp [fd00::2]:80");
        assert_eq!(led("::1"), "");
        assert!(wish("fd00::1", 1, 1).lead(Some([10, 0, 0, 1].into()), None).is_empty());
    }

    #[test]
    fn what_follows_on_both_sides_is_a_row() {
        let row = |host, count| Wish { count, ..wish("", host, host) };
        let rows = |wishes: &[Wish]| Wish::in_rows(wishes.iter().copied());
        let one = |host, container| wish("", host, container);
        assert_eq!(rows(&[one(80, 80), one(81, 81), one(82, 82)]), [row(80, 3)]);
        assert_eq!(rows(&[one(80, 80), one(82, 82), one(81, 81)]).len(), 3, "as they were asked for");
        assert_eq!(rows(&[one(80, 80), one(81, 80)]).len(), 2);
        assert_eq!(rows(&[one(80, 80), wish("::1", 81, 81)]).len(), 2);
        let all: Vec<_> = (1..=65535).map(|port| one(port, port)).collect();
        assert_eq!(rows(&all), [row(1, 65535)]);
    }

    #[test]
    fn records_of_earlier_versions_are_read() {
        let every = r#"{"protocol":"tcp","port":8080,"target":"172.17.0.2:80"}"#;
        let one = r#"{"ip":"127.0.0.1","protocol":"udp","port":53,"target":"172.17.0.2:5353"}"#;
        for text in [every, one] {
            let read: Publication = serde_json::from_str(text).unwrap();
            assert_eq!(read.count, 1);
            assert_eq!(serde_json::to_string(&read).unwrap(), text, "and an earlier version reads ours");
        }
    }

    proptest! {
        #[test]
        fn rows_clash_when_they_share_a_port(a in 1_u16..60, b in 1_u16..60, n in 1_u16..20, m in 1_u16..20) {
            let row = |port, count| {
                let wish = Wish { count, ..wish("", port, 1000) };
                wish.lead(Some([172, 17, 0, 2].into()), None)[0]
            };
            let (x, y) = (row(u32::from(a), n), row(u32::from(b), m));
            let shared = (1..100).any(|port| x.target_of(port).is_some() && y.target_of(port).is_some());
            prop_assert_eq!((x.clashes(&y), y.clashes(&x)), (shared, shared));
        }
    }
}
