//! The words between shim and init, and the socket that carries them with descriptors.
//!
//! A message is JSON, cut into packets; the first byte of a packet says whether it is the last. Descriptors travel
//! with the packets and are collected in order.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use davit_sys::fd;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Failure;
use super::exec_plan::ExecPlan;
use super::plan::{ConfigurePlan, PreparePlan};

/// What the shim tells init to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The first half; with the namespaces to join.
    Prepare(PreparePlan),
    /// The second half; with the root, the trees to attach and, without a terminal, the three streams.
    Configure(Box<ConfigurePlan>),
    /// Open the gate.
    Start,
    /// To a process that joins a running container; with init's pidfd and, without a terminal, the three streams.
    Exec(Box<ExecPlan>),
}

/// What init answers. A start that worked has no answer: `execve` closes the socket.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The first half is done; with the namespaces, in the order of [`super::parent::HELD`], and the sockets of the
    /// resolver, where the network namespace is new.
    Prepared,
    /// The second half is done; with the root and, if there is one, the terminal's master.
    Configured {
        /// What could not be done exactly as asked.
        warnings: Vec<String>,
    },
    /// An added process is about to execute; with the terminal's master, if there is one.
    Joined,
    /// A step failed, and init has ended.
    Failed(Failure),
}

/// One packet's payload; the kernel's default buffer takes three of them.
const PACKET: usize = 64 * 1024;
/// Most messages fit into this.
const ROOM: usize = 16 * 1024;
/// No message is longer.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// No message has more descriptors.
const MAX_FDS: usize = 4096;

const LAST: u8 = 1;
const MORE: u8 = 0;

/// One end of the socket.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Two connected ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = fd::packet_pair()?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// Takes over a socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Lets a receive fail with `WouldBlock` after a time.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        fd::set_receive_timeout(&self.socket, Some(timeout))
    }

    /// Lets sends and receives fail with `WouldBlock` at once.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        fd::set_nonblocking(&self.socket, true)
    }

    /// A message as packets, for a socket that may be full.
    pub fn packets<M: Serialize>(message: &M) -> io::Result<Vec<Vec<u8>>> {
        let bytes = serde_json::to_vec(message)?;
        let count = bytes.chunks(PACKET).count();
        let packet = |(n, part): (usize, &[u8])| {
            let kind = if n + 1 == count { LAST } else { MORE };
            [&[kind], part].concat()
        };
        Ok(bytes.chunks(PACKET).enumerate().map(packet).collect())
    }

    /// Sends one packet.
    pub fn send_packet(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        fd::send_packet(&self.socket, packet, fds)
    }

    /// Sends a message with descriptors.
    pub fn send<M: Serialize>(&self, message: &M, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(ROOM);
        serde_json::to_writer(&mut bytes, message)?;
        let mut parts = bytes.chunks(PACKET);
        let mut fds = fds.chunks(fd::MAX_FDS);
        let mut packet = Vec::with_capacity(bytes.len().min(PACKET) + 1);
        let (mut part, mut some) = (parts.next(), fds.next());
        loop {
            let (next_part, next_some) = (parts.next(), fds.next());
            let last = next_part.is_none() && next_some.is_none();
            packet.clear();
            packet.push(if last { LAST } else { MORE });
            packet.extend_from_slice(part.unwrap_or_default());
            fd::send_packet(&self.socket, &packet, some.unwrap_or_default())?;
            if last {
                return Ok(());
            }
            (part, some) = (next_part, next_some);
        }
    }

    /// Receives a message; `None` when the other end is closed.
    pub fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut message = Vec::new();
        let mut fds = Vec::new();
        let mut packet = vec![0; PACKET + 1];
        loop {
            let Some(length) = fd::receive_packet(&self.socket, &mut packet, &mut fds)? else {
                return Ok(None);
            };
            let Some((kind, part)) = packet.get(..length).and_then(<[u8]>::split_first) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            message.extend_from_slice(part);
            if message.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "message is too large"));
            }
            if *kind == LAST {
                return Ok(Some((serde_json::from_slice(&message)?, fds)));
            }
        }
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_and_many_descriptors_arrive_whole() {
        let (a, b) = Channel::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let many: Vec<_> = (0..150).map(|_| null.as_fd()).collect();
        let long = "x".repeat(300_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                a.send(&long, &many).unwrap();
                a.send(&String::new(), &[]).unwrap();
            });
            let (text, fds) = b.receive::<String>().unwrap().unwrap();
            assert_eq!((text.len(), fds.len()), (300_000, 150));
            let (text, fds) = b.receive::<String>().unwrap().unwrap();
            assert_eq!((text.len(), fds.len()), (0, 0));
        });
        drop(a);
        assert!(b.receive::<String>().unwrap().is_none());
    }

    #[test]
    fn packets_are_the_message() {
        let (a, b) = Channel::pair().unwrap();
        let long = "y".repeat(150_000);
        let packets = Channel::packets(&long).unwrap();
        assert_eq!(packets.len(), 3);
        std::thread::scope(|scope| {
            scope.spawn(|| packets.iter().for_each(|packet| a.send_packet(packet, &[]).unwrap()));
            assert_eq!(b.receive::<String>().unwrap().unwrap().0, long);
        });
    }

    #[test]
    fn silence_ends() {
        let (_a, b) = Channel::pair().unwrap();
        b.set_timeout(Duration::from_millis(5)).unwrap();
        assert_eq!(b.receive::<String>().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
