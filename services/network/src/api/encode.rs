//! To the wire.

use std::collections::HashMap;
use std::net::IpAddr;

use davit_proto::network::{
    Endpoint as WireEndpoint, Network as WireNetwork, Subnet, Traffic as WireTraffic,
};

use crate::ipam::Range;
use crate::link::Traffic;
use crate::network::Bridge;
use crate::networks::{Endpoint, Populated};
use crate::wire::gateway;

pub fn network(populated: Populated) -> WireNetwork {
    let network = populated.network;
    let bridge = network.bridge.as_ref();
    let subnet = |range: &Range| Subnet {
        cidr: range.subnet.to_string(),
        gateway: range.gateway.to_string(),
        ip_range: range.part.map(|part| part.to_string()).unwrap_or_default(),
        aux_addresses: bridge.map(|bridge| kept(bridge, range)).unwrap_or_default(),
    };
    WireNetwork {
        id: network.id.to_string(),
        name: network.name.to_string(),
        driver: network.driver.as_str().to_owned(),
        subnets: bridge.iter().flat_map(|bridge| &bridge.ranges).map(subnet).collect(),
        internal: bridge.is_some_and(|bridge| bridge.internal),
        ipv6: bridge.is_some_and(Bridge::has_ipv6),
        labels: network.labels.into_iter().collect(),
        options: network.options.into_iter().collect(),
        created_at: Some(davit_proto::time::timestamp(network.created_at.into())),
        endpoints: populated.endpoints.into_iter().map(endpoint).collect(),
        interface: network.bridge.map(|bridge| bridge.link.to_string()).unwrap_or_default(),
    }
}

/// What of a range is kept from containers.
fn kept(bridge: &Bridge, range: &Range) -> HashMap<String, String> {
    let of_range = bridge.kept.iter().filter(|(_, ip)| range.subnet.contains(*ip));
    of_range.map(|(name, ip)| (name.clone(), ip.to_string())).collect()
}

pub fn endpoint(endpoint: Endpoint) -> WireEndpoint {
    let mut wire = WireEndpoint {
        container_id: endpoint.container_id.to_string(),
        network_id: endpoint.network.id.to_string(),
        network_name: endpoint.network.name.to_string(),
        container_name: endpoint.name.map(String::from).unwrap_or_default(),
        traffic: endpoint.traffic.map(traffic),
        aliases: endpoint.lease.aliases,
        ..WireEndpoint::default()
    };
    if let (Some(wired), Some(bridge)) = (endpoint.lease.wired, endpoint.network.bridge) {
        let place = |ip: IpAddr| {
            let prefix = bridge.range_of(ip).map_or(0, |range| range.subnet.prefix_len());
            // An internal network has no way out.
            let gateway = gateway(&bridge, &wired, ip.is_ipv4()).map(|ip| ip.to_string());
            (ip.to_string(), prefix.into(), gateway.unwrap_or_default())
        };
        (wire.ipv4, wire.ipv4_prefix, wire.ipv4_gateway) = place(wired.ipv4.into());
        if let Some(ipv6) = wired.ipv6 {
            (wire.ipv6, wire.ipv6_prefix, wire.ipv6_gateway) = place(ipv6.into());
        }
        wire.mac = wired.mac.to_string();
        wire.interface = wired.interface;
    }
    wire
}

fn traffic(traffic: Traffic) -> WireTraffic {
    let Traffic { received, sent } = traffic;
    WireTraffic {
        received_bytes: received.bytes,
        received_packets: received.packets,
        received_dropped: received.dropped,
        sent_bytes: sent.bytes,
        sent_packets: sent.packets,
        sent_dropped: sent.dropped,
    }
}
