//! Inside a container's namespace: what is sent to port 53 of the resolver's address arrives at the port that the
//! shim serves, and what it answers comes from port 53. The shim cannot serve 53 itself, for a DNS server of the
//! container's own binds that port on every address.
//!
//! Port numbers are rewritten in single packets, both ways, and no connection is tracked: with a tracking rule the
//! kernel would look at every packet of the container's, and needs modules that not every host has.

use std::io;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::link;
use crate::netlink::{Message, Socket, flag};

/// Where a container's resolver is asked, on port 53.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The port that the shim serves.
const SERVED: u16 = 65053;
/// The port that programs ask.
const ASKED: u16 = 53;

/// The table, in the container's namespace.
const TABLE: &str = "davit-names";
/// What is sent, before anything of the container's own tracks it.
const ASK: Chain = Chain { name: "ask", priority: -300, address_at: 16, port_at: 2, from: ASKED, to: SERVED };
/// What is answered, after that.
const ANSWER: Chain =
    Chain { name: "answer", priority: 300, address_at: 12, port_at: 0, from: SERVED, to: ASKED };

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const IPV4: [u8; 4] = [2, 0, 0, 0];
const APPEND: u16 = 0x800;
const EXCLUSIVE: u16 = 0x200;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_OUTPUT: u32 = 3;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

const REGISTER: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const META_L4PROTO: u32 = 16;
const EQUAL: u32 = 0;
const CHECKSUM_INET: u32 = 1;

/// Protocol number, and where its header has the checksum.
const PROTOCOLS: [(u8, u32); 2] = [(17, 6), (6, 16)];

/// One direction.
struct Chain {
    name: &'static str,
    priority: i32,
    /// Where the IPv4 header has the resolver's address.
    address_at: u32,
    /// Where the transport's header has its port.
    port_at: u32,
    from: u16,
    to: u16,
}

/// Makes the rules in the calling thread's network namespace. Those that are there stay.
pub fn make() -> io::Result<()> {
    let mut messages = vec![bracket(BATCH_BEGIN)];
    let flags = flag::ACK | flag::CREATE | EXCLUSIVE;
    messages.push(Message::new(NEW_TABLE, flags, &IPV4).with_text(TABLE_NAME, TABLE));
    for chain in [ASK, ANSWER] {
        messages.push(chain.message());
        messages.extend(PROTOCOLS.map(|(protocol, checksum_at)| chain.rule(protocol, checksum_at)));
    }
    messages.push(bracket(BATCH_END));
    match Socket::open()?.send_all(messages) {
        // The whole of it is there: it is made at once or not at all.
        Err(error) if link::is(&error, Errno::EXIST) => Ok(()),
        other => other,
    }
}

impl Chain {
    fn message(&self) -> Message {
        Message::new(NEW_CHAIN, flag::CREATE, &IPV4)
            .with_text(CHAIN_TABLE, TABLE)
            .with_text(CHAIN_NAME, self.name)
            .with_text(CHAIN_TYPE, "filter")
            .nest(CHAIN_HOOK, |m| {
                m.with(HOOK_NUMBER, HOOK_OUTPUT.to_be_bytes())
                    .with(HOOK_PRIORITY, self.priority.to_be_bytes())
            })
    }

    /// The address first: it is the cheapest look at the many packets that are not meant.
    fn rule(&self, protocol: u8, checksum_at: u32) -> Message {
        let rule = Message::new(NEW_RULE, flag::CREATE | APPEND, &IPV4)
            .with_text(RULE_TABLE, TABLE)
            .with_text(RULE_CHAIN, self.name);
        rule.nest(RULE_EXPRESSIONS, |m| {
            let m = load(m, NETWORK_HEADER, self.address_at, 4);
            let m = compare(m, &ADDRESS.octets());
            let m = expression(m, "meta", |m| number(number(m, 1, REGISTER), 2, META_L4PROTO));
            let m = compare(m, &[protocol]);
            let m = load(m, TRANSPORT_HEADER, self.port_at, 2);
            let m = compare(m, &self.from.to_be_bytes());
            let m = expression(m, "immediate", |m| {
                number(m, 1, REGISTER).nest(2, |m| m.with(DATA_VALUE, self.to.to_be_bytes()))
            });
            expression(m, "payload", |m| {
                let m = number(number(number(m, 5, REGISTER), 2, TRANSPORT_HEADER), 3, self.port_at);
                number(number(number(m, 4, 2), 6, CHECKSUM_INET), 7, checksum_at)
            })
        })
    }
}

fn bracket(kind: u16) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(kind, 0, &[0, 0, high, low])
}

fn number(message: Message, kind: u16, value: u32) -> Message {
    message.with(kind, value.to_be_bytes())
}

fn expression(message: Message, name: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    message.nest(LIST_ELEMENT, |m| m.with_text(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, fill))
}

/// Loads a part of a header.
fn load(message: Message, base: u32, offset: u32, length: u32) -> Message {
    expression(message, "payload", |m| {
        number(number(number(number(m, 1, REGISTER), 2, base), 3, offset), 4, length)
    })
}

/// Goes on only when what was loaded is this.
fn compare(message: Message, value: &[u8]) -> Message {
    expression(message, "cmp", |m| {
        number(number(m, 1, REGISTER), 2, EQUAL).nest(3, |m| m.with(DATA_VALUE, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::{Duration, Instant};

    use davit_sys::namespace::{self, Kind};

    fn in_a_namespace(test: impl FnOnce() + Send + 'static) {
        let on_a_thread = std::thread::spawn(|| {
            namespace::leave(Kind::Net).unwrap();
            namespace::loopback_up().unwrap();
            test();
        });
        on_a_thread.join().unwrap();
    }

    #[test]
    fn privileged_port_53_of_the_resolver_is_the_shims_and_everybody_elses_is_free() {
        in_a_namespace(|| {
            let served = UdpSocket::bind((ADDRESS, SERVED)).unwrap();
            let listener = TcpListener::bind((ADDRESS, SERVED)).unwrap();
            let begun = Instant::now();
            make().unwrap();
            println!("the rules took {:?}", begun.elapsed());
            make().unwrap();
            // As dnsmasq and others do inside a container.
            let (own, own_tcp) =
                (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap());
            let client = UdpSocket::bind("0.0.0.0:0").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.connect((ADDRESS, ASKED)).unwrap();
            for n in 0..3_u8 {
                client.send(&[n]).unwrap();
                let mut byte = [0; 8];
                let (_, from) = served.recv_from(&mut byte).unwrap();
                served.send_to(&[n, n], from).unwrap();
                assert_eq!(client.recv(&mut byte).unwrap(), 2);
                assert_eq!(byte[..2], [n, n]);
            }
            let mut stream = TcpStream::connect((ADDRESS, ASKED)).unwrap();
            let (mut there, _) = listener.accept().unwrap();
            stream.write_all(&vec![7; 100_000]).unwrap();
            let mut got = vec![0; 100_000];
            there.read_exact(&mut got).unwrap();
            there.write_all(b"yes").unwrap();
            stream.read_exact(&mut got[..3]).unwrap();
            assert_eq!(&got[..3], b"yes");
            client.connect("127.0.0.1:53").unwrap();
            client.send(b"own").unwrap();
            assert_eq!(own.recv(&mut [0; 8]).unwrap(), 3);
            TcpStream::connect("127.0.0.1:53").unwrap();
            own_tcp.accept().unwrap();
        });
    }
}
