//! Datagrams: who sends gets a socket of its own to the container, so that the answers find back.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Senders of one port at a time; one more takes the place of the one that was silent longest.
const MOST: usize = 64;
/// A sender that heard and said nothing for so long is forgotten.
const IDLE: Duration = Duration::from_secs(90);
/// Between two looks for such.
const PERIOD: Duration = Duration::from_secs(30);
/// After an error that is no sender's.
const PAUSE: Duration = Duration::from_millis(200);
/// No datagram is longer.
const DATAGRAM: usize = 64 << 10;

/// Somebody who sends.
#[derive(Debug)]
struct Sender {
    to: Arc<UdpSocket>,
    /// When something was last said, in milliseconds since the relay began.
    used: Arc<AtomicU64>,
    answers: AbortHandle,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// Hands datagrams on until it is aborted.
pub async fn serve(socket: UdpSocket, target: SocketAddr) {
    let table = Table { socket: Arc::new(socket), target, began: Instant::now(), senders: HashMap::new() };
    table.run().await;
}

struct Table {
    socket: Arc<UdpSocket>,
    target: SocketAddr,
    began: Instant,
    senders: HashMap<SocketAddr, Sender>,
}

impl Table {
    async fn run(mut self) {
        let mut due = Instant::now() + PERIOD;
        loop {
            tokio::select! {
                ready = self.socket.readable() => {
                    let handed = match ready {
                        Ok(()) => self.hand_on().await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = handed {
                        tracing::debug!(%error, "cannot hand a datagram on");
                        sleep(PAUSE).await;
                    }
                }
                () = sleep_until(due), if !self.senders.is_empty() => {
                    self.forget_idle();
                    due = Instant::now() + PERIOD;
                }
            }
        }
    }

    /// Hands on what is there. The buffer lives no longer than that.
    async fn hand_on(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let (length, from) = match self.socket.try_recv_from(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            };
            let now = self.now();
            let sender = self.sender(from, now).await?;
            sender.used.store(now, Ordering::Relaxed);
            // Datagrams may get lost; that the container's port is closed is told by an error here.
            let _ = sender.to.send(buffer.get(..length).unwrap_or_default()).await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn sender(&mut self, from: SocketAddr, now: u64) -> io::Result<&Sender> {
        if !self.senders.contains_key(&from) {
            if self.senders.len() >= MOST {
                let oldest =
                    self.senders.iter().min_by_key(|(_, sender)| sender.used.load(Ordering::Relaxed));
                let oldest = oldest.map(|(address, _)| *address);
                oldest.and_then(|address| self.senders.remove(&address));
            }
            let any = match self.target {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let to = UdpSocket::bind(any).await?;
            to.connect(self.target).await?;
            let (to, used) = (Arc::new(to), Arc::new(AtomicU64::new(now)));
            let back = Back { from: to.clone(), socket: self.socket.clone(), to: from, used: used.clone() };
            let answers = tokio::spawn(back.run(self.began)).abort_handle();
            self.senders.insert(from, Sender { to, used, answers });
        }
        self.senders.get(&from).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn forget_idle(&mut self) {
        let idle = u64::try_from(IDLE.as_millis()).unwrap_or(u64::MAX);
        let before = self.now().saturating_sub(idle);
        self.senders.retain(|_, sender| sender.used.load(Ordering::Relaxed) >= before);
        if self.senders.is_empty() {
            self.senders.shrink_to_fit();
        }
    }
}

/// The way back to one sender.
struct Back {
    from: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    used: Arc<AtomicU64>,
}

impl Back {
    async fn run(self, began: Instant) {
        while self.from.readable().await.is_ok() {
            let mut buffer = vec![0; DATAGRAM];
            loop {
                match self.from.try_recv(&mut buffer) {
                    Ok(length) => {
                        let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                        self.used.store(now, Ordering::Relaxed);
                        // Datagrams may get lost.
                        let _ = self.socket.send_to(buffer.get(..length).unwrap_or_default(), self.to).await;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // The container's port is closed, which may change.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => {
                        tracing::debug!(%error, "cannot receive from the container");
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket as Line;

    fn line(to: SocketAddr) -> Line {
        let line = Line::bind("127.0.0.1:0").unwrap();
        line.connect(to).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        line
    }

    fn says(line: &Line, text: &str) -> String {
        line.send(text.as_bytes()).unwrap();
        let mut buffer = [0; 64];
        let length = line.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test]
    async fn each_sender_gets_its_own_answers() {
        let server = Line::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = server.recv_from(&mut buffer) {
                let answer = [b"re: ", &buffer[..length]].concat();
                server.send_to(&answer, from).unwrap();
            }
        });
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let relay = tokio::spawn(serve(socket, target));
        let talk = tokio::task::spawn_blocking(move || {
            // More than the table has room for: the first one is forgotten, and remembered when it speaks again.
            let lines: Vec<Line> = (0..MOST + 3).map(|_| line(address)).collect();
            for _round in 0..2 {
                for (n, line) in lines.iter().enumerate() {
                    assert_eq!(says(line, &n.to_string()), format!("re: {n}"));
                }
            }
        });
        talk.await.unwrap();
        relay.abort();
    }
}
