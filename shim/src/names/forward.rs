//! Asking others, from the host's namespace: each question from a port and under a number of its own, which an
//! answer must come back to.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::message::{MAX_TCP, Query, code_of, renumbered};
use super::servers;

/// How long one server may take, in the first round and in the second. The first is short enough that a second server
/// answers before programs lose their patience, which most do after five seconds.
const PATIENCE: [Duration; 2] = [Duration::from_millis(1500), Duration::from_secs(3)];
/// The same by TCP, for all that it takes.
const PATIENCE_TCP: Duration = Duration::from_secs(5);
/// How long the server that answered last is asked first. After that it is the host's order again, for the first one
/// may know more.
const FAVOUR: Duration = Duration::from_secs(30);
/// Bytes of the longest answer that is taken by UDP.
const DATAGRAM: usize = 4096;

/// Answers by which a server says that it cannot help.
const FAILURES: [u8; 3] = [2, 4, 5];

/// Whom to ask.
#[derive(Debug)]
pub struct Upstream {
    given: Vec<SocketAddr>,
    favourite: Mutex<Option<(SocketAddr, Instant)>>,
}

/// The way that a question came, and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One datagram each way.
    Udp,
    /// A connection.
    Tcp,
}

impl Upstream {
    /// These servers, or those of the host when there are none.
    pub fn new(given: Vec<SocketAddr>) -> Self {
        Self { given, favourite: Mutex::default() }
    }

    /// The answer of the first server that has one; under the asker's number. None when nobody answers.
    pub async fn ask(&self, query: &Query<'_>, way: Way) -> Option<Vec<u8>> {
        let servers = self.servers();
        let mut complaint = None;
        for patience in PATIENCE {
            for server in &servers {
                let answer = match way {
                    Way::Udp => timeout(patience, by_udp(*server, query)).await,
                    Way::Tcp => timeout(PATIENCE_TCP, by_tcp(*server, query)).await,
                };
                match answer.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(answer) if FAILURES.contains(&code_of(&answer)) => complaint = Some(answer),
                    Ok(answer) => {
                        self.favour(*server);
                        return Some(renumbered(&answer, query.id()));
                    }
                    Err(error) => tracing::debug!(%server, %error, "a server did not answer"),
                }
            }
            if way == Way::Tcp || complaint.is_some() {
                break;
            }
        }
        complaint.map(|answer| renumbered(&answer, query.id()))
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let mut servers = if self.given.is_empty() { servers::of_host() } else { self.given.clone() };
        let favourite = *self.favourite.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((server, since)) = favourite
            && since.elapsed() < FAVOUR
            && let Some(at) = servers.iter().position(|other| *other == server)
            && let Some(front) = servers.get_mut(..=at)
        {
            front.rotate_right(1);
        }
        servers
    }

    /// Remembers who answered, from when it first did.
    fn favour(&self, server: SocketAddr) {
        let mut favourite = self.favourite.lock().unwrap_or_else(PoisonError::into_inner);
        match &*favourite {
            Some((had, since)) if *had == server && since.elapsed() < FAVOUR => {}
            _ => *favourite = Some((server, Instant::now())),
        }
    }
}

/// A port of the kernel's choice that hears this server and nobody else.
async fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

async fn by_udp(server: SocketAddr, query: &Query<'_>) -> io::Result<Vec<u8>> {
    let id = number()?;
    let socket = connect(server).await?;
    socket.send(&query.numbered(id)).await?;
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            // A port that nobody serves is told of so, long before patience is over.
            return Err(socket.take_error()?.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()));
        }
        // Only now, so that a question that waits holds no room for its answer.
        let mut room = vec![0; DATAGRAM + 1];
        match socket.try_recv(&mut room) {
            Ok(length) => {
                room.truncate(length);
                if query.is_answered_by(&room, id) {
                    return Ok(if length > DATAGRAM { query.too_long() } else { room });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn by_tcp(server: SocketAddr, query: &Query<'_>) -> io::Result<Vec<u8>> {
    let id = number()?;
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&framed(&query.numbered(id))).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut answer = Vec::new();
    (&mut stream).take(length as u64).read_to_end(&mut answer).await?;
    if answer.len() == length && query.is_answered_by(&answer, id) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// A message as it goes over a connection. One that is too long is cut, which the other side cannot take for whole.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let message = message.get(..message.len().min(MAX_TCP)).unwrap_or_default();
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), message].concat()
}

/// A number that nobody can guess.
fn number() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u16::from_ne_bytes(bytes))
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
