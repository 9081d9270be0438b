//! Whom to ask for names that are not a container's: the servers that the host asks, looked up for each question.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

use davit_sys::file;

/// The host's file, in the host's mount namespace, where this side of the shim is.
const HOST: &str = "/etc/resolv.conf";
/// Largest file that is read.
const MAX_FILE: usize = 64 << 10;
/// Servers that are asked, as every other resolver has it.
const MOST: usize = 3;
/// The port of DNS.
const PORT: u16 = 53;

/// The servers that the host asks now; none when it names none.
pub fn of_host() -> Vec<SocketAddr> {
    match file::read_bounded(Path::new(HOST), MAX_FILE) {
        Ok(bytes) => read(&String::from_utf8_lossy(&bytes)),
        Err(error) => {
            tracing::debug!(%error, path = HOST, "read no servers");
            Vec::new()
        }
    }
}

fn read(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver") { parse(words.next()?) } else { None }
    });
    named.take(MOST).collect()
}

/// A server: an address, with a port where it is another one than DNS's, and with a link where IPv6 needs it.
pub fn parse(text: &str) -> Option<SocketAddr> {
    if let Ok(server) = text.parse::<SocketAddr>() {
        return Some(server).filter(|server| server.port() != 0);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    let (ip, link) = text.split_once('%')?;
    let ip: Ipv6Addr = ip.parse().ok()?;
    Some(SocketAddrV6::new(ip, PORT, 0, number_of(link)?).into())
}

/// The number of a link of the host.
fn number_of(link: &str) -> Option<u32> {
    if let Ok(number) = link.parse() {
        return Some(number);
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@');
    if link.is_empty() || link.starts_with('.') || link.len() > 15 || !link.bytes().all(plain) {
        return None;
    }
    fs::read_to_string(Path::new("/sys/class/net").join(link).join("ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_host_reads_them() {
        let text = "# nameserver 1.1.1.1\nnameserver 10.0.0.1\n nameserver\tfd00::1\nsearch x\nnameserver what\n\
                    nameserver fe80::1%lo\nnameserver 10.0.0.4\n";
        let servers = read(text);
        assert_eq!(servers[..2], ["10.0.0.1:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()]);
        assert!(matches!(servers[2], SocketAddr::V6(v6) if v6.scope_id() == 1) && servers.len() == 3);
        assert_eq!(read(""), []);
    }

    #[test]
    fn a_server_may_have_a_port() {
        assert_eq!(parse("10.0.0.1:5353"), Some("10.0.0.1:5353".parse().unwrap()));
        assert_eq!(parse("[::1]:5353"), Some("[::1]:5353".parse().unwrap()));
        for bad in ["", "x", "10.0.0.1:0", "10.0.0.1:x", "fe80::1%../lo", "fe80::1%", "10.0.0.1%lo"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
