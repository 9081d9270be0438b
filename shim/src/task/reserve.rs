//! Reserve: holds ports of the host by sockets that serve nobody.
//!
//! The sockets live in the host's network namespace, where the serving side of the shim is. A port that is taken is
//! told at once and not when the first packet goes astray; one that is held is nobody else's until the shim ends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use davit_proto::task::PortReservation;
use davit_sys::port::{self, Held, Protocol};

use super::driver::{Body, Driver};
use super::error::TaskError;
use super::holder;
use super::state::{Command, Denied};

/// Ports that one container may have; a host has as many of each protocol.
const MOST: usize = 65_536;

/// Ports that are asked for: valid in all their parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Address; none for every one of both families.
    pub ip: Option<IpAddr>,
    /// Transport.
    pub protocol: Protocol,
    /// The first one, or 0 for any that is free.
    pub port: u16,
    /// The last one of those of which any is wanted; 0 for the first alone.
    last: u16,
    /// How many in a row.
    pub count: u16,
}

/// Ports in a row that are held.
#[derive(Debug)]
pub struct Reservation {
    wanted: Wanted,
    /// The first one.
    port: u16,
    /// Hold the ports for as long as they are open, each its own.
    sockets: Vec<Held>,
}

impl Reservation {
    /// The ports as they were asked for, with the number that they got.
    pub fn held(&self) -> PortReservation {
        let Wanted { ip, protocol, .. } = self.wanted;
        PortReservation {
            host_ip: ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host_port: self.port.into(),
            protocol: name(protocol).to_owned(),
            host_port_last: 0,
            count: u32::try_from(self.sockets.len()).unwrap_or(u32::MAX),
        }
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.sockets.len()
    }

    /// What holds a port on an address or on every one, when it is among these.
    pub fn holder_of(&self, protocol: Protocol, port: u16) -> Option<&Held> {
        let offset = port.checked_sub(self.port).filter(|_| self.wanted.protocol == protocol)?;
        self.sockets.get(usize::from(offset))
    }

    /// The same without those that are wanted no more.
    pub fn without(self, gone: &Wanted) -> Vec<Self> {
        let Self { wanted, port, mut sockets } = self;
        if wanted.ip != gone.ip || wanted.protocol != gone.protocol {
            return vec![Self { wanted, port, sockets }];
        }
        let bounded = |offset: i32| usize::try_from(offset.max(0)).unwrap_or(0).min(sockets.len());
        let first = bounded(i32::from(gone.port) - i32::from(port));
        let last = bounded(i32::from(gone.port) + i32::from(gone.count) - i32::from(port));
        if first >= last {
            return vec![Self { wanted, port, sockets }];
        }
        let after = sockets.split_off(last);
        sockets.truncate(first);
        let skipped = u16::try_from(last).unwrap_or(u16::MAX);
        [(port, sockets), (port.saturating_add(skipped), after)]
            .into_iter()
            .filter(|(_, sockets)| !sockets.is_empty())
            .map(|(port, sockets)| Self { wanted: wanted.clone(), port, sockets })
            .collect()
    }
}

impl TryFrom<PortReservation> for Wanted {
    type Error = TaskError;

    fn try_from(asked: PortReservation) -> Result<Self, TaskError> {
        let invalid = |name, value: &dyn std::fmt::Display, rule| TaskError::Invalid {
            name,
            value: value.to_string(),
            rule,
        };
        let ip = match asked.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| invalid("host_ip", &text, "must be an IP address"))?),
        };
        let number = |name, value: u32| {
            u16::try_from(value).map_err(|_| invalid(name, &value, "must be at most 65535"))
        };
        let port = number("host_port", asked.host_port)?;
        let last = number("host_port_last", asked.host_port_last)?;
        if last != 0 && (port == 0 || last < port) {
            return Err(invalid("host_port_last", &last, "must not be before the first port of its range"));
        }
        let count = number("count", asked.count)?.max(1);
        if count > 1 && (port == 0 || last != 0 || port.checked_add(count - 1).is_none()) {
            return Err(invalid("count", &count, "wants a first port, with as many after it"));
        }
        let protocol = match asked.protocol.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(invalid("protocol", &other, "must be tcp, udp or sctp")),
        };
        Ok(Self { ip, protocol, port, last, count })
    }
}

/// The name of a transport.
fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Holds all the ports or none. The same ones that this container holds beyond the reservations that the caller knows of
/// are answered as they were.
pub(super) fn reserve(
    driver: &mut Driver,
    wanted: Vec<Wanted>,
    known: usize,
) -> Result<Vec<PortReservation>, TaskError> {
    let body = living(driver)?;
    if let Some(answer) = repeat(body.ports.get(known..).unwrap_or_default(), &wanted) {
        return Ok(answer);
    }
    let held: usize = body.ports.iter().map(Reservation::count).sum();
    let further: usize = wanted.iter().map(|row| usize::from(row.count)).sum();
    if further.saturating_add(held) > MOST {
        let rule = "a container can have at most 65536";
        return Err(TaskError::Invalid { name: "ports", value: further.to_string(), rule });
    }
    // Few ports always have room; to count costs system calls.
    if further > 64
        && let Err(limit) = port::make_room(further).map_err(TaskError::Room)?
    {
        return Err(TaskError::TooManyPorts { count: further, limit });
    }
    let fresh = wanted.into_iter().map(hold).collect::<Result<Vec<_>, _>>()?;
    let answer = fresh.iter().map(Reservation::held).collect();
    body.ports.extend(fresh);
    driver.publish();
    Ok(answer)
}

/// What a task has that ports can hang on.
pub(super) fn living(driver: &mut Driver) -> Result<&mut Body, TaskError> {
    driver.admit(Command::Reserve)?;
    driver.task.init_mut().ok_or(TaskError::Denied(Denied::NotPrepared))
}

/// The answer of an earlier request for the same ports.
fn repeat(held: &[Reservation], wanted: &[Wanted]) -> Option<Vec<PortReservation>> {
    if wanted.is_empty() {
        return Some(Vec::new());
    }
    let same = held.windows(wanted.len()).find(|window| window.iter().map(|r| &r.wanted).eq(wanted))?;
    Some(same.iter().map(Reservation::held).collect())
}

fn hold(wanted: Wanted) -> Result<Reservation, TaskError> {
    let Wanted { ip, protocol, port, last, count } = wanted;
    // The first one that is free, of one or of several.
    for first in port..=last.max(port) {
        let held: io::Result<Vec<(Held, u16)>> =
            (0..count).map(|offset| port::reserve(ip, first.saturating_add(offset), protocol)).collect();
        match held {
            Ok(held) => {
                let port = held.first().map_or(first, |(_, port)| *port);
                let sockets = held.into_iter().map(|(socket, _)| socket).collect();
                return Ok(Reservation { wanted, port, sockets });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && first < last => {}
            Err(error) => return Err(failure(&wanted, error)),
        }
    }
    Err(failure(&wanted, io::ErrorKind::AddrInUse.into()))
}

fn failure(wanted: &Wanted, error: io::Error) -> TaskError {
    const EPROTONOSUPPORT: i32 = 93;
    let Wanted { ip, protocol, port, last, count } = *wanted;
    let shown = |first: u16, last: u16| {
        let address = SocketAddr::new(ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), first);
        let row = if last > first { format!("-{last}") } else { String::new() };
        format!("{address}{row}/{}", name(protocol))
    };
    if error.kind() == io::ErrorKind::AddrInUse {
        if last > port {
            return TaskError::PortTaken { port: shown(port, last), holder: None };
        }
        // Which one of a row it was is found by who has it.
        let row = (0..count).map(|offset| port.saturating_add(offset));
        let mut found = row.filter_map(|port| Some((port, holder::find(ip, port, protocol)?)));
        return match found.next() {
            Some((port, holder)) => TaskError::PortTaken { port: shown(port, port), holder: Some(holder) },
            None => {
                let end = port.saturating_add(count - 1);
                TaskError::PortTaken { port: shown(port, end), holder: None }
            }
        };
    }
    let port = shown(port, port.saturating_add(count - 1).max(last));
    if error.raw_os_error() == Some(EPROTONOSUPPORT) {
        let why = format!("this kernel has no {}", name(protocol));
        return TaskError::Port { port, source: io::Error::new(io::ErrorKind::Unsupported, why) };
    }
    TaskError::Port { port, source: error }
}

#[cfg(test)]
#[path = "reserve_tests.rs"]
mod tests;
