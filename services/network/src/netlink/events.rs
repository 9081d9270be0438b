//! Hearing of changes that anybody makes to nftables, instead of looking again and again.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The bit of the group that hears of nftables, `NFNLGRP_NFTABLES`.
const NFTABLES: u32 = 1 << (7 - 1);
/// What was changed is not read, only that something was.
const BUFFER: usize = 4096;

/// A socket that hears of changes in the network namespace that it was opened in.
#[derive(Debug)]
pub struct Events {
    socket: AsyncFd<OwnedFd>,
}

impl Events {
    /// Opens it in the calling thread's network namespace, inside a runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe because a type's AsRawFd may lie, which an OwnedFd's does not"
    )]
    pub fn open() -> io::Result<Self> {
        let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::NETFILTER))?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, NFTABLES))?;
        Ok(Self { socket: AsyncFd::with_interest(socket, Interest::READABLE)? })
    }

    /// Waits for a change, and takes note of all that came until now.
    pub async fn changed(&self) -> io::Result<()> {
        self.socket.async_io(Interest::READABLE, receive).await?;
        loop {
            match receive(self.socket.get_ref()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn receive(socket: &OwnedFd) -> io::Result<()> {
    match rustix::net::recv(socket, &mut [0; BUFFER], RecvFlags::DONTWAIT) {
        // More came than there was room for: there was a change.
        Ok(_) | Err(Errno::NOBUFS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
