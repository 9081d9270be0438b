//! Connection tracking: forgetting flows whose way has changed. Without it a UDP flow goes on being answered by the
//! container that had the port before.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::link;
use crate::netlink::{Attributes, Family, Message, Refused, Socket, flag};
use crate::port::Publication;

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const BODY: [u8; 4] = [2, 0, 0, 0];

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_SRC: u16 = 1;
const IP_DST: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
const FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
const BY_SRC: u32 = 1;
const BY_PROTO: u32 = 1 << 3;
const BY_DST_PORT: u32 = 1 << 5;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    src: Option<Ipv4Addr>,
    dst: Option<Ipv4Addr>,
}

/// A flow that the kernel knows.
#[derive(Debug)]
struct Flow {
    there: Tuple,
    back: Tuple,
    delete: Message,
}

/// Forgets the flows that came to these ports of the host, whomever they lead to now.
pub fn forget_ports(ports: &[Publication]) -> io::Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let socket = Socket::open(Family::Netfilter)?;
    let mut local: Option<BTreeSet<Ipv4Addr>> = None;
    for port in ports {
        let flows = list(&socket, by_port(port))?;
        if flows.is_empty() {
            continue;
        }
        let local = match &mut local {
            Some(local) => local,
            none => none.insert(own_addresses()?),
        };
        // Only what was addressed to us: a container's own way out to the same port elsewhere is none of it.
        let came_to_us = |there: &Tuple| match (there.dst, port.host.ip) {
            (Some(dst), Some(ip)) => dst == ip,
            (Some(dst), None) => dst.is_loopback() || local.contains(&dst),
            (None, _) => false,
        };
        delete(&socket, flows.into_iter().filter(|flow| came_to_us(&flow.there)))?;
    }
    Ok(())
}

/// Forgets all flows from and to these addresses.
pub fn forget_addresses(addresses: &[Ipv4Addr]) -> io::Result<()> {
    let socket = Socket::open(Family::Netfilter)?;
    for ip in addresses {
        for filter in
            [by_source(*ip, TUPLE_ORIG, FILTER_ORIG_FLAGS), by_source(*ip, TUPLE_REPLY, FILTER_REPLY_FLAGS)]
        {
            let flows = list(&socket, filter)?;
            let ours = |flow: &Flow| flow.there.src == Some(*ip) || flow.back.src == Some(*ip);
            delete(&socket, flows.into_iter().filter(ours))?;
        }
    }
    Ok(())
}

fn own_addresses() -> io::Result<BTreeSet<Ipv4Addr>> {
    let addresses = link::addresses(&link::socket()?)?;
    Ok(addresses.into_iter().map(|(_, net)| net.addr()).collect())
}

/// The kernel itself looks for what was sent to a port, so that a host with a million flows copies none of the
/// others.
fn by_port(port: &Publication) -> Message {
    Message::new(GET, flag::DUMP, &BODY)
        .nest(TUPLE_ORIG, |m| {
            m.nest(TUPLE_PROTO, |m| {
                m.with(PROTO_NUMBER, [port.host.protocol.number()])
                    .with(PROTO_DST_PORT, port.host.port.to_be_bytes())
            })
        })
        .nest(FILTER, |m| m.with(FILTER_ORIG_FLAGS, (BY_PROTO | BY_DST_PORT).to_ne_bytes()))
}

fn by_source(ip: Ipv4Addr, tuple: u16, flags: u16) -> Message {
    Message::new(GET, flag::DUMP, &BODY)
        .nest(tuple, |m| m.nest(TUPLE_IP, |m| m.with(IP_SRC, ip.octets())))
        .nest(FILTER, |m| m.with(flags, BY_SRC.to_ne_bytes()))
}

fn list(socket: &Socket, filter: Message) -> io::Result<Vec<Flow>> {
    let mut flows = Vec::new();
    let listed = socket.dump(filter, |body| flows.extend(read(body)));
    match listed {
        // Without nf_conntrack_netlink the rest works, so it is told and no failure.
        Err(error) if link::is(&error, Errno::OPNOTSUPP) || link::is(&error, Errno::INVAL) => {
            tracing::warn!(%error, "the kernel does not list connections: old ones keep their way");
            Ok(Vec::new())
        }
        other => other.map(|()| flows),
    }
}

fn read(body: &[u8]) -> Option<Flow> {
    let attributes = Attributes::after(body, BODY.len());
    let mut delete = Message::new(DELETE, flag::ACK, &BODY);
    for kind in [TUPLE_ORIG, ID, ZONE] {
        if let Some(payload) = attributes.get(kind) {
            delete = if kind == TUPLE_ORIG {
                delete.nest(kind, |m| m.raw(payload))
            } else {
                delete.with(kind, payload)
            };
        }
    }
    Some(Flow { there: tuple(&attributes, TUPLE_ORIG)?, back: tuple(&attributes, TUPLE_REPLY)?, delete })
}

fn tuple(attributes: &Attributes<'_>, kind: u16) -> Option<Tuple> {
    attributes.get(kind)?;
    let ip = attributes.inside(kind).inside(TUPLE_IP);
    let address = |kind| ip.array::<4>(kind).map(Ipv4Addr::from);
    Some(Tuple { src: address(IP_SRC), dst: address(IP_DST) })
}

fn delete(socket: &Socket, flows: impl Iterator<Item = Flow>) -> io::Result<()> {
    let messages: Vec<Message> = flows.map(|flow| flow.delete).collect();
    for batch in messages.chunks(64) {
        for receipt in socket.send(batch.to_vec())? {
            match receipt {
                // It ended by itself meanwhile.
                Err(Refused(Errno::NOENT)) | Ok(()) => {}
                Err(Refused(errno)) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}
