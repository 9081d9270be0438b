//! Ports of the host, held by a socket that serves nobody.
//!
//! UNSAFETY: attaching a classic socket filter has no wrapper in any crate that we use.

#![expect(unsafe_code, reason = "SO_ATTACH_FILTER takes a pointer to a program")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType, ipproto, sockopt};

/// Whose port numbers are meant; each has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, where the kernel has it.
    Sctp,
}

/// Binds a port so that nobody else can, and answers with the socket and the address that it got.
///
/// The socket has no `SO_REUSEADDR` and does not listen: connections to it are refused as if nobody were there, and
/// a bind by anybody else fails. What is sent to it is dropped by a filter before it takes memory.
pub fn reserve(address: SocketAddr, protocol: Protocol) -> io::Result<(OwnedFd, SocketAddr)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
    if address.is_ipv6() {
        // Port 80 of every IPv6 address and port 80 of every IPv4 address are two reservations.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol != ipproto::TCP {
        drop_all(&socket)?;
    }
    rustix::net::bind(&socket, &address)?;
    let bound = rustix::net::getsockname(&socket)?;
    Ok((socket, socket_address(bound)?))
}

fn socket_address(address: SocketAddrAny) -> io::Result<SocketAddr> {
    SocketAddr::try_from(address).map_err(Into::into)
}

/// A filter of one instruction: take nothing.
fn drop_all(socket: &OwnedFd) -> io::Result<()> {
    const RETURN: u16 = 0x06;
    let mut program = [libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the call, as its length says.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::from_ref(&filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::Duration;

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn a_held_tcp_port_is_taken_and_answers_nobody() {
        let (held, address) = reserve(loopback(), Protocol::Tcp).unwrap();
        assert_ne!(address.port(), 0);
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(reserve(address, Protocol::Tcp).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(held);
        TcpListener::bind(address).unwrap();
    }

    #[test]
    fn a_held_udp_port_swallows_what_comes() {
        let (held, address) = reserve(loopback(), Protocol::Udp).unwrap();
        assert_eq!(UdpSocket::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let sender = UdpSocket::bind(loopback()).unwrap();
        sender.send_to(b"x", address).unwrap();
        let receiver = UdpSocket::from(held);
        receiver.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(receiver.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn both_families_have_the_port_for_themselves() {
        let (_four, address) = reserve("0.0.0.0:0".parse().unwrap(), Protocol::Tcp).unwrap();
        match reserve(SocketAddr::new("::".parse().unwrap(), address.port()), Protocol::Tcp) {
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => eprintln!("skipped: no IPv6"),
            Err(e) => panic!("{e}"),
        }
    }
}
