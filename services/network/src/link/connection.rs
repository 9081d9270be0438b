//! A connection for links, driven by whoever asks: no task of it runs in the background, so that dropping it is all
//! that it takes to let go of a network namespace.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{BufMut, BytesMut};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{
    NetlinkBuffer, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use rtnetlink::proto::{self, ConnectionHandle, NetlinkCodec, NetlinkMessageCodec};
use rtnetlink::sys::{AsyncSocket, Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tokio_stream::Stream as _;

/// The kernel has put its answer into the socket before the question's system call returns. One that is not there
/// after this time is none, or one that could not be read.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// A request or an answer, with its header.
pub type Message = NetlinkMessage<RouteNetlinkMessage>;

/// What moves messages between a [`Connection`] and its socket.
pub type Driver = proto::Connection<RouteNetlinkMessage, Kernel, Codec>;

/// A connection to the kernel's links, addresses and routes, in the network namespace that it was opened in, whatever
/// thread uses it later.
pub struct Connection {
    // Held for one call of a method at a time; a connection is not shared between threads.
    driver: RefCell<Driver>,
    handle: ConnectionHandle<RouteNetlinkMessage>,
}

impl Connection {
    /// One of these two halves.
    pub fn new(mut driver: Driver, handle: ConnectionHandle<RouteNetlinkMessage>) -> Self {
        // The end of a list says whether the kernel gave up on it.
        driver.set_forward_done(true);
        Self { driver: RefCell::new(driver), handle }
    }

    /// Sends requests in one system call, in order. The first refusal is the error, but for the one that is harmless.
    pub fn tell(&self, requests: Vec<Message>, harmless: Option<Errno>) -> io::Result<()> {
        let (_, refusals) = self.exchange(requests)?;
        match refusals.into_iter().find(|errno| Some(*errno) != harmless) {
            Some(errno) => Err(errno.into()),
            None => Ok(()),
        }
    }

    /// Asks for one object or for all of a kind.
    pub fn ask(&self, request: Message) -> io::Result<Vec<RouteNetlinkMessage>> {
        let (objects, refusals) = self.exchange(vec![request])?;
        match refusals.first() {
            Some(errno) => Err((*errno).into()),
            None => Ok(objects),
        }
    }

    fn exchange(&self, requests: Vec<Message>) -> io::Result<(Vec<RouteNetlinkMessage>, Vec<Errno>)> {
        let closed = |_| io::Error::from(io::ErrorKind::NotConnected);
        let mut answers = pin!(self.handle.request_batch(requests, SocketAddr::new(0, 0)).map_err(closed)?);
        let mut driver = self.driver.borrow_mut();
        let mut context = Context::from_waker(Waker::noop());
        let (mut objects, mut refusals) = (Vec::new(), Vec::new());
        loop {
            let ended = Pin::new(&mut *driver).poll(&mut context).is_ready();
            while let Poll::Ready(answer) = answers.as_mut().poll_next(&mut context) {
                match answer.map(|answer| answer.payload) {
                    Some(NetlinkPayload::InnerMessage(object)) => objects.push(object),
                    Some(NetlinkPayload::Error(error)) => refusals.extend(refusal(error.raw_code())),
                    Some(NetlinkPayload::Done(done)) => refusals.extend(refusal(done.code)),
                    Some(_) => {}
                    None => return Ok((objects, refusals)),
                }
            }
            if let Some(errno) = driver.socket_mut().failure.take() {
                return Err(errno.into());
            }
            if ended {
                return Err(io::ErrorKind::NotConnected.into());
            }
            driver.socket_mut().wait()?;
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

fn refusal(code: i32) -> Option<Errno> {
    (code != 0).then(|| Errno::from_raw_os_error(code.saturating_neg()))
}

/// A socket to the kernel that belongs to no event loop.
pub struct Kernel {
    socket: Socket,
    /// The driver tells of a failure only to the log.
    failure: Cell<Option<Errno>>,
}

impl Kernel {
    fn wait(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut fds, Some(&PATIENCE)) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer that can be read")),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn told<T>(&self, result: io::Result<T>) -> Poll<io::Result<T>> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => {
                self.failure.set(Some(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
                Poll::Ready(Err(error))
            }
            Ok(done) => Poll::Ready(Ok(done)),
        }
    }
}

impl AsyncSocket for Kernel {
    fn socket_ref(&self) -> &Socket {
        &self.socket
    }

    fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    fn new(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        // Connected to the kernel, so that no other process can answer us.
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, failure: Cell::new(None) })
    }

    fn poll_send(&self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.told(self.socket.send(bytes, 0))
    }

    fn poll_send_to(&self, _: &mut Context<'_>, bytes: &[u8], to: &SocketAddr) -> Poll<io::Result<usize>> {
        self.told(self.socket.send_to(bytes, to, 0))
    }

    fn poll_recv<B: BufMut>(&self, _: &mut Context<'_>, buffer: &mut B) -> Poll<io::Result<()>> {
        ready!(self.told(self.socket.recv(buffer, 0)))?;
        Poll::Ready(Ok(()))
    }

    fn poll_recv_from<B: BufMut>(&self, _: &mut Context<'_>, buffer: &mut B) -> Poll<io::Result<SocketAddr>> {
        let (_, from) = ready!(self.told(self.socket.recv_from(buffer, 0)))?;
        Poll::Ready(Ok(from))
    }

    fn poll_recv_from_full(&self, _: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        self.told(self.socket.recv_from_full())
    }
}

/// Messages as bytes. The library's own codec tells of what it cannot read to a log that nobody keeps.
pub struct Codec;

impl NetlinkMessageCodec for Codec {
    fn decode<T>(bytes: &mut BytesMut) -> io::Result<Option<NetlinkMessage<T>>>
    where
        T: NetlinkDeserializable + fmt::Debug,
    {
        while !bytes.is_empty() {
            let length = NetlinkBuffer::new_checked(&*bytes).map(|message| message.length());
            let length = length.ok().and_then(|length| usize::try_from(length).ok());
            let Some(length) = length else {
                bytes.clear();
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel sent no message"));
            };
            let message = bytes.split_to(length.next_multiple_of(4).min(bytes.len()));
            match NetlinkMessage::deserialize(&message) {
                Ok(message) => return Ok(Some(message)),
                // One route of an unknown kind must not hide all others.
                Err(error) => tracing::warn!(%error, "the kernel told of something that cannot be read"),
            }
        }
        Ok(None)
    }

    fn encode<T>(message: NetlinkMessage<T>, bytes: &mut BytesMut) -> io::Result<()>
    where
        T: NetlinkSerializable + fmt::Debug,
    {
        NetlinkCodec::encode(message, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::message;

    fn read(bytes: &[u8]) -> (Vec<Message>, bool) {
        let mut bytes = BytesMut::from(bytes);
        let mut read = Vec::new();
        loop {
            match Codec::decode(&mut bytes) {
                Ok(Some(message)) => read.push(message),
                ended => return (read, ended.is_ok()),
            }
        }
    }

    fn written(mut message: Message) -> BytesMut {
        message.finalize();
        let mut bytes = BytesMut::new();
        Codec::encode(message, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_cannot_be_read_hides_nothing_else() {
        let good = written(message::up(7));
        // A bridge that the link is on takes four bytes.
        let mut bad = [&good[..], &[6, 0, 10, 0, 1, 2, 0, 0]].concat();
        bad[0] += 8;
        let (messages, whole) = read(&[&bad[..], &good[..]].concat());
        assert!(whole);
        assert_eq!(messages.len(), 1);
        assert!(
            matches!(&messages[0].payload, NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))
            if link.header.index == 7)
        );
        assert!(!read(&good[..good.len() - 1]).1, "cut off");
    }

    #[test]
    fn refusals_are_negative() {
        assert_eq!((refusal(0), refusal(-17)), (None, Some(Errno::EXIST)));
    }
}
