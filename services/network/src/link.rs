//! Links, addresses and routes as the kernel is asked for them, each in as few messages as it takes.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::Ipv4Net;
use rustix::io::Errno;

use crate::mac::Mac;
use crate::netlink::{Attributes, Family, Message, Refused, Socket, flag};

/// The interface group of every davit engine's bridges. A firewall that closes a host to forwarding spares it, so
/// that one engine does not cut off another.
pub const BRIDGE_GROUP: u32 = 0x6476;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const NDA_LLADDR: u16 = 2;

const AF_BRIDGE: u8 = 7;
const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const LINK_BODY: usize = 16;
const ADDRESS_BODY: usize = 8;
const ROUTE_BODY: usize = 12;
const LOOPBACK: u32 = 1;

/// What the kernel says about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// It is up.
    pub up: bool,
    /// Its kind: "bridge", "veth"; empty for hardware.
    pub kind: String,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// The note on it.
    pub alias: String,
    /// The bridge it is a port of.
    pub master: Option<u32>,
}

/// A veth pair that is to be: one end on a bridge of ours, the other in a container's namespace.
#[derive(Debug, Clone)]
pub struct Veth<'a> {
    /// Name of the host's end.
    pub host: &'a str,
    /// The bridge.
    pub bridge: u32,
    /// Name of the container's end.
    pub peer: &'a str,
    /// Hardware address of the container's end.
    pub mac: Mac,
}

/// What the container's end becomes.
#[derive(Debug, Clone)]
pub struct Address {
    /// Address and length of the range.
    pub address: Ipv4Net,
    /// Where everything else goes, when this link is the way out.
    pub gateway: Option<Ipv4Addr>,
}

/// Opens a socket for links in the calling thread's network namespace.
pub fn socket() -> io::Result<Socket> {
    Socket::open(Family::Route)
}

/// Finds a link by name.
pub fn find(socket: &Socket, name: &str) -> io::Result<Option<Link>> {
    let message = Message::new(RTM_GETLINK, 0, &link_body(0, 0)).with_text(IFLA_IFNAME, name);
    match socket.ask(message) {
        Ok(body) => Ok(read_link(&body)),
        Err(error) if is(&error, Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a bridge that is down and has no address, and marks it as ours.
pub fn create_bridge(socket: &Socket, name: &str, mac: Mac, alias: &str) -> io::Result<()> {
    let flags = flag::ACK | flag::CREATE | flag::EXCL;
    let create = Message::new(RTM_NEWLINK, flags, &link_body(0, 0))
        .with_text(IFLA_IFNAME, name)
        .with(IFLA_ADDRESS, mac.bytes())
        .with(IFLA_GROUP, BRIDGE_GROUP.to_ne_bytes())
        .nest(IFLA_LINKINFO, |m| m.with_text(IFLA_INFO_KIND, "bridge"));
    // In the same system call: no signal comes between, so a bridge of ours always says so.
    let mark = Message::new(RTM_NEWLINK, flag::ACK, &link_body(0, 0))
        .with_text(IFLA_IFNAME, name)
        .with(IFLA_IFALIAS, alias);
    socket.send_all(vec![create, mark])
}

/// Gives a link an address; one that it has already is no error.
pub fn add_address(socket: &Socket, index: u32, address: Ipv4Net) -> io::Result<()> {
    tolerate(socket.send(vec![address_message(index, address)])?, Errno::EXIST)
}

/// Brings a link up.
pub fn up(socket: &Socket, index: u32) -> io::Result<()> {
    socket.send_all(vec![up_message(index)])
}

/// Removes a link.
pub fn remove(socket: &Socket, index: u32) -> io::Result<()> {
    socket.send_all(vec![Message::new(RTM_DELLINK, flag::ACK, &link_body(index, 0))])
}

/// Makes a veth pair: the host's end a port of the bridge and up, the peer in the given namespace.
///
/// `EEXIST` when either name is taken.
pub fn create_veth(socket: &Socket, veth: &Veth<'_>, netns: impl AsFd) -> io::Result<()> {
    let fd = netns.as_fd().as_raw_fd();
    let peer = |m: Message| {
        m.raw(&link_body(0, 0))
            .with_text(IFLA_IFNAME, veth.peer)
            .with(IFLA_ADDRESS, veth.mac.bytes())
            .with(IFLA_NET_NS_FD, fd.to_ne_bytes())
    };
    let flags = flag::ACK | flag::CREATE | flag::EXCL;
    let create = Message::new(RTM_NEWLINK, flags, &link_body(0, IFF_UP))
        .with_text(IFLA_IFNAME, veth.host)
        .with(IFLA_MASTER, veth.bridge.to_ne_bytes())
        .nest(IFLA_LINKINFO, |m| {
            m.with_text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| m.nest(VETH_INFO_PEER, peer))
        });
    // Hairpin: with br_netfilter a container that calls its own published port is answered through its own port.
    let hairpin = Message::new(RTM_NEWLINK, flag::ACK, &link_body(0, 0))
        .with_text(IFLA_IFNAME, veth.host)
        .nest(IFLA_LINKINFO, |m| {
            m.with_text(IFLA_INFO_SLAVE_KIND, "bridge")
                .nest(IFLA_INFO_SLAVE_DATA, |m| m.with(IFLA_BRPORT_MODE, [1_u8]))
        });
    let mut receipts = socket.send(vec![create, hairpin])?.into_iter();
    match receipts.next() {
        Some(Err(Refused(errno))) => Err(errno.into()),
        _ => receipts.try_for_each(|receipt| receipt.map_err(|Refused(errno)| errno.into())),
    }
}

/// Tells a bridge that a hardware address is behind this port now, whatever it learnt before.
pub fn learn(socket: &Socket, port: u32, mac: Mac) -> io::Result<()> {
    // One that does not age: a port learns by itself only once the kernel has seen its peer come up.
    const STATIC: u16 = 0x40;
    const MASTER: u8 = 0x04;
    let mut body = [0_u8; 12];
    body[0] = AF_BRIDGE;
    body[4..8].copy_from_slice(&port.to_ne_bytes());
    body[8..10].copy_from_slice(&STATIC.to_ne_bytes());
    body[10] = MASTER;
    let flags = flag::ACK | flag::CREATE | flag::REPLACE;
    socket.send_all(vec![Message::new(RTM_NEWNEIGH, flags, &body).with(NDA_LLADDR, mac.bytes())])
}

/// Configures the inside of a container's namespace in one system call: loopback and link up, address, way out.
/// What is there already stays.
pub fn configure(socket: &Socket, index: u32, address: &Address) -> io::Result<()> {
    let mut messages = vec![up_message(LOOPBACK), up_message(index), address_message(index, address.address)];
    if let Some(gateway) = address.gateway {
        messages.push(route_message(index, gateway));
    }
    tolerate(socket.send(messages)?, Errno::EXIST)
}

/// Brings up loopback alone.
pub fn loopback_up(socket: &Socket) -> io::Result<()> {
    up(socket, LOOPBACK)
}

/// All IPv4 addresses of the namespace, with the number of their link.
pub fn addresses(socket: &Socket) -> io::Result<Vec<(u32, Ipv4Net)>> {
    let mut body = [0_u8; ADDRESS_BODY];
    body[0] = AF_INET;
    let mut found = Vec::new();
    socket.dump(Message::new(RTM_GETADDR, flag::DUMP, &body), |body| {
        let attributes = Attributes::after(body, ADDRESS_BODY);
        let address = attributes.array(IFA_LOCAL).or_else(|| attributes.array(IFA_ADDRESS));
        let net = address.zip(body.get(1)).and_then(|(ip, length)| Ipv4Net::new(ip.into(), *length).ok());
        found.extend(word(body, 4).zip(net));
    })?;
    Ok(found)
}

/// The destinations of all IPv4 routes but the default ones, with the number of their link.
pub fn routes(socket: &Socket) -> io::Result<Vec<(Option<u32>, Ipv4Net)>> {
    let mut body = [0_u8; ROUTE_BODY];
    body[0] = AF_INET;
    let mut found = Vec::new();
    socket.dump(Message::new(RTM_GETROUTE, flag::DUMP, &body), |body| {
        let attributes = Attributes::after(body, ROUTE_BODY);
        let net = attributes.array::<4>(RTA_DST).zip(body.get(1));
        if let Some(net) = net.and_then(|(ip, length)| Ipv4Net::new(ip.into(), *length).ok()) {
            found.push((attributes.array(RTA_OIF).map(u32::from_ne_bytes), net));
        }
    })?;
    Ok(found)
}

/// Whether an error is this one of the kernel's.
pub fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}

fn tolerate(receipts: Vec<Result<(), Refused>>, harmless: Errno) -> io::Result<()> {
    for receipt in receipts {
        match receipt {
            Err(Refused(errno)) if errno != harmless => return Err(errno.into()),
            _ => {}
        }
    }
    Ok(())
}

fn link_body(index: u32, flags: u32) -> [u8; LINK_BODY] {
    let mut body = [0; LINK_BODY];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&flags.to_ne_bytes());
    body
}

fn up_message(index: u32) -> Message {
    Message::new(RTM_NEWLINK, flag::ACK, &link_body(index, IFF_UP))
}

fn address_message(index: u32, address: Ipv4Net) -> Message {
    let mut body = [0; ADDRESS_BODY];
    body[0] = AF_INET;
    body[1] = address.prefix_len();
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    Message::new(RTM_NEWADDR, flag::ACK | flag::CREATE | flag::EXCL, &body)
        .with(IFA_LOCAL, address.addr().octets())
        .with(IFA_ADDRESS, address.addr().octets())
        .with(IFA_BROADCAST, address.broadcast().octets())
}

fn route_message(index: u32, gateway: Ipv4Addr) -> Message {
    const TABLE_MAIN: u8 = 254;
    const PROTOCOL_BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    let body = [AF_INET, 0, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, 0, UNICAST, 0, 0, 0, 0];
    Message::new(RTM_NEWROUTE, flag::ACK | flag::CREATE | flag::EXCL, &body)
        .with(RTA_GATEWAY, gateway.octets())
        .with(RTA_OIF, index.to_ne_bytes())
}

fn word(body: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?))
}

fn read_link(body: &[u8]) -> Option<Link> {
    let attributes = Attributes::after(body, LINK_BODY);
    Some(Link {
        index: word(body, 4)?,
        up: word(body, 8)? & IFF_UP != 0,
        kind: attributes.inside(IFLA_LINKINFO).text(IFLA_INFO_KIND).unwrap_or_default().to_owned(),
        mac: attributes.array(IFLA_ADDRESS).map(Mac::from),
        alias: attributes.text(IFLA_IFALIAS).unwrap_or_default().to_owned(),
        master: attributes.array(IFLA_MASTER).map(u32::from_ne_bytes),
    })
}
