//! Requests for links, addresses and routes, and what the answers say. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};

use super::connection::Message;
use super::{BRIDGE_GROUP, Counted, Link, NewBridge, Traffic, Veth};
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

/// Asks for all links.
pub fn links() -> Message {
    request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)
}

/// Makes a bridge of ours.
pub fn bridge(bridge: &NewBridge<'_>) -> Message {
    let link = LinkMessageBuilder::<LinkBridge>::new(bridge.name).address(bridge.mac.bytes().to_vec());
    let link = sized(link.link_group(BRIDGE_GROUP), bridge.mtu);
    request(RouteNetlinkMessage::NewLink(link.build()), NEW)
}

fn sized<T>(link: LinkMessageBuilder<T>, mtu: Option<u32>) -> LinkMessageBuilder<T> {
    match mtu {
        Some(mtu) => link.mtu(mtu),
        None => link,
    }
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
        .set_info_data(InfoData::Veth(InfoVeth::Peer(sized(peer, veth.mtu).build())));
    request(RouteNetlinkMessage::NewLink(sized(link, veth.mtu).build()), NEW)
}

/// Lets a bridge send back through a port what came in by it, and between isolated ones nothing.
pub fn port(name: &str, isolated: bool) -> Message {
    let port = LinkMessageBuilder::<LinkBridgePort>::default().name(name).set_port_kind(InfoPortKind::Bridge);
    request(RouteNetlinkMessage::NewLink(port.hairpin(true).isolated(isolated).build()), NLM_F_ACK)
}

/// Brings a link up.
pub fn up(index: u32) -> Message {
    request(RouteNetlinkMessage::NewLink(LinkUnspec::new_with_index(index).up().build()), NLM_F_ACK)
}

/// Makes a link a port of a bridge, and brings it up.
pub fn join(index: u32, bridge: u32) -> Message {
    let link = LinkUnspec::new_with_index(index).controller(bridge).up();
    request(RouteNetlinkMessage::NewLink(link.build()), NLM_F_ACK)
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

/// Gives a link an address, which serves at once: we know that nobody else has it, so nobody is asked.
pub fn address(index: u32, address: IpNet) -> Message {
    let mut message = match address {
        IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
            .address(net.addr(), net.prefix_len())
            .index(index)
            .build(),
        IpNet::V6(net) => AddressMessageBuilder::<Ipv6Addr>::new()
            .address(net.addr(), net.prefix_len())
            .index(index)
            .build(),
    };
    if address.addr().is_ipv6() {
        message.header.flags |= AddressHeaderFlags::Nodad;
    }
    request(RouteNetlinkMessage::NewAddress(message), NEW)
}

/// Makes a gateway the way to everywhere else, in the place of another one or only where there is none.
pub fn default_route(index: u32, gateway: IpAddr, takes_over: bool) -> Message {
    let route = match gateway {
        IpAddr::V4(ip) => RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(ip)
            .output_interface(index)
            .protocol(RouteProtocol::Boot)
            .build(),
        IpAddr::V6(ip) => RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(ip)
            .output_interface(index)
            .protocol(RouteProtocol::Boot)
            .build(),
    };
    let flags = if takes_over { NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE } else { NEW };
    request(RouteNetlinkMessage::NewRoute(route), flags)
}

/// Asks for all addresses.
pub fn addresses() -> Message {
    request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)
}

/// Asks for all routes.
pub fn routes() -> Message {
    request(RouteNetlinkMessage::GetRoute(RouteMessage::default()), NLM_F_DUMP)
}

/// The link that an answer tells of.
pub fn read_link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(LinkMessage { header, attributes, .. }) = answer else { return None };
    let mut link = Link {
        index: header.index,
        name: String::new(),
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
            LinkAttribute::IfName(name) => link.name = name,
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

/// What passed through the link that an answer tells of.
pub fn read_traffic(answer: RouteNetlinkMessage) -> Option<Traffic> {
    let RouteNetlinkMessage::NewLink(link) = answer else { return None };
    link.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(Traffic {
            received: Counted { bytes: stats.rx_bytes, packets: stats.rx_packets, dropped: stats.rx_dropped },
            sent: Counted { bytes: stats.tx_bytes, packets: stats.tx_packets, dropped: stats.tx_dropped },
        }),
        _ => None,
    })
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

/// The address that an answer tells of, and the number of its link.
pub fn read_address(answer: RouteNetlinkMessage) -> Option<(u32, IpNet)> {
    let RouteNetlinkMessage::NewAddress(AddressMessage { header, attributes, .. }) = answer else {
        return None;
    };
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let ip = local.or_else(|| {
        attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    });
    Some((header.index, IpNet::new(ip?, header.prefix_len).ok()?))
}

/// The destination of the route that an answer tells of, and the number of its link. A default route has none.
pub fn read_route(answer: RouteNetlinkMessage) -> Option<(Option<u32>, IpNet)> {
    let RouteNetlinkMessage::NewRoute(route) = answer else { return None };
    let (mut link, mut destination) = (None, None);
    for attribute in route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(index),
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = Some(IpAddr::V4(ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => destination = Some(IpAddr::V6(ip)),
            _ => {}
        }
    }
    Some((link, IpNet::new(destination?, route.header.destination_prefix_length).ok()?))
}
