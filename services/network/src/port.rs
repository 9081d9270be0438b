//! Published ports: which port of the host leads to which port of a container.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
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
    /// The address; none for every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// Its transport.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
        write!(f, "{}:{}/{}", ip, self.port, self.protocol)
    }
}

/// A port of the host and what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// On the host.
    #[serde(flatten)]
    pub host: HostPort,
    /// In the container.
    pub target: SocketAddrV4,
}

/// A port that is to be published, before the container has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// On the host.
    pub host: HostPort,
    /// In the container.
    pub container_port: u16,
}

impl Wish {
    /// Reads a request's fields.
    pub fn parse(host_ip: &str, host: u32, container: u32, protocol: &str) -> Result<Self, Error> {
        let ip = match host_ip {
            "" => None,
            text => match text.parse() {
                Ok(IpAddr::V4(ip)) if ip.is_unspecified() => None,
                Ok(IpAddr::V4(ip)) => Some(ip),
                Ok(IpAddr::V6(_)) => {
                    return Err(Error::Unserved {
                        what: "publishing on an IPv6 address,",
                        value: text.to_owned(),
                    });
                }
                Err(_) => return Err(Error::invalid("host_ip", text, "must be an IP address")),
            },
        };
        let host = HostPort { ip, protocol: protocol.parse()?, port: number("host_port", host)? };
        Ok(Self { host, container_port: number("container_port", container)? })
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

    #[test]
    fn wishes_are_checked() {
        let wish = Wish::parse("127.0.0.1", 8080, 80, "udp").unwrap();
        assert_eq!(wish.host.to_string(), "127.0.0.1:8080/udp");
        assert_eq!(Wish::parse("0.0.0.0", 1, 65535, "tcp").unwrap(), Wish::parse("", 1, 65535, "").unwrap());
        for (ip, host, container, protocol) in [
            ("x", 1, 1, "tcp"),
            ("", 0, 1, "tcp"),
            ("", 1, 65536, "tcp"),
            ("", 1, 1, "icmp"),
            ("::1", 1, 1, "tcp"),
        ] {
            assert!(
                Wish::parse(ip, host, container, protocol).is_err(),
                "{ip} {host} {container} {protocol}"
            );
        }
    }
}
