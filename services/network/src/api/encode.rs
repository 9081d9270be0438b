//! To the wire.

use std::collections::HashMap;

use davit_proto::network::{Endpoint as WireEndpoint, Network as WireNetwork, Subnet};

use crate::networks::{Endpoint, Populated};

pub fn network(populated: Populated) -> WireNetwork {
    let network = populated.network;
    let bridge = network.bridge.as_ref();
    let subnet = bridge.map(|bridge| Subnet {
        cidr: bridge.range.subnet.to_string(),
        gateway: bridge.range.gateway.to_string(),
        ip_range: bridge.range.part.map(|part| part.to_string()).unwrap_or_default(),
    });
    WireNetwork {
        id: network.id.to_string(),
        name: network.name.to_string(),
        driver: network.driver.as_str().to_owned(),
        subnets: subnet.into_iter().collect(),
        internal: bridge.is_some_and(|bridge| bridge.internal),
        ipv6: false,
        labels: network.labels.into_iter().collect(),
        options: HashMap::new(),
        created_at: Some(davit_proto::time::timestamp(network.created_at.into())),
        endpoints: populated.endpoints.into_iter().map(endpoint).collect(),
        interface: network.bridge.map(|bridge| bridge.link.to_string()).unwrap_or_default(),
    }
}

pub fn endpoint(endpoint: Endpoint) -> WireEndpoint {
    let mut wire = WireEndpoint {
        container_id: endpoint.container_id.to_string(),
        network_id: endpoint.network.id.to_string(),
        network_name: endpoint.network.name.to_string(),
        container_name: endpoint.name.map(String::from).unwrap_or_default(),
        traffic: None,
        aliases: endpoint.lease.aliases,
        ..WireEndpoint::default()
    };
    if let (Some(wired), Some(bridge)) = (endpoint.lease.wired, endpoint.network.bridge) {
        wire.ipv4 = wired.ipv4.to_string();
        wire.ipv4_prefix = bridge.range.subnet.prefix_len().into();
        // An internal network has no way out.
        wire.ipv4_gateway = if bridge.internal { String::new() } else { bridge.range.gateway.to_string() };
        wire.mac = wired.mac.to_string();
        wire.interface = wired.interface;
    }
    wire
}
