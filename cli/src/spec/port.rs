//! `--publish` and `--expose`.

use std::net::{IpAddr, Ipv6Addr};

use davit_proto::container::PortSpec;
use davit_proto::port::in_rows;

use super::Invalid;

/// `[[IP:]PORT:]PORT[/PROTOCOL]`, each port also as a range. An empty or absent host port is a free one; a range of them
/// for one port of the container is the first free one of it.
pub fn publish(text: &str) -> Result<Vec<PortSpec>, Invalid> {
    let invalid = |rule: &str| Invalid::new("--publish", text, rule);
    let (ports, protocol) =
        protocol_of(text).ok_or_else(|| invalid("the protocol must be tcp, udp or sctp"))?;
    let (host, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (ip, host) = match host.rsplit_once(':') {
        Some((ip, host)) => {
            (address(ip).ok_or_else(|| invalid("the part before the ports is no address"))?, host)
        }
        None => (String::new(), host),
    };
    let container = range(container).ok_or_else(|| invalid("the container's port must be 1 to 65535"))?;
    let host = match host {
        "" | "0" => None,
        host => Some(range(host).ok_or_else(|| invalid("the host's port must be 1 to 65535"))?),
    };
    if let (Some(host), 1) = (&host, container.len())
        && host.len() > 1
    {
        return Ok(vec![PortSpec {
            host_ip: ip,
            host_port: host.start,
            container_port: container.start,
            protocol: protocol.to_owned(),
            host_port_last: host.end - 1,
            count: 0,
        }]);
    }
    if let Some(host) = &host
        && host.len() != container.len()
    {
        return Err(invalid("the ranges of host and container are not of the same length"));
    }
    let rows = in_rows(&singles(&ip, host, container, protocol));
    Ok(rows)
}

fn singles(
    ip: &str,
    host: Option<std::ops::Range<u32>>,
    container: std::ops::Range<u32>,
    protocol: &str,
) -> Vec<PortSpec> {
    let hosts = host.into_iter().flatten().map(Some).chain(std::iter::repeat(None));
    container
        .zip(hosts)
        .map(|(container_port, host_port)| PortSpec {
            host_ip: ip.to_owned(),
            host_port: host_port.unwrap_or(0),
            container_port,
            protocol: protocol.to_owned(),
            ..PortSpec::default()
        })
        .collect()
}

/// What to publish no longer: as it was given to `--publish`, or `IP:PORT[/PROTOCOL]` of the host as `davit port` shows
/// it. What is not said may be any.
pub fn unpublish(text: &str) -> Result<Vec<PortSpec>, Invalid> {
    let invalid = |rule: &str| Invalid::new("--publish-rm", text, rule);
    let (ports, protocol) =
        protocol_of(text).ok_or_else(|| invalid("the protocol must be tcp, udp or sctp"))?;
    if let Some((ip, host)) = ports.rsplit_once(':')
        && !ip.is_empty()
        && let Some(ip) = address(ip)
        && let Some(hosts) = range(host)
    {
        // `davit port` shows every address as one of either family.
        let every = matches!(ip.as_str(), "0.0.0.0" | "::");
        let one = |host_port| PortSpec {
            host_ip: if every { String::new() } else { ip.clone() },
            host_port,
            protocol: protocol.to_owned(),
            ..PortSpec::default()
        };
        return Ok(hosts.map(one).collect());
    }
    match publish(text) {
        Ok(ports) if ports.iter().all(|port| port.host_port_last == 0) => Ok(ports),
        Ok(_) => Err(invalid("name the port of the host that it has")),
        Err(error) => Err(Invalid::new("--publish-rm", text, error.rule)),
    }
}

/// `PORT[-PORT][/PROTOCOL]`, each port of a range by itself: "80/tcp".
pub fn expose(text: &str) -> Result<Vec<String>, Invalid> {
    let invalid = |rule: &str| Invalid::new("--expose", text, rule);
    let (ports, protocol) =
        protocol_of(text).ok_or_else(|| invalid("the protocol must be tcp, udp or sctp"))?;
    let ports = range(ports).ok_or_else(|| invalid("a port must be 1 to 65535"))?;
    Ok(ports.map(|port| format!("{port}/{protocol}")).collect())
}

fn protocol_of(text: &str) -> Option<(&str, &'static str)> {
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let known = ["tcp", "udp", "sctp"].into_iter().find(|known| protocol.eq_ignore_ascii_case(known))?;
    Some((ports, known))
}

/// An address, an IPv6 one in brackets; nothing or `*` for all.
fn address(text: &str) -> Option<String> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|ip| ip.to_string()),
        None if text.is_empty() => Some(String::new()),
        None => text.parse::<IpAddr>().ok().filter(IpAddr::is_ipv4).map(|ip| ip.to_string()),
    }
}

fn range(text: &str) -> Option<std::ops::Range<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0).map(u32::from)
    };
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(first..last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        shown(&publish(text).unwrap())
    }

    fn shown(ports: &[PortSpec]) -> String {
        let last = |p: &PortSpec| match p.host_port_last {
            0 => String::new(),
            last => format!("-{last}"),
        };
        davit_proto::port::each(ports)
            .iter()
            .map(|p| format!("{}|{}{}|{}/{}", p.host_ip, p.host_port, last(p), p.container_port, p.protocol))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn all_of_dockers_forms() {
        for (text, wanted) in [
            ("80", "|0|80/tcp"),
            ("8080:80", "|8080|80/tcp"),
            ("8080:80/udp", "|8080|80/udp"),
            ("8080:80/TCP", "|8080|80/tcp"),
            ("8080:80/sctp", "|8080|80/sctp"),
            (":80", "|0|80/tcp"),
            ("0:80", "|0|80/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080|80/tcp"),
            ("127.0.0.1::80", "127.0.0.1|0|80/tcp"),
            ("0.0.0.0:8080:80", "0.0.0.0|8080|80/tcp"),
            ("[::1]:8080:80", "::1|8080|80/tcp"),
            ("[::1]::80/udp", "::1|0|80/udp"),
            ("[::]:8080:80", "::|8080|80/tcp"),
            ("8000-8002:80-82", "|8000|80/tcp |8001|81/tcp |8002|82/tcp"),
            ("127.0.0.1:8000-8001:80-81/udp", "127.0.0.1|8000|80/udp 127.0.0.1|8001|81/udp"),
            ("80-81", "|0|80/tcp |0|81/tcp"),
            ("8000-8010:80", "|8000-8010|80/tcp"),
            ("127.0.0.1:8000-8001:80/udp", "127.0.0.1|8000-8001|80/udp"),
            (":80-81", "|0|80/tcp |0|81/tcp"),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
        for bad in [
            "",
            "x",
            "0",
            "65536",
            "80:0",
            "80:x",
            "x:80",
            "80/icmp",
            "80/",
            "8000:80-81",
            "81-80",
            "::1:80:80",
            "[::1:80:80",
            "127.0.0.1:80",
            "1.2.3:80:80",
            "a.b:80:80",
            "80:80:80:80",
            "+80",
            "80-",
            "[127.0.0.1]:80:80",
            "-1:80",
        ] {
            assert!(publish(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_published_no_longer_is_named_as_it_is_shown() {
        for (text, wanted) in [
            ("80", "|0|80/tcp"),
            ("8080:80/udp", "|8080|80/udp"),
            ("0.0.0.0:8080", "|8080|0/tcp"),
            ("[::]:8080/udp", "|8080|0/udp"),
            ("127.0.0.1:8080", "127.0.0.1|8080|0/tcp"),
            ("[::1]:8080-8081", "::1|8080|0/tcp ::1|8081|0/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080|80/tcp"),
            ("8000-8001:80-81", "|8000|80/tcp |8001|81/tcp"),
        ] {
            assert_eq!(shown(&unpublish(text).unwrap()), wanted, "{text}");
        }
        for bad in ["", "x", "8000-8010:80", "80/x", "a.b:80"] {
            assert!(unpublish(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exposed() {
        assert_eq!(expose("80").unwrap(), ["80/tcp"]);
        assert_eq!(expose("53/udp").unwrap(), ["53/udp"]);
        assert_eq!(expose("80-81").unwrap(), ["80/tcp", "81/tcp"]);
        assert!(expose("80:80").is_err());
    }

    proptest! {
        #[test]
        fn nothing_typed_makes_a_parser_panic(text in "[0-9a-f:.\\[\\]/-]{0,30}") {
            let _ = (publish(&text), expose(&text));
        }

        #[test]
        fn ports_come_out_as_they_went_in(host in 1_u16.., container in 1_u16.., last in 0_u8..3) {
            let protocol = ["tcp", "udp", "sctp"][usize::from(last)];
            let ports = publish(&format!("{host}:{container}/{protocol}")).unwrap();
            prop_assert_eq!(ports.len(), 1);
            prop_assert_eq!((ports[0].host_port, ports[0].container_port), (host.into(), container.into()));
        }
    }
}
