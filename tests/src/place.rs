//! A place that packets come from and go to: the network namespace of a host, of its neighbour, of a container. What is
//! done within one is done by a thread of this test that moves there and ends.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::thread::LinkNameSpaceType;

/// How long an answer may take that is expected.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(500);

/// A network namespace.
#[derive(Debug)]
pub struct Place {
    netns: File,
}

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Both.
pub const BOTH: [Over; 2] = [Over::Tcp, Over::Udp];

impl Place {
    /// The namespace that a file of `/proc` or `/run/netns` is.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { netns: File::open(path).with_context(|| format!("open {}", path.display()))? })
    }

    /// Does something there.
    ///
    /// # Panics
    /// When what is done does, or the namespace cannot be entered.
    #[expect(clippy::disallowed_methods, reason = "tests stand outside of the engine's crates")]
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                rustix::thread::move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&self.netns),
                    Some(LinkNameSpaceType::Network),
                )
                .expect("enter a network namespace");
                act()
            });
            match inside.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a program there, its words parted by spaces; it must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = std::process::Command::new(words.next().expect("a program"));
        command.args(words);
        let output = self.within(move || command.output()).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Writes a setting below `net`, or says that this kernel has none of that name.
    ///
    /// # Panics
    /// When it is there and cannot be written.
    #[must_use]
    pub fn set(&self, key: &str, value: &str) -> bool {
        let path = format!("/proc/sys/net/{key}");
        match self.within(|| std::fs::write(&path, value)) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => panic!("write {path}: {error}"),
        }
    }

    /// Reads a setting below `net`.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn setting(&self, key: &str) -> String {
        let path = format!("/proc/sys/net/{key}");
        let text = self.within(|| std::fs::read_to_string(&path));
        text.unwrap_or_else(|error| panic!("read {path}: {error}")).trim().to_owned()
    }

    /// Sends 127.0.0.0/8 to a router, as somebody does who looks for what listens on its loopback.
    ///
    /// # Panics
    /// When it cannot.
    pub fn route_loopback(&self, router: &str, link: &str) {
        for conf in ["all", link] {
            assert!(self.set(&format!("ipv4/conf/{conf}/route_localnet"), "1"), "it has that setting");
            assert!(self.set(&format!("ipv4/conf/{conf}/rp_filter"), "0"), "it has that setting");
        }
        self.run("ip -4 addr flush dev lo");
        self.run(&format!("ip route add 127.0.0.0/8 via {router} dev {link}"));
    }

    /// Asks, and answers with what was said; `None` when nobody says anything for a moment.
    #[must_use]
    pub fn asks(&self, over: Over, to: &str) -> Option<String> {
        self.ask(over, to, SILENCE)
    }

    /// Asks, and answers with what was said; `None` when nobody says anything for long.
    #[must_use]
    pub fn waits_for(&self, over: Over, to: &str) -> Option<String> {
        self.ask(over, to, PATIENCE)
    }

    /// Asks and must be answered.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    #[must_use]
    pub fn hears(&self, over: Over, to: &str) -> String {
        self.ask(over, to, PATIENCE).unwrap_or_else(|| panic!("{over:?} {to}: no answer"))
    }

    fn ask(&self, over: Over, to: &str, patience: Duration) -> Option<String> {
        let to: SocketAddr = to.parse().expect("an address and port");
        self.within(|| match over {
            Over::Tcp => {
                let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
                stream.set_read_timeout(Some(patience)).ok()?;
                let mut text = String::new();
                stream.read_to_string(&mut text).ok()?;
                Some(text).filter(|text| !text.is_empty())
            }
            Over::Udp => {
                let any: SocketAddr =
                    if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
                let socket = UdpSocket::bind(any).ok()?;
                socket.set_read_timeout(Some(patience)).ok()?;
                socket.connect(to).ok()?;
                socket.send(b"?").ok()?;
                let mut buffer = [0; 64];
                let length = socket.recv(&mut buffer).ok()?;
                Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
            }
        })
    }
}

/// Answers each question over TCP and UDP with its name and the address that asked, until dropped.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Responder {
    /// Listens at an address and port of a place.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn new(place: &Place, name: &'static str, at: &str) -> Self {
        let at: SocketAddr = at.parse().expect("an address and port");
        let (tcp, udp) = place.within(|| (TcpListener::bind(at), UdpSocket::bind(at)));
        let (tcp, udp) = (tcp.expect("listen"), udp.expect("receive"));
        tcp.set_nonblocking(true).expect("listen without waiting");
        udp.set_read_timeout(Some(Duration::from_millis(20))).expect("receive without waiting");
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
            // Its panic was shown already.
            let _ = thread.join();
        }
    }
}

fn answer_tcp(listener: &TcpListener, name: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, peer)) => {
                // A client that went away is its own business.
                let _ = stream.write_all(format!("{name} {}", shown(peer)).as_bytes());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn answer_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            // A client that went away is its own business.
            let _ = socket.send_to(format!("{name} {}", shown(peer)).as_bytes(), peer);
        }
    }
}

/// An IPv4 address as such, also at a socket of both families.
fn shown(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}
