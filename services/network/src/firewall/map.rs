//! What a published port is in the table: which map, which key, what it leads to. Pure; as bytes for the kernel and as
//! words for `nft`.
//!
//! There are eight maps: for one address of the host and for every one, of IPv4 and of IPv6, for single ports and for
//! rows. A row is one element, however long: it tells only the address and keeps the port's number. A row that leads to
//! other numbers is as many single elements.

use std::net::{IpAddr, SocketAddr};

use crate::port::{HostPort, Publication};

/// A map of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// Its name.
    pub name: &'static str,
    ipv4: bool,
    one: bool,
    row: bool,
}

const fn map(name: &'static str, ipv4: bool, one: bool, row: bool) -> Map {
    Map { name, ipv4, one, row }
}

/// All of them.
pub const MAPS: [Map; 8] = [
    map("any4", true, false, false),
    map("one4", true, true, false),
    map("any4r", true, false, true),
    map("one4r", true, true, true),
    map("any6", false, false, false),
    map("one6", false, true, false),
    map("any6r", false, false, true),
    map("one6r", false, true, true),
];

impl Map {
    /// What it is declared as.
    pub fn kind(&self) -> String {
        let address = if self.ipv4 { "ipv4_addr" } else { "ipv6_addr" };
        let (one, port) = (if self.one { format!("{address} . ") } else { String::new() }, " . inet_service");
        let flags = if self.row { " flags interval;" } else { "" };
        let port = if self.row { "" } else { port };
        format!("type {one}inet_proto . inet_service : {address}{port};{flags}")
    }
}

/// An element of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// Where it is.
    pub map: Map,
    host: HostPort,
    /// The last port of a row.
    last: u16,
    target: SocketAddr,
}

/// How many elements a publication is.
pub fn count(port: &Publication) -> usize {
    if is_row(port) { 1 } else { port.count.into() }
}

/// The elements of publications.
pub fn elements(ports: &[Publication]) -> impl Iterator<Item = Element> + use<'_> {
    ports.iter().flat_map(|port| {
        let row = is_row(port);
        let singles = if row { 1 } else { port.count };
        (0..singles).map(move |offset| {
            let first = port.host.port.saturating_add(offset);
            let last = if row { first.saturating_add(port.count - 1) } else { first };
            let target = SocketAddr::new(port.target.ip(), port.target.port().saturating_add(offset));
            Element { map: of(port), host: HostPort { port: first, ..port.host }, last, target }
        })
    })
}

fn is_row(port: &Publication) -> bool {
    port.count > 1 && port.host.port == port.target.port()
}

fn of(port: &Publication) -> Map {
    let wanted = (port.host.ip.is_ipv4(), !port.host.ip.is_unspecified(), is_row(port));
    let found = MAPS.into_iter().find(|map| (map.ipv4, map.one, map.row) == wanted);
    found.expect("there is a map for each of the eight")
}

impl Element {
    /// Its key, and for a row the key of its end. Each field takes a multiple of four bytes, the rest of them zero.
    pub fn key(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let key = |port: u16| {
            let mut key = if self.map.one { octets(self.host.ip) } else { Vec::new() };
            key.extend([self.host.protocol.number(), 0, 0, 0]);
            key.extend(service(port));
            key
        };
        (key(self.host.port), self.map.row.then(|| key(self.last)))
    }

    /// What it leads to.
    pub fn data(&self) -> Vec<u8> {
        let mut data = octets(self.target.ip());
        if !self.map.row {
            data.extend(service(self.target.port()));
        }
        data
    }

    /// As `nft` writes it.
    pub fn text(&self) -> String {
        let ip = if self.map.one { format!("{} . ", self.host.ip) } else { String::new() };
        let (protocol, port, to) = (self.host.protocol, self.host.port, self.target.ip());
        if self.map.row {
            format!("{ip}{protocol} . {port}-{} : {to}", self.last)
        } else {
            format!("{ip}{protocol} . {port} : {to} . {}", self.target.port())
        }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn service(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Wish;

    fn published(ip: &str, host: u32, container: u32, count: u16) -> Vec<Publication> {
        let wish = Wish { count, ..Wish::parse(ip, host, container, "udp").unwrap() };
        wish.lead(Some([172, 17, 0, 2].into()), Some("fd00::2".parse().unwrap()))
    }

    fn texts(ports: &[Publication]) -> Vec<String> {
        elements(ports).map(|element| format!("{} {}", element.map.name, element.text())).collect()
    }

    #[test]
    fn each_port_is_in_its_map() {
        assert_eq!(
            texts(&published("", 8080, 80, 1)),
            ["any4 udp . 8080 : 172.17.0.2 . 80", "any6 udp . 8080 : fd00::2 . 80"]
        );
        assert_eq!(texts(&published("127.0.0.1", 1, 2, 1)), ["one4 127.0.0.1 . udp . 1 : 172.17.0.2 . 2"]);
        assert_eq!(texts(&published("fd00::1", 1, 2, 1)), ["one6 fd00::1 . udp . 1 : fd00::2 . 2"]);
        assert_eq!(texts(&published("0.0.0.0", 7, 7, 3)), ["any4r udp . 7-9 : 172.17.0.2"]);
        assert_eq!(texts(&published("::", 7, 7, 3)), ["any6r udp . 7-9 : fd00::2"]);
        assert_eq!(
            texts(&published("192.0.2.1", 7, 8, 2)),
            ["one4 192.0.2.1 . udp . 7 : 172.17.0.2 . 8", "one4 192.0.2.1 . udp . 8 : 172.17.0.2 . 9"],
            "a row that leads to other numbers"
        );
        let all = published("", 1, 1, u16::MAX);
        assert_eq!(texts(&all), ["any4r udp . 1-65535 : 172.17.0.2", "any6r udp . 1-65535 : fd00::2"]);
        assert_eq!(all.iter().map(count).sum::<usize>(), 2);
    }

    #[test]
    fn bytes_are_as_the_kernel_lays_them_out() {
        let row = elements(&published("192.0.2.1", 258, 258, 2)).next().unwrap();
        let key = |port: u8| vec![192, 0, 2, 1, 17, 0, 0, 0, 1, port, 0, 0];
        assert_eq!(row.key(), (key(2), Some(key(3))));
        assert_eq!(row.data(), [172, 17, 0, 2]);
        let single = elements(&published("::", 80, 443, 1)).next().unwrap();
        assert_eq!(single.key(), (vec![17, 0, 0, 0, 0, 80, 0, 0], None));
        assert_eq!(single.data().len(), 20);
        assert_eq!(single.data()[16..], [1, 187, 0, 0]);
    }
}
