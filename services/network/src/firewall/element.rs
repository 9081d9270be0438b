//! Single elements of our maps, and short questions about tables, as raw messages: a process for each would take a
//! hundred times as long.

use std::collections::BTreeSet;
use std::io;

use rustix::io::Errno;

use super::map::{Element, MAPS, elements};
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
const IPV6: u8 = 10;
const BODY: usize = 4;

const TABLE_NAME: u16 = 1;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ONE: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_KEY_END: u16 = 10;
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

/// Takes ports out of the maps and puts others in, all or nothing. What is to go and is not there, and a table that is
/// not there when nothing is to come, are no error; what is to come and is there is led where it is to lead now.
pub fn change(table: &str, gone: &[Publication], fresh: &[Publication]) -> io::Result<()> {
    let socket = Socket::open()?;
    let whole = edit(DELETE_ELEMENT, table, gone).chain(edit(NEW_ELEMENT, table, fresh));
    match socket.send_all(batch(whole)) {
        Err(error)
            if is_missing(&error) || link::is(&error, Errno::BUSY) || link::is(&error, Errno::EXIST) =>
        {
            for element in elements(gone).chain(elements(fresh)) {
                delete_one(&socket, table, element)?;
            }
            if fresh.is_empty() {
                return Ok(());
            }
            socket.send_all(batch(edit(NEW_ELEMENT, table, fresh)))
        }
        other => other,
    }
}

fn delete_one(socket: &Socket, table: &str, element: Element) -> io::Result<()> {
    match socket.send_all(batch(std::iter::once(message(DELETE_ELEMENT, table, &[element])))) {
        Err(error) if is_missing(&error) => Ok(()),
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
            .with_text(LIST_SET, map.name);
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
    for (family, word) in [(INET, "inet"), (IPV4, "ip"), (IPV6, "ip6")] {
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

/// The messages that put elements in or take them out, a map after the other.
fn edit(kind: u16, table: &str, ports: &[Publication]) -> impl Iterator<Item = Message> + use<> {
    let mut messages = Vec::new();
    for map in MAPS {
        let of_map: Vec<Element> = elements(ports).filter(|element| element.map == map).collect();
        messages.extend(of_map.chunks(CHUNK).map(|chunk| message(kind, table, chunk)));
    }
    messages.into_iter()
}

/// One message about elements of one map.
fn message(kind: u16, table: &str, elements: &[Element]) -> Message {
    let with_data = kind == NEW_ELEMENT;
    let flags = if with_data { flag::ACK | flag::CREATE } else { flag::ACK };
    let map = elements.first().map_or("", |element| element.map.name);
    Message::new(kind, flags, &body(INET))
        .with_text(LIST_TABLE, table)
        .with_text(LIST_SET, map)
        .nest(LIST_ELEMENTS, |m| elements.iter().fold(m, |m, element| one(m, element, with_data)))
}

fn one(message: Message, element: &Element, with_data: bool) -> Message {
    let value = |bytes: Vec<u8>| move |m: Message| m.with(DATA_VALUE, bytes);
    let (key, end) = element.key();
    message.nest(LIST_ONE, |m| {
        let m = m.nest(ELEMENT_KEY, value(key));
        let m = if let Some(end) = end { m.nest(ELEMENT_KEY_END, value(end)) } else { m };
        if with_data { m.nest(ELEMENT_DATA, value(element.data())) } else { m }
    })
}

/// Whether a refusal says that the table or map is not there.
pub fn is_missing(error: &io::Error) -> bool {
    link::is(error, Errno::NOENT)
}
