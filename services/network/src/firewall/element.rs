//! Single elements of our maps, and short questions about tables, as raw messages: a process for each would take a
//! hundred times as long.

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;

use crate::link;
use crate::netlink::{Attributes, Message, Socket, flag};
use crate::port::Publication;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const GET_TABLE: u16 = kind(1);
const GET_CHAIN: u16 = kind(4);
const GET_RULE: u16 = kind(7);
const NEW_ELEMENT: u16 = kind(12);
const GET_ELEMENT: u16 = kind(13);
const DELETE_ELEMENT: u16 = kind(14);
const GET_GENERATION: u16 = kind(16);

const INET: u8 = 1;
const IPV4: u8 = 2;
const BODY: usize = 4;

const TABLE_NAME: u16 = 1;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ONE: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const GENERATION_ID: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;

/// Elements of one message: its list must stay below 64 KiB.
const CHUNK: usize = 500;

const fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// The map that an element is in.
const MAPS: [&str; 2] = ["any4", "one4"];

/// Puts ports into the maps, all or none. One that is there and leads elsewhere is led here.
pub fn add(table: &str, ports: &[Publication]) -> io::Result<()> {
    let socket = Socket::open()?;
    match socket.send_all(batch(change(NEW_ELEMENT, table, ports))) {
        Err(error) if link::is(&error, Errno::BUSY) || link::is(&error, Errno::EXIST) => {
            for port in ports {
                delete_one(&socket, table, port)?;
            }
            socket.send_all(batch(change(NEW_ELEMENT, table, ports)))
        }
        other => other,
    }
}

/// Takes ports out of the maps. Those that are not there, and a table that is not there, are no error.
pub fn delete(table: &str, ports: &[Publication]) -> io::Result<()> {
    let socket = Socket::open()?;
    match socket.send_all(batch(change(DELETE_ELEMENT, table, ports))) {
        Err(error) if link::is(&error, Errno::NOENT) => {
            ports.iter().try_for_each(|port| delete_one(&socket, table, port))
        }
        other => other,
    }
}

fn delete_one(socket: &Socket, table: &str, port: &Publication) -> io::Result<()> {
    let messages = batch(change(DELETE_ELEMENT, table, std::slice::from_ref(port)));
    match socket.send_all(messages) {
        Err(error) if link::is(&error, Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// A number that changes whenever anybody changes any table of the namespace.
pub fn generation() -> io::Result<u32> {
    let socket = Socket::open()?;
    let body = socket.ask(Message::new(GET_GENERATION, 0, &body(0)))?;
    let id = Attributes::after(&body, BODY).array(GENERATION_ID).map(u32::from_be_bytes);
    id.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the kernel told no generation"))
}

/// How many rules and elements of maps a table of ours has; `None` when there is no such table.
pub fn count(table: &str) -> io::Result<Option<(usize, usize)>> {
    let socket = Socket::open()?;
    match socket.ask(Message::new(GET_TABLE, 0, &body(INET)).with_text(TABLE_NAME, table)) {
        Err(error) if link::is(&error, Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let (mut rules, mut elements) = (0, 0);
    let all = Message::new(GET_RULE, flag::DUMP, &body(INET)).with_text(TABLE_NAME, table);
    socket.dump(all, |_rule| rules += 1)?;
    for map in MAPS {
        let all = Message::new(GET_ELEMENT, flag::DUMP, &body(INET))
            .with_text(LIST_TABLE, table)
            .with_text(LIST_SET, map);
        let listed = socket.dump(all, |body| {
            elements += Attributes::after(body, BODY).inside(LIST_ELEMENTS).count();
        });
        match listed {
            // Its map is gone, so it is not whole: no element counts.
            Err(error) if link::is(&error, Errno::NOENT) => {}
            other => other?,
        }
    }
    Ok(Some((rules, elements)))
}

/// Chains of other tables that drop what is forwarded unless a rule of theirs admits it. An accept of ours does not
/// override them.
pub fn foreign_drops(table: &str) -> io::Result<BTreeSet<String>> {
    let socket = Socket::open()?;
    let mut found = BTreeSet::new();
    for (family, word) in [(INET, "inet"), (IPV4, "ip")] {
        socket.dump(Message::new(GET_CHAIN, flag::DUMP, &body(family)), |body| {
            let chain = Attributes::after(body, BODY);
            let hook = chain.inside(CHAIN_HOOK).array(HOOK_NUMBER).map(u32::from_be_bytes);
            let policy = chain.array(CHAIN_POLICY).map(u32::from_be_bytes);
            let (Some(owner), Some(name)) = (chain.text(CHAIN_TABLE), chain.text(CHAIN_NAME)) else { return };
            let ours = family == INET && owner == table;
            if hook == Some(HOOK_FORWARD) && policy == Some(POLICY_DROP) && !ours {
                found.insert(format!("{word} {owner} {name}"));
            }
        })?;
    }
    Ok(found)
}

fn body(family: u8) -> [u8; BODY] {
    [family, 0, 0, 0]
}

/// One transaction.
fn batch(messages: impl Iterator<Item = Message>) -> Vec<Message> {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let bracket = |kind| Message::new(kind, 0, &[0, 0, high, low]);
    let mut batch = vec![bracket(BATCH_BEGIN)];
    batch.extend(messages);
    batch.push(bracket(BATCH_END));
    batch
}

fn change<'a>(
    kind: u16,
    table: &'a str,
    ports: &'a [Publication],
) -> impl Iterator<Item = Message> + use<'a> {
    let maps = MAPS.into_iter().flat_map(|map| {
        let of_map: Vec<&Publication> = ports.iter().filter(move |port| map_of(port) == map).collect();
        of_map.chunks(CHUNK).map(|chunk| (map, chunk.to_vec())).collect::<Vec<_>>()
    });
    maps.map(move |(map, ports)| {
        let flags = if kind == NEW_ELEMENT { flag::ACK | flag::CREATE } else { flag::ACK };
        Message::new(kind, flags, &body(INET))
            .with_text(LIST_TABLE, table)
            .with_text(LIST_SET, map)
            .nest(LIST_ELEMENTS, |m| {
                ports.into_iter().fold(m, |m, port| element(m, port, kind == NEW_ELEMENT))
            })
    })
}

fn map_of(port: &Publication) -> &'static str {
    if port.host.ip.is_some() { "one4" } else { "any4" }
}

/// Each field of a key or datum takes four bytes, the rest of them zero.
fn element(message: Message, port: &Publication, with_data: bool) -> Message {
    let service = |port: u16| {
        let [high, low] = port.to_be_bytes();
        [high, low, 0, 0]
    };
    let mut key = Vec::with_capacity(12);
    key.extend(port.host.ip.into_iter().flat_map(|ip| ip.octets()));
    key.extend([port.host.protocol.number(), 0, 0, 0]);
    key.extend(service(port.host.port));
    let data = [port.target.ip().octets(), service(port.target.port())].concat();
    message.nest(LIST_ONE, |m| {
        let m = m.nest(ELEMENT_KEY, |m| m.with(DATA_VALUE, key));
        if with_data { m.nest(ELEMENT_DATA, |m| m.with(DATA_VALUE, data)) } else { m }
    })
}

/// Whether a refusal says that the table or map is not there.
pub fn is_missing(error: &io::Error) -> bool {
    link::is(error, Errno::NOENT)
}
