//! The resolver's two sockets, made by init inside the container's network namespace.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

/// Where they are. Port 53 would be in the way of every DNS server in a container; a rule leads it here.
const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 65053);

/// The two sockets.
#[derive(Debug)]
pub struct Sockets {
    /// For most questions.
    pub udp: UdpSocket,
    /// For those whose answers are long.
    pub tcp: TcpListener,
}

impl Sockets {
    /// Makes them in the calling thread's network namespace, whose loopback is up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn make() -> io::Result<Self> {
        Ok(Self { udp: UdpSocket::bind(ADDRESS)?, tcp: TcpListener::bind(ADDRESS)? })
    }

    /// As descriptors, in the order in which [`Sockets::take`] wants them.
    pub fn into_fds(self) -> [OwnedFd; 2] {
        [self.udp.into(), self.tcp.into()]
    }

    /// From descriptors.
    pub fn take([udp, tcp]: [OwnedFd; 2]) -> Self {
        Self { udp: udp.into(), tcp: tcp.into() }
    }
}
