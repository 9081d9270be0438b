//! A socket to netfilter: send messages, read what became of each.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::message::{HEADER, Message, Received, split};

/// Type of a message that tells how a request ended.
const ERROR: u16 = 2;
/// Type of the message that ends a list.
const DONE: u16 = 3;
/// Bytes of the largest datagram that the kernel sends us.
const DATAGRAM: usize = 64 << 10;
/// The kernel answers within microseconds; this is for a kernel that is stuck.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that every socket may send at once.
const SEND_BUFFER: usize = 64 << 10;

/// A socket to the kernel.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: AtomicU32,
}

/// What the kernel said about one message that wanted a receipt.
pub type Receipt = Result<(), Refused>;

/// The kernel's no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", io::Error::from(*.0))]
pub struct Refused(pub Errno);

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC);
        let protocol = Some(netlink::NETFILTER);
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, protocol)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        // Connected to the kernel, so that no other process can answer us.
        rustix::net::connect(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { fd, sequence: AtomicU32::new(1) })
    }

    /// Sends messages in one system call and answers with a receipt for each that wants one, in order.
    pub fn send(&self, messages: Vec<Message>) -> io::Result<Vec<Receipt>> {
        let mut bytes = Vec::new();
        let mut waiting = Vec::new();
        for message in messages {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            if message.wants_receipt() {
                waiting.push((sequence, None));
            }
            bytes.extend(message.finish(sequence));
        }
        self.write(&bytes)?;
        let mut buffer = vec![0; DATAGRAM];
        while waiting.iter().any(|(_, receipt)| receipt.is_none()) {
            for received in split(self.read(&mut buffer)?) {
                if let Some(receipt) = receipt(&received) {
                    let ours = waiting.iter_mut().find(|(sequence, _)| *sequence == received.sequence);
                    if let Some((_, slot)) = ours {
                        *slot = Some(receipt);
                    } else if let Err(Refused(errno)) = receipt {
                        // The refusal of a message that asked for no receipt: a batch as a whole.
                        return Err(errno.into());
                    }
                }
            }
        }
        Ok(waiting.into_iter().filter_map(|(_, receipt)| receipt).collect())
    }

    /// As [`Socket::send`]; the first refusal is the error.
    pub fn send_all(&self, messages: Vec<Message>) -> io::Result<()> {
        for receipt in self.send(messages)? {
            receipt.map_err(|Refused(errno)| errno)?;
        }
        Ok(())
    }

    /// Asks for one object; the answer is its message's body.
    pub fn ask(&self, message: Message) -> io::Result<Vec<u8>> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.write(&message.finish(sequence))?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            for received in split(self.read(&mut buffer)?).filter(|r| r.sequence == sequence) {
                match receipt(&received) {
                    Some(Err(Refused(errno))) => return Err(errno.into()),
                    Some(Ok(())) => {}
                    None => return Ok(received.body.to_vec()),
                }
            }
        }
    }

    /// Asks for all objects, and shows the body of each to `visit`.
    pub fn dump(&self, message: Message, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.write(&message.finish(sequence))?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            for received in split(self.read(&mut buffer)?).filter(|r| r.sequence == sequence) {
                match (received.kind, receipt(&received)) {
                    (_, Some(Err(Refused(errno)))) => return Err(errno.into()),
                    (DONE, _) => return Ok(()),
                    (_, Some(Ok(()))) => {}
                    (_, None) => visit(received.body),
                }
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > SEND_BUFFER {
            sockopt::set_socket_send_buffer_size_force(&self.fd, bytes.len().saturating_mul(2))?;
        }
        let sent = rustix::net::send(&self.fd, bytes, SendFlags::empty())?;
        if sent == bytes.len() { Ok(()) } else { Err(Errno::MSGSIZE.into()) }
    }

    fn read<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC) {
                Ok((read, length)) if length <= read => return Ok(buffer.get(..read).unwrap_or(&[])),
                Ok(_) => return Err(Errno::MSGSIZE.into()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer"));
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// What a message says about how a request ended, when it is one that does.
fn receipt(received: &Received<'_>) -> Option<Receipt> {
    if received.kind != ERROR && received.kind != DONE {
        return None;
    }
    let code = received.body.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 { Some(Ok(())) } else { Some(Err(Refused(Errno::from_raw_os_error(-code)))) }
}

const _: () = assert!(DATAGRAM > HEADER);
