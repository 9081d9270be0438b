//! Ports that are asked for, held and let go of.

use super::*;
use davit_proto::status::{Classify as _, ErrorKind, chain};
use std::net::TcpListener;

fn asked(host_ip: &str, host_port: u32, protocol: &str) -> PortReservation {
    PortReservation {
        host_ip: host_ip.into(),
        host_port,
        protocol: protocol.into(),
        ..PortReservation::default()
    }
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
    for (port, host_port_last, count) in [(0, 80, 0), (80, 79, 0), (0, 0, 2), (80, 90, 2), (65_535, 0, 2)] {
        let asked = PortReservation { host_port_last, count, ..asked("", port, "tcp") };
        assert!(Wanted::try_from(asked).is_err(), "{port} {host_port_last} {count}");
    }
    assert_eq!(wanted("", 80, "udp").ip, None);
    assert_eq!(wanted("::1", 80, "tcp").ip, Some("::1".parse().unwrap()));
}

#[test]
fn any_free_port_is_chosen_by_the_kernel_and_kept() {
    let held = hold(wanted("127.0.0.1", 0, "tcp")).unwrap();
    assert_ne!(held.port, 0);
    assert_eq!(held.held(), PortReservation { count: 1, ..asked("127.0.0.1", held.port.into(), "tcp") });
    let again = hold(wanted("127.0.0.1", held.port.into(), "tcp")).unwrap_err();
    assert!(matches!(again, TaskError::PortTaken { .. }), "{again}");
}

#[test]
fn the_first_free_one_of_a_range_is_taken() {
    let held = hold(wanted("127.0.0.1", 0, "tcp")).unwrap();
    let first = u32::from(held.port.min(65_000));
    let range = PortReservation { host_port_last: first + 50, ..asked("127.0.0.1", first, "tcp") };
    let next = hold(range.try_into().unwrap()).unwrap();
    assert!(u32::from(next.port) > first && u32::from(next.port) <= first + 50);
    let full = PortReservation { host_port_last: first, ..asked("127.0.0.1", first, "tcp") };
    assert!(hold(full.try_into().unwrap()).is_err());
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
    let first = port - 1;
    let row = PortReservation { count: 3, ..asked("", first.into(), "tcp") };
    for wish in [wanted("", port.into(), "tcp"), row.try_into().unwrap()] {
        let error = hold(wish).unwrap_err();
        let TaskError::PortTaken { port: named, holder: Some(holder) } = &error else { panic!("{error:?}") };
        assert_eq!(*named, format!("0.0.0.0:{port}/tcp"));
        assert!(holder.contains(&format!("pid {}", std::process::id())), "{holder}");
    }
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

/// Sockets for a row that begins at a port, whatever their own numbers are.
fn row(port: u16, count: u16) -> Reservation {
    let sockets = (0..count).map(|_| port::reserve(None, 0, Protocol::Udp).unwrap().0).collect();
    Reservation { wanted: Wanted { port, count, ..wanted("", 1, "udp") }, port, sockets }
}

#[test]
fn parts_of_a_row_can_be_let_go() {
    for (gone, left) in [
        ((10, 5), vec![]),
        ((9, 7), vec![]),
        ((10, 1), vec![(11, 4)]),
        ((14, 9), vec![(10, 4)]),
        ((12, 1), vec![(10, 2), (13, 2)]),
        ((15, 1), vec![(10, 5)]),
        ((1, 9), vec![(10, 5)]),
    ] {
        let gone = Wanted { port: gone.0, count: gone.1, ..wanted("", 1, "udp") };
        let parts = row(10, 5).without(&gone);
        let found: Vec<_> = parts.iter().map(|part| (part.port, part.count())).collect();
        assert_eq!(found, left, "{gone:?}");
    }
    let other = Wanted { port: 10, count: 5, ..wanted("127.0.0.1", 1, "udp") };
    assert_eq!(row(10, 5).without(&other).len(), 1, "on another address");
    assert!(row(10, 5).holder_of(Protocol::Udp, 14).is_some());
    assert!(row(10, 5).holder_of(Protocol::Udp, 15).is_none());
    assert!(row(10, 5).holder_of(Protocol::Tcp, 10).is_none());
}
