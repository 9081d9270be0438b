//! The three small files that every container finds in `/etc`: hosts, resolv.conf and hostname.

use std::fmt::Write as _;

use davit_proto::container::ContainerSpec;
use davit_proto::network::Endpoint;

use super::{Error, Resolved};

/// Lines that every hosts file begins with.
const LOCAL: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";
/// Address that stands for the host as its containers see it.
const GATEWAY: &str = "host-gateway";

/// One line of `--add-host`, checked: name and address, or name and [`GATEWAY`].
///
/// # Errors
/// When it is no such pair.
pub fn extra_host(text: &str) -> Result<(&str, &str), Error> {
    let fail = || Error::invalid("extra_hosts", text, "must be name:address");
    let (name, address) = text.split_once(['=', ':']).ok_or_else(fail)?;
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let named = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if !named || !(bare == GATEWAY || bare.parse::<std::net::IpAddr>().is_ok()) {
        return Err(fail());
    }
    Ok((name, bare))
}

/// The hosts file. `host_hosts` is the host's own, for a container that shares its network.
///
/// # Errors
/// When a line of the request cannot be one, or wants a gateway where there is none.
pub fn hosts(
    spec: &ContainerSpec,
    resolved: &Resolved,
    endpoints: &[Endpoint],
    host_hosts: Option<&str>,
) -> Result<String, Error> {
    let mut text = host_hosts.map_or_else(|| LOCAL.to_owned(), str::to_owned);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let gateway = match host_hosts {
        Some(_) => Some("127.0.0.1"),
        None => endpoints.iter().map(|e| e.ipv4_gateway.as_str()).find(|gateway| !gateway.is_empty()),
    };
    let mut line = |address: &str, names: &str| {
        writeln!(text, "{address}\t{names}").expect("writing to a string cannot fail");
    };
    for extra in &spec.extra_hosts {
        let (name, address) = extra_host(extra)?;
        let address = if address == GATEWAY {
            gateway.ok_or_else(|| {
                Error::Conflict(format!(
                    "{extra:?} wants the host's address, and no network of the container has one"
                ))
            })?
        } else {
            address
        };
        line(address, name);
    }
    let names = if spec.domainname.is_empty() {
        resolved.hostname.clone()
    } else {
        format!("{host}.{} {host}", spec.domainname, host = resolved.hostname)
    };
    for address in endpoints.iter().flat_map(|e| [&e.ipv4, &e.ipv6]).filter(|a| !a.is_empty()) {
        line(address, &names);
    }
    Ok(text)
}

/// The resolver's configuration: `base`, with what the request says in the place of its own kind.
#[must_use]
pub fn resolv_conf(spec: &ContainerSpec, base: &str) -> String {
    let replaced = |line: &str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        match word {
            "nameserver" => !spec.dns.is_empty(),
            "search" | "domain" => !spec.dns_search.is_empty(),
            "options" => !spec.dns_options.is_empty(),
            _ => false,
        }
    };
    let mut text = String::new();
    let mut line = |line: &str| writeln!(text, "{line}").expect("writing to a string cannot fail");
    spec.dns.iter().for_each(|server| line(&format!("nameserver {server}")));
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

    fn endpoint() -> Endpoint {
        Endpoint { ipv4: "172.17.0.2".into(), ipv4_gateway: "172.17.0.1".into(), ..Default::default() }
    }

    fn named(hostname: &str) -> Resolved {
        Resolved { hostname: hostname.to_owned(), ..Resolved::default() }
    }

    #[test]
    fn hosts_name_the_container_and_what_was_added() {
        let spec = ContainerSpec {
            domainname: "lan".into(),
            extra_hosts: vec!["db:10.0.0.1".into(), "v6:fd00::1".into(), "out=host-gateway".into()],
            ..Default::default()
        };
        let text = hosts(&spec, &named("web"), &[endpoint()], None).unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(
            text.ends_with("10.0.0.1\tdb\nfd00::1\tv6\n172.17.0.1\tout\n172.17.0.2\tweb.lan web\n"),
            "{text}"
        );
        assert!(hosts(&spec, &named("web"), &[], None).is_err(), "no gateway without a network");
        let shared = hosts(&ContainerSpec::default(), &named("h"), &[], Some("127.0.0.1 localhost")).unwrap();
        assert_eq!(shared, "127.0.0.1 localhost\n");
        for bad in ["", "x", "x:", ":1.2.3.4", "a b:1.2.3.4", "x:1.2.3.4\n5.6.7.8 y", "x:1.2.3"] {
            assert!(extra_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_request_replaces_lines_of_its_kind() {
        let base = "# note\nnameserver 10.0.0.53\nsearch a b\noptions ndots:5\n";
        assert_eq!(resolv_conf(&ContainerSpec::default(), base), base);
        let spec = ContainerSpec {
            dns: vec!["1.1.1.1".into()],
            dns_search: vec!["c".into()],
            dns_options: vec!["rotate".into()],
            ..Default::default()
        };
        assert_eq!(resolv_conf(&spec, base), "nameserver 1.1.1.1\n# note\nsearch c\noptions rotate\n");
        let none = ContainerSpec { dns_search: vec![".".into()], ..Default::default() };
        assert_eq!(resolv_conf(&none, base), "# note\nnameserver 10.0.0.53\noptions ndots:5\n");
    }
}
