//! The text of a container's resolv.conf: the host's, without what cannot be reached from inside.

use std::net::IpAddr;
use std::path::Path;

use davit_sys::file;

/// What the host's resolver is told.
const HOST: &str = "/etc/resolv.conf";
/// What systemd-resolved asks, where the host's own file names only its stub.
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";
/// Largest file that is read.
const MAX_FILE: usize = 64 << 10;

/// The host's file as it is, for containers on the host's network.
pub fn of_host() -> String {
    read(Path::new(HOST))
}

/// The host's file without servers that listen on the host's loopback. Where none is left, what stands behind the
/// stub resolver.
pub fn for_bridge() -> String {
    let text = reachable(&of_host());
    if has_server(&text) {
        return text;
    }
    let behind = reachable(&read(Path::new(BEHIND_STUB)));
    if has_server(&behind) { behind } else { text }
}

/// Whether a text names a server.
pub fn has_server(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("nameserver"))
}

/// A file that is missing or cannot be read is empty: a container starts without names rather than not at all.
fn read(path: &Path) -> String {
    match file::read_bounded(path, MAX_FILE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "read no resolver");
            String::new()
        }
    }
}

/// Keeps what a container without IPv6 can use: IPv4 servers outside the host, search list and options.
fn reachable(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let keep = match words.next() {
            Some("nameserver") => words.next().and_then(|ip| ip.parse().ok()).is_some_and(is_reachable),
            Some("search" | "domain" | "options") => words.next().is_some(),
            _ => false,
        };
        if keep {
            kept.push_str(line.trim());
            kept.push('\n');
        }
    }
    kept
}

fn is_reachable(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_go_and_the_rest_stays() {
        let host = "# made by hand\n nameserver 127.0.0.53\nnameserver 192.0.2.7\nnameserver ::1\nnameserver fe80::1%2\n\
                    search example.org corp\noptions edns0 trust-ad\nnameserver\nsortlist 1.2.3.4\n";
        let text = reachable(host);
        assert_eq!(text, "nameserver 192.0.2.7\nsearch example.org corp\noptions edns0 trust-ad\n");
        assert!(has_server(&text));
        assert!(!has_server(&reachable("nameserver 127.0.0.1\n")));
    }
}
