//! Requests for links, addresses and routes, and what the answers say. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;

use ipnet::Ipv4Net;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};

use super::connection::Message;
use super::{BRIDGE_GROUP, Link, Veth};
use crate::mac::Mac;

/// Make it, and fail when it is there.
const NEW: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;

fn request(message: RouteNetlinkMessage, flags: u16) -> Message {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request
}

/// Asks for the link of a name.
pub fn find(name: &str) -> Message {
    request(RouteNetlinkMessage::GetLink(LinkUnspec::new_with_name(name).build()), 0)
}

/// Makes a bridge of ours.
pub fn bridge(name: &str, mac: Mac) -> Message {
    let link = LinkMessageBuilder::<LinkBridge>::new(name).address(mac.bytes().to_vec());
    request(RouteNetlinkMessage::NewLink(link.link_group(BRIDGE_GROUP).build()), NEW)
}

/// Puts a note on a link.
pub fn mark(name: &str, alias: &str) -> Message {
    request(RouteNetlinkMessage::NewLink(LinkUnspec::new_with_name(name).alias(alias).build()), NLM_F_ACK)
}

/// Makes a pair: one end up and a port of its bridge, the other in a namespace.
pub fn veth(veth: &Veth<'_>, netns: RawFd) -> Message {
    let peer = LinkUnspec::new_with_name(veth.peer).address(veth.mac.bytes().to_vec()).setns_by_fd(netns);
    let link = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(veth.host)
        .up()
        .controller(veth.bridge)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
    request(RouteNetlinkMessage::NewLink(link.build()), NEW)
}

/// Lets a bridge send back through a port what came in by it.
pub fn hairpin(name: &str) -> Message {
    let port = LinkMessageBuilder::<LinkBridgePort>::default().name(name).set_port_kind(InfoPortKind::Bridge);
    request(RouteNetlinkMessage::NewLink(port.hairpin(true).build()), NLM_F_ACK)
}

/// Brings a link up.
pub fn up(index: u32) -> Message {
    request(RouteNetlinkMessage::NewLink(LinkUnspec::new_with_index(index).up().build()), NLM_F_ACK)
}

/// Removes a link.
pub fn remove(index: u32) -> Message {
    request(RouteNetlinkMessage::DelLink(LinkUnspec::new_with_index(index).build()), NLM_F_ACK)
}

/// Removes the link of a name.
pub fn remove_named(name: &str) -> Message {
    request(RouteNetlinkMessage::DelLink(LinkUnspec::new_with_name(name).build()), NLM_F_ACK)
}

/// Puts a hardware address behind a port of a bridge. It does not age: a port learns by itself only once the kernel
/// has seen its peer come up.
pub fn neighbour(port: u32, mac: Mac) -> Message {
    let mut entry = NeighbourMessage::default();
    entry.header.family = AddressFamily::Bridge;
    entry.header.ifindex = port;
    entry.header.state = NeighbourState::Noarp;
    entry.header.flags = NeighbourFlags::Controller;
    entry.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec()));
    request(RouteNetlinkMessage::NewNeighbour(entry), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
}

/// Gives a link an address.
pub fn address(index: u32, address: Ipv4Net) -> Message {
    let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index);
    let message = message.address(address.addr(), address.prefix_len()).build();
    request(RouteNetlinkMessage::NewAddress(message), NEW)
}

/// Makes a gateway the way to everywhere else, in the place of another one or only where there is none.
pub fn default_route(index: u32, gateway: Ipv4Addr, takes_over: bool) -> Message {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().protocol(RouteProtocol::Boot);
    let flags = if takes_over { NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE } else { NEW };
    request(RouteNetlinkMessage::NewRoute(route.gateway(gateway).output_interface(index).build()), flags)
}

/// Asks for all IPv4 addresses.
pub fn addresses() -> Message {
    let message = AddressMessageBuilder::<Ipv4Addr>::new().build();
    request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)
}

/// Asks for all IPv4 routes.
pub fn routes() -> Message {
    let message = RouteMessageBuilder::<Ipv4Addr>::new().build();
    request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)
}

/// The link that an answer tells of.
pub fn read_link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(LinkMessage { header, attributes, .. }) = answer else { return None };
    let mut link = Link {
        index: header.index,
        up: header.flags.contains(LinkFlags::Up),
        kind: String::new(),
        mac: None,
        alias: String::new(),
        master: None,
        peer: None,
    };
    for attribute in attributes {
        match attribute {
            LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac::from),
            LinkAttribute::IfAlias(alias) => link.alias = alias,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Link(index) => link.peer = Some(index),
            LinkAttribute::LinkInfo(info) => {
                link.kind = info.iter().find_map(kind).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

/// The address that an answer tells of, and the number of its link.
pub fn read_address(answer: RouteNetlinkMessage) -> Option<(u32, Ipv4Net)> {
    let RouteNetlinkMessage::NewAddress(AddressMessage { header, attributes, .. }) = answer else {
        return None;
    };
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    });
    let ip = local.or_else(|| {
        attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(IpAddr::V4(ip)) => Some(*ip),
            _ => None,
        })
    });
    Some((header.index, Ipv4Net::new(ip?, header.prefix_len).ok()?))
}

/// The destination of the route that an answer tells of, and the number of its link. A default route has none.
pub fn read_route(answer: RouteNetlinkMessage) -> Option<(Option<u32>, Ipv4Net)> {
    let RouteNetlinkMessage::NewRoute(route) = answer else { return None };
    let (mut link, mut destination) = (None, None);
    for attribute in route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(index),
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = Some(ip),
            _ => {}
        }
    }
    Some((link, Ipv4Net::new(destination?, route.header.destination_prefix_length).ok()?))
}
