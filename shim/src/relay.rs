//! The way in by `[::1]`: what is said to a port of the host's IPv6 loopback is handed on to the container, for the
//! kernel has no rule that could lead it there.
//!
//! A relay that nobody uses is a socket and a small task. All that it does hangs on that task: when the relay goes, so
//! do its connections.

mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;

use davit_sys::port::{Held, Protocol};
use tokio::task::JoinHandle;

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Transport: TCP or UDP.
    pub protocol: Protocol,
    /// Port on `[::1]`.
    pub port: u16,
    /// In the container.
    pub target: SocketAddr,
}

/// A way that is served until this is dropped.
#[derive(Debug)]
pub struct Relay {
    way: Way,
    task: JoinHandle<()>,
}

impl Relay {
    /// Begins to serve, beside the socket that holds the port.
    pub fn begin(way: Way, holder: &Held) -> io::Result<Self> {
        let socket = holder.serve_loopback6(way.protocol)?;
        let task = match way.protocol {
            Protocol::Tcp => {
                let listener = tokio::net::TcpListener::from_std(socket.into())?;
                tokio::spawn(tcp::serve(listener, way.target))
            }
            Protocol::Udp => {
                let socket = tokio::net::UdpSocket::from_std(socket.into())?;
                tokio::spawn(udp::serve(socket, way.target))
            }
            Protocol::Sctp => return Err(io::Error::new(io::ErrorKind::Unsupported, "SCTP is not relayed")),
        };
        Ok(Self { way, task })
    }

    /// Ends it, with its connections; its port is free when this is over.
    pub async fn end(mut self) {
        self.task.abort();
        // It was cancelled, as it was told to be.
        let _ = (&mut self.task).await;
    }

    /// From where to where.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Its transport.
    pub fn protocol(&self) -> Protocol {
        self.way.protocol
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.way.port
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
