//! The text of a container's resolv.conf: its own resolver, and the host's search list and options.

use std::path::Path;

use davit_sys::file;

use crate::redirect::ADDRESS;

/// What the host's resolver is told.
const HOST: &str = "/etc/resolv.conf";
/// Largest file that is read.
const MAX_FILE: usize = 64 << 10;

/// The host's file as it is, for containers on the host's network and for those without any.
pub fn of_host() -> String {
    match file::read_bounded(Path::new(HOST), MAX_FILE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        // A container starts without names rather than not at all.
        Err(error) => {
            tracing::debug!(%error, path = HOST, "read no resolver");
            String::new()
        }
    }
}

/// Whether a text names a server.
pub fn has_server(text: &str) -> bool {
    text.lines().any(|line| line.trim_start().starts_with("nameserver"))
}

/// The file of a container whose shim resolves names, made of the host's. A name without a dot is tried as it is
/// first, for it may be a container's, unless the host says otherwise.
pub fn for_bridge(host: &str) -> String {
    let mut text = format!("nameserver {ADDRESS}\n");
    let mut options: Vec<&str> = Vec::new();
    for line in host.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("search" | "domain") if words.next().is_some() => {
                text.push_str(line.trim());
                text.push('\n');
            }
            Some("options") => options.extend(words),
            _ => {}
        }
    }
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0");
    }
    text.push_str("options ");
    text.push_str(&options.join(" "));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_is_ours_and_the_rest_is_the_hosts() {
        let host = "# made by hand\n nameserver 127.0.0.53\nnameserver 192.0.2.7\nsearch example.org corp\n\
                    options edns0 trust-ad\noptions timeout:1\nsortlist 1.2.3.4\nsearch\n";
        assert!(has_server(host) && !has_server("search nameserver\n"));
        assert_eq!(
            for_bridge(host),
            "nameserver 127.0.0.11\nsearch example.org corp\noptions edns0 trust-ad timeout:1 ndots:0\n"
        );
        assert_eq!(for_bridge("options ndots:2\n"), "nameserver 127.0.0.11\noptions ndots:2\n");
        assert_eq!(for_bridge(""), "nameserver 127.0.0.11\noptions ndots:0\n");
    }
}
