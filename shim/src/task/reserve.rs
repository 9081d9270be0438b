//! Reserve: holds ports of the host by sockets that serve nobody.
//!
//! The sockets live in the host's network namespace, where the serving side of the shim is. A port that is taken is
//! told at once and not when the first packet goes astray; one that is held is nobody else's until the shim ends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use davit_proto::task::PortReservation;
use davit_sys::port::{self, Protocol};

use super::driver::Driver;
use super::error::TaskError;
use super::holder;
use super::state::{Command, Denied, Task};

/// Ports that one container may have; a host has as many of each protocol.
const MOST: usize = 65_536;

/// A port that is asked for: valid in all its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    asked: PortReservation,
    address: SocketAddr,
    protocol: Protocol,
}

/// A port that is held.
#[derive(Debug)]
pub struct Reservation {
    wanted: Wanted,
    port: u16,
    /// Holds the port for as long as it is open.
    _socket: OwnedFd,
}

impl Reservation {
    /// The port as it was asked for, with the number that it got.
    pub fn held(&self) -> PortReservation {
        PortReservation { host_port: self.port.into(), ..self.wanted.asked.clone() }
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
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            text => text.parse().map_err(|_| invalid("host_ip", &text, "must be an IP address"))?,
        };
        let port = u16::try_from(asked.host_port)
            .map_err(|_| invalid("host_port", &asked.host_port, "must be at most 65535"))?;
        let protocol = match asked.protocol.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(invalid("protocol", &other, "must be tcp, udp or sctp")),
        };
        let address = SocketAddr::new(ip, port);
        Ok(Self { asked, address, protocol })
    }
}

/// Holds all the ports or none. Ports that this container holds already are answered as they were.
pub(super) fn reserve(driver: &mut Driver, wanted: Vec<Wanted>) -> Result<Vec<PortReservation>, TaskError> {
    driver.admit(Command::Reserve)?;
    let (Task::Prepared { init: body } | Task::Created { init: body, .. } | Task::Running { init: body, .. }) =
        &mut driver.task
    else {
        return Err(Denied::NotPrepared.into());
    };
    if wanted.len().saturating_add(body.ports.len()) > MOST {
        let rule = "a container can have at most 65536";
        return Err(TaskError::Invalid { name: "ports", value: wanted.len().to_string(), rule });
    }
    if let Some(answer) = repeat(&body.ports, &wanted) {
        return Ok(answer);
    }
    let fresh = wanted.into_iter().map(hold).collect::<Result<Vec<_>, _>>()?;
    let answer = fresh.iter().map(Reservation::held).collect();
    body.ports.extend(fresh);
    driver.publish();
    Ok(answer)
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
    match port::reserve(wanted.address, wanted.protocol) {
        Ok((socket, address)) => Ok(Reservation { wanted, port: address.port(), _socket: socket }),
        Err(error) => {
            let name = format!("{}/{}", wanted.address, wanted.asked.protocol);
            Err(failure(&wanted, name, error))
        }
    }
}

fn failure(wanted: &Wanted, port: String, error: io::Error) -> TaskError {
    const EPROTONOSUPPORT: i32 = 93;
    if error.kind() == io::ErrorKind::AddrInUse {
        return TaskError::PortTaken { port, holder: holder::find(wanted.address, wanted.protocol) };
    }
    if error.raw_os_error() == Some(EPROTONOSUPPORT) {
        let why = format!("this kernel has no {}", wanted.asked.protocol);
        return TaskError::Port { port, source: io::Error::new(io::ErrorKind::Unsupported, why) };
    }
    TaskError::Port { port, source: error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::status::{Classify as _, ErrorKind, chain};
    use std::net::TcpListener;

    fn asked(host_ip: &str, host_port: u32, protocol: &str) -> PortReservation {
        PortReservation { host_ip: host_ip.into(), host_port, protocol: protocol.into() }
    }

    fn wanted(host_ip: &str, host_port: u32, protocol: &str) -> Wanted {
        asked(host_ip, host_port, protocol).try_into().unwrap()
    }

    #[test]
    fn foreign_values_are_checked() {
        for (ip, port, protocol, name) in [
            ("localhost", 80, "tcp", "host_ip"),
            ("", 65_536, "tcp", "host_port"),
            ("", 80, "icmp", "protocol"),
            ("", 80, "", "protocol"),
        ] {
            let error = Wanted::try_from(asked(ip, port, protocol)).unwrap_err();
            assert!(matches!(error, TaskError::Invalid { name: n, .. } if n == name), "{error}");
        }
        assert_eq!(wanted("", 80, "udp").address, "0.0.0.0:80".parse().unwrap());
        assert_eq!(wanted("::1", 80, "tcp").address, "[::1]:80".parse().unwrap());
    }

    #[test]
    fn any_free_port_is_chosen_by_the_kernel_and_kept() {
        let held = hold(wanted("127.0.0.1", 0, "tcp")).unwrap();
        assert_ne!(held.port, 0);
        assert_eq!(held.held(), asked("127.0.0.1", held.port.into(), "tcp"));
        let again = hold(wanted("127.0.0.1", held.port.into(), "tcp")).unwrap_err();
        assert!(matches!(again, TaskError::PortTaken { .. }), "{again}");
    }

    #[test]
    fn a_protocol_that_the_kernel_lacks_is_said_so() {
        match hold(wanted("127.0.0.1", 0, "sctp")) {
            Ok(held) => assert_ne!(held.port, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unimplemented);
                assert_eq!(chain(&error), "hold port 127.0.0.1:0/sctp: this kernel has no sctp");
            }
        }
    }

    #[test]
    fn a_taken_port_names_who_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = hold(wanted("", port.into(), "tcp")).unwrap_err();
        let TaskError::PortTaken { port: named, holder: Some(holder) } = &error else { panic!("{error:?}") };
        assert_eq!(*named, format!("0.0.0.0:{port}/tcp"));
        assert!(holder.contains(&format!("pid {}", std::process::id())), "{holder}");
    }

    #[test]
    fn the_same_request_gets_the_same_answer() {
        let (a, b) = (wanted("127.0.0.1", 0, "tcp"), wanted("127.0.0.1", 0, "udp"));
        let held = vec![hold(a.clone()).unwrap(), hold(b.clone()).unwrap()];
        let answer = repeat(&held, &[a.clone(), b.clone()]).unwrap();
        assert_eq!(answer, held.iter().map(Reservation::held).collect::<Vec<_>>());
        assert_eq!(repeat(&held, std::slice::from_ref(&b)).unwrap(), [held[1].held()]);
        assert!(repeat(&held, &[b, a]).is_none());
    }
}
