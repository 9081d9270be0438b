//! Somebody who answers, and somebody who asks: over TCP and UDP, in any namespace.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Place;

/// How long an answer may take that is expected.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(400);

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Tcp,
    Udp,
}

/// Both.
pub const BOTH: [Over; 2] = [Over::Tcp, Over::Udp];

/// Answers each question with its name and the address that asked, until dropped.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Responder {
    /// Listens in a namespace, over TCP and UDP.
    pub fn new(place: &Place, name: &'static str, at: &str) -> Self {
        let at: SocketAddr = at.parse().unwrap();
        let (tcp, udp) = place.within(|| (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
        let stop = Arc::new(AtomicBool::new(false));
        let (on_tcp, on_udp) = (Arc::clone(&stop), Arc::clone(&stop));
        let threads = vec![
            std::thread::spawn(move || answer_tcp(&tcp, name, &on_tcp)),
            std::thread::spawn(move || answer_udp(&udp, name, &on_udp)),
        ];
        Self { stop, threads }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn answer_tcp(listener: &TcpListener, name: &str, stop: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, peer)) => {
                // A client that went away is its own business.
                let _ = stream.write_all(format!("{name} {}", peer.ip().to_canonical()).as_bytes());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(2))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn answer_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}", peer.ip().to_canonical()).as_bytes(), peer);
        }
    }
}

/// Asks, and answers with what was said; `None` when nobody does.
fn ask(from: &Place, over: Over, to: &str, patience: Duration) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    from.within(|| match over {
        Over::Tcp => {
            let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
            stream.set_read_timeout(Some(patience)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        }
        Over::Udp => {
            let any =
                if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.connect(to).ok()?;
            socket.send(b"?").ok()?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        }
    })
}

/// Asks and must be answered.
#[track_caller]
pub fn hears(from: &Place, over: Over, to: &str) -> String {
    ask(from, over, to, PATIENCE).unwrap_or_else(|| panic!("{over:?} {to}: no answer"))
}

/// Asks and must not be answered.
#[track_caller]
pub fn hears_nothing(from: &Place, over: Over, to: &str) {
    if let Some(answer) = ask(from, over, to, SILENCE) {
        panic!("{over:?} {to}: answered {answer:?}");
    }
}

/// Asks over a line that is open all the time, until the answer begins so.
#[track_caller]
pub fn says(line: &UdpSocket, beginning: &str) {
    let begun = Instant::now();
    let mut buffer = [0; 64];
    while begun.elapsed() < PATIENCE {
        // A refusal that came for an earlier question is told here; the next one is asked all the same.
        let _ = line.send(b"?");
        match line.recv(&mut buffer) {
            Ok(length) if buffer[..length].starts_with(beginning.as_bytes()) => return,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    panic!("no answer that begins with {beginning:?}");
}

/// Asks over a line that is open all the time, until no answer comes any more.
#[track_caller]
pub fn silent(line: &UdpSocket) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let _ = line.send(b"?");
        if line.recv(&mut [0; 64]).is_err() {
            return;
        }
    }
    panic!("answers come still");
}
