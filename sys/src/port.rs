//! Ports of the host: held by a socket that serves nobody, and served beside it where somebody does.
//!
//! UNSAFETY: attaching a classic socket filter has no wrapper in any crate that we use.

#![expect(unsafe_code, reason = "SO_ATTACH_FILTER takes a pointer to a program")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType, ipproto, sockopt};
use rustix::pipe::SpliceFlags;

/// Connections that wait for their accept.
const BACKLOG: i32 = 128;

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

/// A port that is held as long as this lives.
#[derive(Debug)]
pub struct Held {
    socket: OwnedFd,
}

/// Binds a port so that nobody else can, and answers with its holder and the number that it got. No address means
/// every one of both families, or of IPv4 where the kernel has no IPv6.
///
/// The socket does not listen: connections to it are refused as if nobody were there. What is sent to it is dropped by
/// a filter before it takes memory. It shares its port with nobody: `SO_REUSEADDR` is set only while it is bound, and
/// only where connections that ended a moment ago are in the way.
pub fn reserve(ip: Option<IpAddr>, port: u16, protocol: Protocol) -> io::Result<(Held, u16)> {
    let Some(ip) = ip else {
        return match bind(Ipv6Addr::UNSPECIFIED.into(), port, protocol, false) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                bind(Ipv4Addr::UNSPECIFIED.into(), port, protocol, true)
            }
            other => other,
        };
    };
    bind(ip, port, protocol, true)
}

fn bind(ip: IpAddr, port: u16, protocol: Protocol, alone: bool) -> io::Result<(Held, u16)> {
    let socket = socket(ip, protocol, SocketFlags::CLOEXEC)?;
    if ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, alone)?;
    }
    if protocol != Protocol::Tcp {
        drop_all(&socket)?;
    }
    let address = SocketAddr::new(ip, port);
    match rustix::net::bind(&socket, &address) {
        Err(Errno::ADDRINUSE) if protocol == Protocol::Tcp && port != 0 => {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &address)?;
            sockopt::set_socket_reuseaddr(&socket, false)?;
        }
        other => other?,
    }
    let port = bound(&socket)?.port();
    Ok((Held { socket }, port))
}

impl Held {
    /// Whether the port of `[::1]` is among those that are held.
    pub fn has_loopback6(&self) -> io::Result<bool> {
        let ip = bound(&self.socket)?.ip();
        Ok(ip == Ipv6Addr::LOCALHOST || ip == Ipv6Addr::UNSPECIFIED)
    }

    /// A socket that serves this port on `[::1]`: one that listens, or one that receives. Nobody else can slip in: the
    /// port is shared for the moment of the bind only, and with nobody who listens.
    pub fn serve_loopback6(&self, protocol: Protocol) -> io::Result<OwnedFd> {
        let port = bound(&self.socket)?.port();
        if bound(&self.socket)?.ip() == Ipv6Addr::LOCALHOST {
            return serve(self.socket.try_clone()?, protocol);
        }
        let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
        let beside = socket(address.ip(), protocol, SocketFlags::CLOEXEC)?;
        sockopt::set_socket_reuseaddr(&beside, true)?;
        sockopt::set_socket_reuseaddr(&self.socket, true)?;
        let served = rustix::net::bind(&beside, &address)
            .map_err(io::Error::from)
            .and_then(|()| serve(beside, protocol));
        sockopt::set_socket_reuseaddr(&self.socket, false)?;
        let served = served?;
        if protocol == Protocol::Udp {
            sockopt::set_socket_reuseaddr(&served, false)?;
        }
        Ok(served)
    }
}

fn serve(socket: OwnedFd, protocol: Protocol) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    match protocol {
        Protocol::Tcp => rustix::net::listen(&socket, BACKLOG)?,
        Protocol::Udp | Protocol::Sctp => match drop_none(&socket) {
            // There was no filter.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        },
    }
    Ok(socket)
}

/// Moves what there is from one descriptor to another, of which one is a pipe, without a copy; answers with how many
/// bytes, 0 at the end.
pub fn splice(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(rustix::pipe::splice(from, None, to, None, most, flags)?)
}

/// Says on a connection that nothing more will be sent.
pub fn send_no_more(connection: BorrowedFd<'_>) -> io::Result<()> {
    let connection = std::net::TcpStream::from(connection.try_clone_to_owned()?);
    match connection.shutdown(Shutdown::Write) {
        // The other end has gone.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        other => other,
    }
}

/// Makes room for further descriptors, raising this process's own limit as far as that is allowed.
///
/// # Errors
/// The limit, where it does not leave room.
pub fn make_room(further: usize) -> io::Result<Result<(), u64>> {
    /// What else a process opens beside.
    const MARGIN: u64 = 256;
    use rustix::process::{Resource, getrlimit, setrlimit};
    let open = std::fs::read_dir("/proc/self/fd")?.count();
    let wanted = (open as u64).saturating_add(further as u64).saturating_add(MARGIN);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= wanted) {
        return Ok(Ok(()));
    }
    if let Some(hard) = limit.maximum.filter(|hard| *hard < wanted) {
        return Ok(Err(hard));
    }
    limit.current = Some(wanted);
    setrlimit(Resource::Nofile, limit)?;
    Ok(Ok(()))
}

fn socket(ip: IpAddr, protocol: Protocol, flags: SocketFlags) -> io::Result<OwnedFd> {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    Ok(rustix::net::socket_with(family, kind, flags, Some(protocol))?)
}

fn bound(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address: SocketAddrAny = rustix::net::getsockname(socket)?;
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

/// Takes the filter away.
fn drop_none(socket: &OwnedFd) -> io::Result<()> {
    let ignored: libc::c_int = 0;
    // SAFETY: the kernel reads an integer of that length, and ignores it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            std::ptr::from_ref(&ignored).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::Duration;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn skips_ipv6() -> bool {
        let missing = TcpListener::bind("[::1]:0").is_err();
        if missing {
            eprintln!("skipped: no IPv6");
        }
        missing
    }

    #[test]
    fn a_held_tcp_port_is_taken_and_answers_nobody() {
        let (held, port) = reserve(Some(LOOPBACK), 0, Protocol::Tcp).unwrap();
        assert_ne!(port, 0);
        let address = SocketAddr::new(LOOPBACK, port);
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let again = reserve(Some(LOOPBACK), port, Protocol::Tcp).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(reserve(None, port, Protocol::Tcp).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(held);
        TcpListener::bind(address).unwrap();
    }

    #[test]
    fn a_held_udp_port_swallows_what_comes() {
        let (held, port) = reserve(Some(LOOPBACK), 0, Protocol::Udp).unwrap();
        let address = SocketAddr::new(LOOPBACK, port);
        assert_eq!(UdpSocket::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let sender = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        sender.send_to(b"x", address).unwrap();
        let receiver = UdpSocket::from(held.socket);
        receiver.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(receiver.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn each_family_can_be_held_by_itself_and_both_at_once() {
        if skips_ipv6() {
            return;
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (four, port) = reserve(Some(Ipv4Addr::UNSPECIFIED.into()), 0, protocol).unwrap();
            let (_six, _) = reserve(Some(Ipv6Addr::UNSPECIFIED.into()), port, protocol).unwrap();
            assert!(!four.has_loopback6().unwrap());
            let (both, port) = reserve(None, 0, protocol).unwrap();
            assert!(both.has_loopback6().unwrap());
            for ip in [LOOPBACK, Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()] {
                let taken = reserve(Some(ip), port, protocol).unwrap_err();
                assert_eq!(taken.kind(), io::ErrorKind::AddrInUse, "{ip}");
            }
        }
    }

    #[test]
    fn a_connection_that_ended_a_moment_ago_is_not_in_the_way() {
        if skips_ipv6() {
            return;
        }
        let (held, port) = reserve(None, 0, Protocol::Tcp).unwrap();
        let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
        let listener = TcpListener::from(held.serve_loopback6(Protocol::Tcp).unwrap());
        listener.set_nonblocking(false).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        // Whoever closes first keeps the connection's remains for a minute.
        drop(server);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        drop((client, listener, held));
        let (held, _) = reserve(None, port, Protocol::Tcp).unwrap();
        let taken = TcpListener::bind(address).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse, "the port is not shared");
        drop(held);
    }

    #[test]
    fn loopback_is_served_beside_the_reservation_and_nothing_else() {
        if skips_ipv6() {
            return;
        }
        for one in [None, Some(Ipv6Addr::LOCALHOST.into())] {
            let (held, port) = reserve(one, 0, Protocol::Tcp).unwrap();
            let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
            for _again in 0..2 {
                let listener = TcpListener::from(held.serve_loopback6(Protocol::Tcp).unwrap());
                listener.set_nonblocking(false).unwrap();
                let mut client = TcpStream::connect(address).unwrap();
                listener.accept().unwrap().0.write_all(b"x").unwrap();
                assert_eq!(client.read(&mut [0; 8]).unwrap(), 1);
                assert!(TcpStream::connect((LOOPBACK, port)).is_err());
                assert!(TcpListener::bind((LOOPBACK, port)).is_err() || one.is_some());
                if one.is_some() {
                    break;
                }
            }
            let (held, port) = reserve(one, 0, Protocol::Udp).unwrap();
            let receiver = UdpSocket::from(held.serve_loopback6(Protocol::Udp).unwrap());
            receiver.set_nonblocking(false).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let sender = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
            sender.send_to(b"xy", (Ipv6Addr::LOCALHOST, port)).unwrap();
            assert_eq!(receiver.recv(&mut [0; 8]).unwrap(), 2);
        }
    }

    #[test]
    fn more_descriptors_than_the_host_allows_are_refused_with_the_limit() {
        assert_eq!(make_room(1).unwrap(), Ok(()));
        if let Err(limit) = make_room(usize::MAX / 2).unwrap() {
            assert!(limit > 0);
        }
    }
}
