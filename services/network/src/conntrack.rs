//! Connection tracking: the flows that the kernel knows, and forgetting some of them.
//!
//! To ask costs milliseconds, for the kernel walks its whole table: nobody waits for it (`sweep`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use crate::flow::{Flow, Tuple};
use crate::link;
use crate::netlink::{Attributes, Message, Refused, Socket, flag};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// The families that are asked for. A kernel without one of them lists nothing of it.
const FAMILIES: [u8; 2] = [2, 10];
const BODY: usize = 4;

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_SRC: u16 = 1;
const IP_DST: u16 = 2;
const IP6_SRC: u16 = 3;
const IP6_DST: u16 = 4;
const PROTO_NUMBER: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;
/// Deletions of one system call: their receipts must fit the socket's buffer.
const BATCH: usize = 64;

/// A flow and how it is forgotten.
#[derive(Debug)]
pub struct Tracked {
    /// The flow.
    pub flow: Flow,
    deletion: Message,
}

/// The flows that `wanted` points at.
pub fn list(wanted: impl Fn(&Flow) -> bool) -> io::Result<Vec<Tracked>> {
    let socket = Socket::open()?;
    let mut found = Vec::new();
    for family in FAMILIES {
        socket.dump(Message::new(GET, flag::DUMP, &[family, 0, 0, 0]), |body| {
            if let Some(flow) = read(body).filter(&wanted) {
                found.push(Tracked { flow, deletion: deletion(family, body) });
            }
        })?;
    }
    Ok(found)
}

/// Forgets flows. One that ended by itself is no error.
pub fn forget(flows: &[Tracked]) -> io::Result<()> {
    let socket = Socket::open()?;
    for batch in flows.chunks(BATCH) {
        let deletions = batch.iter().map(|tracked| tracked.deletion.clone()).collect();
        for receipt in socket.send(deletions)? {
            match receipt {
                Err(Refused(Errno::NOENT)) | Ok(()) => {}
                Err(Refused(errno)) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}

/// Whether an error says that this kernel does not list connections (no `nf_conntrack_netlink`).
pub fn is_unsupported(error: &io::Error) -> bool {
    link::is(error, Errno::OPNOTSUPP) || link::is(error, Errno::INVAL)
}

fn read(body: &[u8]) -> Option<Flow> {
    let attributes = Attributes::after(body, BODY);
    Some(Flow { there: tuple(&attributes, TUPLE_ORIG)?, back: tuple(&attributes, TUPLE_REPLY)? })
}

fn tuple(attributes: &Attributes<'_>, kind: u16) -> Option<Tuple> {
    let tuple = attributes.inside(kind);
    let (ip, protocol) = (tuple.inside(TUPLE_IP), tuple.inside(TUPLE_PROTO));
    let address = |four, six| {
        let four = ip.array::<4>(four).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
        four.or_else(|| ip.array::<16>(six).map(|octets| Ipv6Addr::from(octets).into()))
    };
    let port = |kind| protocol.array(kind).map_or(0, u16::from_be_bytes);
    let [number] = protocol.array(PROTO_NUMBER)?;
    Some(Tuple {
        src: address(IP_SRC, IP6_SRC)?,
        dst: address(IP_DST, IP6_DST)?,
        protocol: number,
        src_port: port(PROTO_SRC_PORT),
        dst_port: port(PROTO_DST_PORT),
    })
}

/// Names a flow by what it was and by its number, so that a later one with the same ends is not meant.
fn deletion(family: u8, body: &[u8]) -> Message {
    let attributes = Attributes::after(body, BODY);
    let orig = attributes.get(TUPLE_ORIG).unwrap_or_default();
    let message = Message::new(DELETE, flag::ACK, &[family, 0, 0, 0]).nest(TUPLE_ORIG, |m| m.raw(orig));
    [ID, ZONE].into_iter().fold(message, |message, kind| match attributes.get(kind) {
        Some(payload) => message.with(kind, payload),
        None => message,
    })
}
