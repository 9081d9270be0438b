//! Two of the small files that every container finds in `/etc`: resolv.conf and hostname.

use std::fmt::Write as _;

use davit_proto::container::ContainerSpec;

use super::Resolved;

/// The resolver's configuration: `base`, with what the request says in the place of its own kind. A container that
/// has a resolver of its own asks that one, which asks the servers of the request.
#[must_use]
pub fn resolv_conf(spec: &ContainerSpec, base: &str, own_resolver: bool) -> String {
    let servers = if own_resolver { [].as_slice() } else { spec.dns.as_slice() };
    let replaced = |line: &str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        match word {
            "nameserver" => !servers.is_empty(),
            "search" | "domain" => !spec.dns_search.is_empty(),
            "options" => !spec.dns_options.is_empty(),
            _ => false,
        }
    };
    let mut text = String::new();
    let mut line = |line: &str| writeln!(text, "{line}").expect("writing to a string cannot fail");
    servers.iter().for_each(|server| line(&format!("nameserver {server}")));
    base.lines().filter(|kept| !replaced(kept)).for_each(&mut line);
    // A single dot asks for no search list at all.
    if !spec.dns_search.is_empty() && spec.dns_search != ["."] {
        line(&format!("search {}", spec.dns_search.join(" ")));
    }
    if !spec.dns_options.is_empty() {
        line(&format!("options {}", spec.dns_options.join(" ")));
    }
    text
}

/// The host name as a file.
#[must_use]
pub fn hostname(resolved: &Resolved) -> String {
    format!("{}\n", resolved.hostname)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_replaces_lines_of_its_kind() {
        let base = "# note\nnameserver 10.0.0.53\nsearch a b\noptions ndots:5\n";
        assert_eq!(resolv_conf(&ContainerSpec::default(), base, false), base);
        let spec = ContainerSpec {
            dns: vec!["1.1.1.1".into()],
            dns_search: vec!["c".into()],
            dns_options: vec!["rotate".into()],
            ..Default::default()
        };
        assert_eq!(resolv_conf(&spec, base, false), "nameserver 1.1.1.1\n# note\nsearch c\noptions rotate\n");
        assert_eq!(
            resolv_conf(&spec, "nameserver 127.0.0.11\noptions ndots:0\n", true),
            "nameserver 127.0.0.11\nsearch c\noptions rotate\n"
        );
        let none = ContainerSpec { dns_search: vec![".".into()], ..Default::default() };
        assert_eq!(resolv_conf(&none, base, false), "# note\nnameserver 10.0.0.53\noptions ndots:5\n");
    }
}
