//! The hosts file: lines that every container has, those that were asked for, and those that follow its networks and
//! links while it runs.

use std::fmt::Write as _;

use davit_proto::container::{ContainerSpec, NetworkStatus};

use super::Error;

/// Lines that every hosts file begins with.
const LOCAL: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";
/// Address that stands for the host as its containers see it.
const GATEWAY: &str = "host-gateway";

/// A line: an address and what is found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The address.
    pub address: String,
    /// The names, with spaces between.
    pub names: String,
}

impl Line {
    fn new(address: &str, names: &str) -> Self {
        Self { address: address.to_owned(), names: names.to_owned() }
    }
}

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

/// The whole file for a container with networks of its own, or, with `host_hosts`, the host's with what was asked for.
///
/// # Errors
/// When a line of the request cannot be one, or wants a gateway where there is none.
pub fn whole(
    spec: &ContainerSpec,
    hostname: &str,
    networks: &[NetworkStatus],
    host_hosts: Option<&str>,
) -> Result<String, Error> {
    let mut text = host_hosts.map_or_else(|| LOCAL.to_owned(), str::to_owned);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let gateways = match host_hosts {
        Some(_) => vec!["127.0.0.1"],
        None => gateways(networks),
    };
    for extra in &spec.extra_hosts {
        let (name, address) = extra_host(extra)?;
        // One that was taken from its last network starts without.
        if address == GATEWAY && gateways.is_empty() && !spec.unconnected {
            return Err(Error::Conflict(format!(
                "{extra:?} wants the host's address, and no network of the container has one"
            )));
        }
        let addresses = if address == GATEWAY { gateways.clone() } else { vec![address] };
        addresses.iter().for_each(|address| push(&mut text, &Line::new(address, name)));
    }
    own(spec, hostname, networks).iter().for_each(|line| push(&mut text, line));
    Ok(text)
}

/// The lines that follow a container's networks: its own name at each address, and the host's at the first gateway.
#[must_use]
pub fn following(spec: &ContainerSpec, hostname: &str, networks: &[NetworkStatus]) -> Vec<Line> {
    let gateways = gateways(networks);
    let named = to_gateway(spec);
    let hosts = named.iter().flat_map(|name| gateways.iter().map(|address| Line::new(address, name)));
    hosts.chain(own(spec, hostname, networks)).collect()
}

/// The first names of the lines that follow a container's networks.
#[must_use]
pub fn keys_of_networks(spec: &ContainerSpec, hostname: &str) -> Vec<String> {
    let names = own_names(spec, hostname);
    let own = names.split(' ').next().unwrap_or_default().to_owned();
    to_gateway(spec).into_iter().map(str::to_owned).chain([own]).collect()
}

/// The file with other lines in the place of those that begin with one of `keys` after the address. Whatever programs of
/// the container wrote themselves stays.
#[must_use]
pub fn replaced(present: &str, keys: &[String], lines: &[Line]) -> String {
    let ours = |line: &str| {
        let names = line.split_once('\t').map(|(_, names)| names);
        let first = names.and_then(|names| names.split(' ').next());
        first.is_some_and(|first| keys.iter().any(|key| key == first))
            && !LOCAL.lines().any(|local| local == line)
    };
    let mut text = String::with_capacity(present.len());
    for line in present.lines().filter(|line| !ours(line)) {
        text.push_str(line);
        text.push('\n');
    }
    lines.iter().for_each(|line| push(&mut text, line));
    text
}

fn push(text: &mut String, line: &Line) {
    writeln!(text, "{}\t{}", line.address, line.names).expect("writing to a string cannot fail");
}

fn own(spec: &ContainerSpec, hostname: &str, networks: &[NetworkStatus]) -> Vec<Line> {
    let names = own_names(spec, hostname);
    let addresses = networks.iter().flat_map(|network| [&network.ipv4, &network.ipv6]);
    addresses.filter(|address| !address.is_empty()).map(|address| Line::new(address, &names)).collect()
}

fn own_names(spec: &ContainerSpec, hostname: &str) -> String {
    if spec.domainname.is_empty() {
        return hostname.to_owned();
    }
    format!("{hostname}.{} {hostname}", spec.domainname)
}

/// Names that stand for the host.
fn to_gateway(spec: &ContainerSpec) -> Vec<&str> {
    let pairs = spec.extra_hosts.iter().filter_map(|text| extra_host(text).ok());
    pairs.filter(|(_, address)| *address == GATEWAY).map(|(name, _)| name).collect()
}

/// The host's addresses on the first network that has any, of both families.
fn gateways(networks: &[NetworkStatus]) -> Vec<&str> {
    let first = |of: fn(&NetworkStatus) -> &String| {
        networks.iter().map(of).map(String::as_str).find(|gateway| !gateway.is_empty())
    };
    [first(|network| &network.ipv4_gateway), first(|network| &network.ipv6_gateway)]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(ipv4: &str, gateway: &str) -> NetworkStatus {
        NetworkStatus { ipv4: ipv4.into(), ipv4_gateway: gateway.into(), ..Default::default() }
    }

    fn wish() -> ContainerSpec {
        ContainerSpec {
            domainname: "lan".into(),
            extra_hosts: vec!["db:10.0.0.1".into(), "v6:fd00::1".into(), "out=host-gateway".into()],
            ..Default::default()
        }
    }

    #[test]
    fn hosts_name_the_container_and_what_was_added() {
        let spec = wish();
        let text = whole(&spec, "web", &[network("172.17.0.2", "172.17.0.1")], None).unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(
            text.ends_with("10.0.0.1\tdb\nfd00::1\tv6\n172.17.0.1\tout\n172.17.0.2\tweb.lan web\n"),
            "{text}"
        );
        assert!(whole(&spec, "web", &[], None).is_err(), "no gateway without a network");
        let shared = whole(&ContainerSpec::default(), "h", &[], Some("127.0.0.1 localhost")).unwrap();
        assert_eq!(shared, "127.0.0.1 localhost\n");
        for bad in ["", "x", "x:", ":1.2.3.4", "a b:1.2.3.4", "x:1.2.3.4\n5.6.7.8 y", "x:1.2.3"] {
            assert!(extra_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_follow_networks_and_leave_the_rest_alone() {
        let spec = wish();
        let both = NetworkStatus {
            ipv6: "fd00::2".into(),
            ipv6_gateway: "fd00::1".into(),
            ..network("172.18.0.2", "172.18.0.1")
        };
        let mut text = whole(&spec, "web", &[network("172.17.0.2", "172.17.0.1")], None).unwrap();
        text.push_str("1.2.3.4 mine\n");
        let keys = keys_of_networks(&spec, "web");
        let text = replaced(&text, &keys, &following(&spec, "web", &[both]));
        assert!(text.starts_with(LOCAL), "{text}");
        let ends = "10.0.0.1\tdb\nfd00::1\tv6\n1.2.3.4 mine\n172.18.0.1\tout\nfd00::1\tout\n\
                    172.18.0.2\tweb.lan web\nfd00::2\tweb.lan web\n";
        assert!(text.ends_with(ends) && !text.contains("172.17"), "{text}");
        let none = replaced(&text, &keys, &following(&spec, "web", &[]));
        assert!(none.ends_with("1.2.3.4 mine\n"), "{none}");
        let local = replaced(LOCAL, &["localhost".to_owned()], &[]);
        assert_eq!(local, LOCAL, "what every container has is nobody's own");
    }
}
