//! `NetworkSettings`: where a container is on its networks.

use std::collections::BTreeMap;

use davit_proto::container::{Container, ContainerStatus, NetworkStatus, Phase};

use super::or_null;
use crate::container::port::host_ips;
use crate::document::{Document, list, map};

/// The whole of it. The fields of the first network stand at the top too, where scripts look for them.
pub fn settings(container: &Container, status: &ContainerStatus) -> Document {
    let none = NetworkStatus::default();
    let first = status.networks.iter().find(|network| network.network == "bridge");
    let first = first.or(status.networks.first()).unwrap_or(&none);
    let mut fields: Vec<(&str, Document)> = vec![
        ("Bridge", "".into()),
        ("SandboxID", if status.netns_path.is_empty() { "" } else { &container.id }.into()),
        ("SandboxKey", status.netns_path.as_str().into()),
        ("Ports", ports(container, status)),
        ("EndpointID", "".into()),
    ];
    fields.extend(addresses(first));
    fields.push((
        "Networks",
        map(status.networks.iter().map(|network| (network.network.as_str(), endpoint(network)))),
    ));
    map(fields)
}

fn addresses(network: &NetworkStatus) -> Vec<(&'static str, Document)> {
    vec![
        ("Gateway", network.ipv4_gateway.as_str().into()),
        ("GlobalIPv6Address", network.ipv6.as_str().into()),
        ("GlobalIPv6PrefixLen", network.ipv6_prefix.into()),
        ("IPAddress", network.ipv4.as_str().into()),
        ("IPPrefixLen", network.ipv4_prefix.into()),
        ("IPv6Gateway", network.ipv6_gateway.as_str().into()),
        ("MacAddress", network.mac.as_str().into()),
    ]
}

fn endpoint(network: &NetworkStatus) -> Document {
    let mut fields = vec![
        ("IPAMConfig", Document::Null),
        ("Links", Document::Null),
        ("Aliases", or_null(list(&network.aliases))),
        ("NetworkID", network.network_id.as_str().into()),
        ("EndpointID", "".into()),
    ];
    fields.extend(addresses(network));
    map(fields)
}

/// Published ports with their places on the host; exposed ones with null.
fn ports(container: &Container, status: &ContainerStatus) -> Document {
    if !matches!(status.phase(), Phase::Running | Phase::Paused | Phase::Unknown) {
        return map::<&str>([]);
    }
    let mut ports: BTreeMap<String, Vec<Document>> =
        container.exposed_ports.iter().map(|port| (port.clone(), Vec::new())).collect();
    for port in &status.ports {
        let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
        let places = ports.entry(format!("{}/{protocol}", port.container_port)).or_default();
        places.extend(
            host_ips(port)
                .into_iter()
                .map(|ip| map([("HostIp", ip.into()), ("HostPort", port.host_port.to_string().into())])),
        );
    }
    map(ports.into_iter().map(|(port, places)| (port, or_null(Document::List(places)))))
}
