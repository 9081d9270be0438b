//! Who has a port of the host, for the text of an error: by the kernel's socket tables and the processes' descriptors.

use std::fs;
use std::net::IpAddr;

use davit_sys::port::Protocol;

/// Most processes that are looked at.
const PROCESSES: usize = 20_000;
/// Most descriptors of one process.
const DESCRIPTORS: usize = 4_096;

/// The process that has a port in the way, as far as /proc tells: ports that are bound and not listened on are in
/// none of its tables.
pub fn find(ip: Option<IpAddr>, port: u16, protocol: Protocol) -> Option<String> {
    let tables: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(format!("/proc/net/{table}")).ok()?;
        inode_of(&text, ip, port, protocol)
    })?;
    Some(process_with(inode).unwrap_or_else(|| "a process of another namespace".to_owned()))
}

/// The inode of the socket that collides with an address, in one of the kernel's tables.
fn inode_of(table: &str, wanted: Option<IpAddr>, number: u16, protocol: Protocol) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        let (ip, port) = local.split_once(':')?;
        let collides = u16::from_str_radix(port, 16).ok()? == number
            && wanted.is_none_or(|wanted| wanted.is_unspecified() || is_any(ip) || is(ip, wanted));
        (collides && (protocol == Protocol::Udp || state == LISTEN)).then_some(inode)
    })
}

fn is_any(hex: &str) -> bool {
    hex.bytes().all(|digit| digit == b'0')
}

/// Whether the table's way to write an address, in words of the machine's byte order, means this one.
fn is(hex: &str, ip: IpAddr) -> bool {
    let bytes = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap_or_default()));
    words.map(|word| format!("{word:08X}")).collect::<String>() == hex
}

fn process_with(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten().take(PROCESSES);
    for process in processes {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors
            .flatten()
            .take(DESCRIPTORS)
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()));
        if holds {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            // A process names itself as it likes.
            return Some(format!("{} (pid {pid})", program.trim_end().escape_default()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0100007F:2328 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
";

    fn inode(address: &str) -> Option<u64> {
        let address: std::net::SocketAddr = address.parse().unwrap();
        inode_of(TCP, Some(address.ip()), address.port(), Protocol::Tcp)
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_socket_in_the_way_is_found() {
        assert_eq!(inode("127.0.0.1:8080"), Some(111));
        assert_eq!(inode("0.0.0.0:8080"), Some(111));
        assert_eq!(inode_of(TCP, None, 8080, Protocol::Tcp), Some(111));
        assert_eq!(inode("127.0.0.2:8080"), None);
        assert_eq!(inode("192.0.2.1:22"), Some(222));
        assert_eq!(inode("127.0.0.1:9000"), None, "connections are in nobody's way");
    }

    #[test]
    fn tables_of_nonsense_name_nobody() {
        for table in ["", "\n\n", "x\ny z\n", "h\n0: 1:2:3 4 5 6 7 8 9 a b\n"] {
            assert_eq!(inode_of(table, None, 1, Protocol::Tcp), None);
        }
    }
}
