//! Links, addresses and routes: what the rest of the service asks of them, each in as few messages as it takes.
//!
//! Only this file opens a connection for them.

mod connection;
mod message;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::mac::Mac;

pub use connection::Connection;

/// The interface group of every davit engine's bridges. A firewall that closes a host to forwarding spares it, so
/// that one engine does not cut off another.
pub const BRIDGE_GROUP: u32 = 0x6476;

const LOOPBACK: u32 = 1;

/// What the kernel says about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
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
    /// The number of a pair's other end, in the other end's namespace.
    pub peer: Option<u32>,
}

/// What passed through a link, as it counts itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// What came in.
    pub received: Counted,
    /// What went out.
    pub sent: Counted,
}

/// What passed in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were to pass and were dropped.
    pub dropped: u64,
}

impl Traffic {
    /// The same, as a pair's other end counts it.
    pub fn mirrored(self) -> Self {
        Self { received: self.sent, sent: self.received }
    }
}

/// A bridge that is to be.
#[derive(Debug, Clone)]
pub struct NewBridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Mac,
    /// The note on it.
    pub alias: &'a str,
    /// Largest packet; none for the kernel's own choice.
    pub mtu: Option<u32>,
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
    /// Largest packet; none for the kernel's own choice.
    pub mtu: Option<u32>,
    /// The bridge passes nothing on between ports that are so.
    pub isolated: bool,
}

/// What the container's end becomes.
#[derive(Debug, Clone)]
pub struct Inside {
    /// Addresses, each with the length of its range.
    pub addresses: Vec<IpNet>,
    /// Where everything else goes, when this link is the way out.
    pub gateways: Vec<IpAddr>,
    /// It becomes the way out also when another link is.
    pub takes_over: bool,
}

/// Opens a connection in the calling thread's network namespace.
#[expect(clippy::disallowed_methods, reason = "this is the home of connections for links")]
pub fn open() -> io::Result<Connection> {
    // The library's own handle sends one message a system call; the one below it sends several, as a bridge needs.
    let (driver, handle, _unasked) = rtnetlink::proto::new_connection_with_codec(NETLINK_ROUTE)?;
    Ok(Connection::new(driver, handle))
}

/// Finds a link by name.
pub fn find(connection: &Connection, name: &str) -> io::Result<Option<Link>> {
    match connection.ask(message::find(name)) {
        Ok(answers) => Ok(answers.into_iter().find_map(message::read_link)),
        Err(error) if is(&error, Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All links of the namespace.
pub fn all(connection: &Connection) -> io::Result<Vec<Link>> {
    Ok(connection.ask(message::links())?.into_iter().filter_map(message::read_link).collect())
}

/// What passed through the link of a name; none when there is no such link.
pub fn traffic(connection: &Connection, name: &str) -> io::Result<Option<Traffic>> {
    match connection.ask(message::find(name)) {
        Ok(answers) => Ok(answers.into_iter().find_map(message::read_traffic)),
        Err(error) if is(&error, Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a bridge that is down and has no address, and marks it as ours.
pub fn create_bridge(connection: &Connection, bridge: &NewBridge<'_>) -> io::Result<()> {
    // In the same system call: no signal comes between, so a bridge of ours always says so.
    connection.tell(vec![message::bridge(bridge), message::mark(bridge.name, bridge.alias)], None)
}

/// Gives a link an address; one that it has already is no error.
pub fn add_address(connection: &Connection, index: u32, address: IpNet) -> io::Result<()> {
    connection.tell(vec![message::address(index, address)], Some(Errno::EXIST))
}

/// Brings a link up.
pub fn up(connection: &Connection, index: u32) -> io::Result<()> {
    connection.tell(vec![message::up(index)], None)
}

/// Makes a link a port of a bridge.
pub fn join(connection: &Connection, index: u32, bridge: u32) -> io::Result<()> {
    connection.tell(vec![message::join(index, bridge)], None)
}

/// Removes a link.
pub fn remove(connection: &Connection, index: u32) -> io::Result<()> {
    connection.tell(vec![message::remove(index)], None)
}

/// Removes links by name, in one system call. Those that are not there are no error.
pub fn remove_named(connection: &Connection, names: &[String]) -> io::Result<()> {
    connection.tell(names.iter().map(|name| message::remove_named(name)).collect(), Some(Errno::NODEV))
}

/// Makes a veth pair: the host's end a port of the bridge and up, the peer in the given namespace.
///
/// `EEXIST` when either name is taken.
pub fn create_veth(connection: &Connection, veth: &Veth<'_>, netns: impl AsFd) -> io::Result<()> {
    let pair = message::veth(veth, netns.as_fd().as_raw_fd());
    // Hairpin: with br_netfilter a container that calls its own published port is answered through its own port.
    connection.tell(vec![pair, message::port(veth.host, veth.isolated)], None)
}

/// Tells a bridge that a hardware address is behind this port now, whatever it learnt before.
pub fn learn(connection: &Connection, port: u32, mac: Mac) -> io::Result<()> {
    connection.tell(vec![message::neighbour(port, mac)], None)
}

/// Configures the inside of a container's namespace in one system call: loopback and link up, addresses, way out.
/// What is there already stays.
pub fn configure(connection: &Connection, index: u32, inside: &Inside) -> io::Result<()> {
    let mut requests = vec![message::up(LOOPBACK), message::up(index)];
    requests.extend(inside.addresses.iter().map(|address| message::address(index, *address)));
    let route = |gateway: &IpAddr| message::default_route(index, *gateway, inside.takes_over);
    requests.extend(inside.gateways.iter().map(route));
    connection.tell(requests, Some(Errno::EXIST))
}

/// Makes a gateway behind a link the way to everywhere else, where there is no way yet.
pub fn lead(connection: &Connection, index: u32, gateway: IpAddr) -> io::Result<()> {
    connection.tell(vec![message::default_route(index, gateway, false)], Some(Errno::EXIST))
}

/// Brings up loopback alone.
pub fn loopback_up(connection: &Connection) -> io::Result<()> {
    up(connection, LOOPBACK)
}

/// All addresses of the namespace, with the number of their link.
pub fn addresses(connection: &Connection) -> io::Result<Vec<(u32, IpNet)>> {
    let answers = connection.ask(message::addresses())?;
    Ok(answers.into_iter().filter_map(message::read_address).collect())
}

/// The destinations of all routes but the default ones, with the number of their link.
pub fn routes(connection: &Connection) -> io::Result<Vec<(Option<u32>, IpNet)>> {
    let answers = connection.ask(message::routes())?;
    Ok(answers.into_iter().filter_map(message::read_route).collect())
}

/// The name of a link of the calling thread's network namespace.
pub fn name(index: u32) -> io::Result<String> {
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    Ok(netdevice::index_to_name(any, index)?)
}

/// Whether an error is this one of the kernel's.
pub fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}
