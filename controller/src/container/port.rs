//! A container's ports, between its shim, which holds them on the host, and the network service, which leads them to
//! the container.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use davit_proto::container::{Container, NetworkStatus, PortSpec};
use davit_proto::id::ContainerId;
use davit_proto::network::{PublishRequest, PublishedPort};
use davit_proto::port::each;
use davit_proto::reason;
use davit_proto::status::Classify as _;
use davit_proto::task::{
    PortReservation, RelayRequest, RelayedPort, ReserveRequest, StateRequest, UnreserveRequest,
};

use super::live::status_of;
use super::spec::port::protocol;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{LONG, SHORT, Shim, within};

/// Ports of one container that are served on `[::1]` too; each costs its shim a socket.
const RELAYED: usize = 256;

/// A port of the host: address, none for every one; transport; number.
pub type Place = (Option<IpAddr>, String, u32);

/// The port of the host that a published port is.
#[must_use]
pub fn place(port: &PortSpec) -> Place {
    (port.host_ip.parse().ok(), protocol(port).to_owned(), port.host_port)
}

/// Has ports held on the host; answers with those that were chosen. `known` is how many reservations its shim has that
/// we know of.
///
/// # Errors
/// When one is taken: by which container, where it is one of ours. Then none is held.
pub async fn reserve(
    engine: &Engine,
    shim: &Shim,
    wanted: &[PortSpec],
    known: usize,
) -> Result<Vec<PortSpec>, Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let known = u32::try_from(known).unwrap_or(u32::MAX);
    let request = ReserveRequest { ports: in_rows(wanted), known };
    let held = within(LONG, "reserve the ports", shim.tasks().reserve(request)).await;
    let held = held.map_err(|error| blame(engine, shim.id(), error, wanted))?;
    let numbers = held.ports.iter().flat_map(|row| (0..row.count.max(1)).map(|n| row.host_port + n));
    let chosen = wanted.iter().zip(numbers);
    Ok(chosen
        .map(|(port, host_port)| PortSpec {
            host_port,
            host_port_last: 0,
            protocol: protocol(port).to_owned(),
            ..port.clone()
        })
        .collect())
}

/// Has ports held no longer.
///
/// # Errors
/// When the shim fails.
pub async fn unreserve(shim: &Shim, gone: &[PortSpec]) -> Result<(), Error> {
    if gone.is_empty() {
        return Ok(());
    }
    let request = UnreserveRequest { ports: in_rows(gone) };
    within(SHORT, "let go of the ports", shim.tasks().unreserve(request)).await.map(drop)
}

/// How many reservations a shim has, and the ports of the host that they are.
///
/// # Errors
/// When the shim fails.
pub async fn held(shim: &Shim) -> Result<(usize, Vec<PortSpec>), Error> {
    let answer = within(SHORT, "ask the shim", shim.tasks().state(StateRequest {})).await?;
    let rows = answer.snapshot.unwrap_or_default().ports;
    let ports = rows.iter().flat_map(|row| {
        (0..row.count.max(1)).map(|n| PortSpec {
            host_ip: row.host_ip.clone(),
            host_port: row.host_port + n,
            protocol: row.protocol.clone(),
            ..PortSpec::default()
        })
    });
    Ok((rows.len(), ports.collect()))
}

/// Has these ports lead to the container and no others; answers with what a person should know.
///
/// # Errors
/// When the service fails.
pub async fn publish(
    engine: &Arc<Engine>,
    id: &ContainerId,
    ports: &[PortSpec],
) -> Result<Vec<String>, Error> {
    let request =
        PublishRequest { container_id: id.to_string(), ports: each(ports).iter().map(published).collect() };
    let done = within(LONG, "publish the ports", engine.networks().publish(request)).await;
    done.map(|answer| answer.warnings).map_err(|error| blame(engine, id, error, ports))
}

/// A port as the network service is told, one by one.
#[must_use]
pub fn published(port: &PortSpec) -> PublishedPort {
    PublishedPort {
        host_ip: port.host_ip.clone(),
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: protocol(port).to_owned(),
    }
}

/// Has those ports served on `[::1]` that are published there, and no others; answers with what a person should know. A
/// port of 127.0.0.1 alone is not.
///
/// # Errors
/// When the shim fails.
pub async fn relay(
    shim: &Shim,
    ports: &[PortSpec],
    networks: &[NetworkStatus],
) -> Result<Vec<String>, Error> {
    let address = networks.iter().flat_map(|network| [&network.ipv4, &network.ipv6]);
    let Some(address) = address.into_iter().find(|address| !address.is_empty()) else {
        return Ok(Vec::new());
    };
    let ports = each(ports);
    let ways = ports.iter().filter(|port| is_on_loopback6(port)).map(|port| RelayedPort {
        host_port: port.host_port,
        protocol: protocol(port).to_owned(),
        address: address.clone(),
        container_port: port.container_port,
    });
    let mut ports: Vec<RelayedPort> = ways.collect();
    let mut warnings = Vec::new();
    if ports.len() > RELAYED {
        warnings.push(format!("on [::1] only the first {RELAYED} of {} ports are served", ports.len()));
        ports.truncate(RELAYED);
    }
    let answer =
        within(SHORT, "serve the ports on [::1]", shim.tasks().relay(RelayRequest { ports })).await?;
    warnings.extend(answer.warnings);
    Ok(warnings)
}

/// Whether a port is published on `[::1]`.
#[must_use]
pub fn is_on_loopback6(port: &PortSpec) -> bool {
    let on = match port.host_ip.parse::<IpAddr>() {
        Ok(ip) => ip == Ipv6Addr::LOCALHOST || ip == Ipv6Addr::UNSPECIFIED,
        Err(_) => port.host_ip.is_empty(),
    };
    on && protocol(port) != "sctp"
}

/// Ports as a shim is asked for them: those that follow each other as one.
fn in_rows(ports: &[PortSpec]) -> Vec<PortReservation> {
    let mut rows: Vec<PortReservation> = Vec::new();
    for port in ports {
        let one = PortReservation {
            host_ip: port.host_ip.clone(),
            host_port: port.host_port,
            protocol: protocol(port).to_owned(),
            host_port_last: port.host_port_last,
            count: 1,
        };
        let follows = |row: &&mut PortReservation| {
            (row.host_ip.as_str(), row.protocol.as_str()) == (&one.host_ip, &one.protocol)
                && row.host_port != 0
                && row.host_port_last == 0
                && one.host_port_last == 0
                && row.host_port + row.count == one.host_port
        };
        match rows.last_mut().filter(follows) {
            Some(row) => row.count += 1,
            None => rows.push(one),
        }
    }
    rows
}

/// Says by which container of ours a port is taken.
fn blame(engine: &Engine, id: &ContainerId, error: Error, wanted: &[PortSpec]) -> Error {
    if error.reason() != reason::PORT_TAKEN {
        return error;
    }
    let mut asked: BTreeMap<(String, u32), Vec<&PortSpec>> = BTreeMap::new();
    for port in wanted.iter().filter(|port| port.host_port != 0 && port.host_port_last == 0) {
        asked.entry((protocol(port).to_owned(), port.host_port)).or_default().push(port);
    }
    let listing = engine.store.all();
    let others = listing.records.iter().filter_map(|record| record.container.as_ref());
    for other in others.filter(|other| other.id != id.as_str()) {
        if let Some(port) = clash(other, &asked) {
            return Error::PortTaken { port, container: other.name.clone() };
        }
    }
    error
}

/// The first port of a container that is among those that are asked for, as a person reads it.
fn clash(other: &Container, asked: &BTreeMap<(String, u32), Vec<&PortSpec>>) -> Option<String> {
    let taken = |port: &PortSpec| {
        let wanted = asked.get(&(protocol(port).to_owned(), port.host_port))?;
        let (theirs, ..) = place(port);
        let same = wanted.iter().any(|wanted| is_same_address(place(wanted).0, theirs));
        same.then(|| {
            let ip = if port.host_ip.is_empty() { "0.0.0.0" } else { &port.host_ip };
            let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
            format!("{ip}:{}/{}", port.host_port, protocol(port))
        })
    };
    each(&status_of(other).ports).iter().find_map(taken)
}

fn is_same_address(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => {
            a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_ip: &str, host_port: u32, protocol: &str) -> PortSpec {
        PortSpec {
            host_ip: host_ip.into(),
            host_port,
            container_port: 80,
            protocol: protocol.into(),
            ..PortSpec::default()
        }
    }

    #[test]
    fn ports_that_follow_each_other_are_held_as_one() {
        let asked = [
            port("", 80, ""),
            port("", 81, "tcp"),
            port("", 83, "tcp"),
            port("", 84, "udp"),
            port("", 0, "udp"),
            port("", 0, "udp"),
            PortSpec { host_port_last: 90, ..port("", 85, "udp") },
        ];
        let rows = in_rows(&asked);
        let shown: Vec<_> = rows.iter().map(|row| (row.host_port, row.host_port_last, row.count)).collect();
        assert_eq!(shown, [(80, 0, 2), (83, 0, 1), (84, 0, 1), (0, 0, 1), (0, 0, 1), (85, 90, 1)]);
    }

    #[test]
    fn what_is_served_on_loopback() {
        for (ip, protocol, served) in [
            ("", "", true),
            ("", "udp", true),
            ("", "sctp", false),
            ("::", "tcp", true),
            ("::1", "tcp", true),
            ("0.0.0.0", "tcp", false),
            ("127.0.0.1", "tcp", false),
            ("fd00::1", "tcp", false),
        ] {
            assert_eq!(is_on_loopback6(&port(ip, 80, protocol)), served, "{ip} {protocol}");
        }
    }

    #[test]
    fn addresses_that_are_one() {
        let ip = |text: &str| text.parse().ok();
        for (a, b, same) in [
            ("", "127.0.0.1", true),
            ("", "::1", true),
            ("0.0.0.0", "127.0.0.1", true),
            ("0.0.0.0", "::1", false),
            ("::", "::1", true),
            ("127.0.0.1", "127.0.0.2", false),
        ] {
            assert_eq!(is_same_address(ip(a), ip(b)), same, "{a} {b}");
            assert_eq!(is_same_address(ip(b), ip(a)), same, "{b} {a}");
        }
    }
}
