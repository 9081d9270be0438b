//! `NetworkSettings`: where a container is on its networks.

use std::collections::BTreeMap;

use davit_proto::container::{Container, ContainerStatus, EndpointSpec, NetworkStatus, Phase};
use davit_proto::port::each;

use super::or_null;
use crate::container::port::host_ips;
use crate::document::{Document, list, map};
use crate::output::short_id;

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
    fields.push(("Networks", networks(container, status)));
    map(fields)
}

/// Places on networks by their names; the host's network and none stand for themselves.
fn networks(container: &Container, status: &ContainerStatus) -> Document {
    let wanted = container.spec.as_ref().map(|spec| spec.networks.as_slice()).unwrap_or_default();
    let alone = wanted.first().map(|first| first.network.as_str());
    if let Some(name) = alone.filter(|name| status.networks.is_empty() && matches!(*name, "host" | "none")) {
        return map([(name, endpoint(container, &NetworkStatus::default()))]);
    }
    map(status.networks.iter().map(|network| (network.network.as_str(), endpoint(container, network))))
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

fn endpoint(container: &Container, network: &NetworkStatus) -> Document {
    let wanted = container.spec.iter().flat_map(|spec| &spec.networks);
    let wanted = wanted.into_iter().find(|wanted| wanted.network == network.network);
    let mut fields = vec![
        ("IPAMConfig", wanted.map_or(Document::Null, asked)),
        ("Links", Document::Null),
        ("Aliases", or_null(list(aliases(container, network)))),
        ("DriverOpts", Document::Null),
        ("NetworkID", network.network_id.as_str().into()),
        ("EndpointID", "".into()),
    ];
    fields.extend(addresses(network));
    fields.push(("DNSNames", or_null(list(names(container, network)))));
    // A field of davit's own.
    fields.push(("Interface", network.interface.as_str().into()));
    map(fields)
}

/// The addresses that were asked for by hand.
fn asked(wanted: &EndpointSpec) -> Document {
    let fields = [("IPv4Address", &wanted.ipv4), ("IPv6Address", &wanted.ipv6)];
    let given = fields.into_iter().filter(|(_, address)| !address.is_empty());
    let fields: Vec<_> = given.map(|(name, address)| (name, address.as_str().into())).collect();
    if fields.is_empty() { Document::Null } else { map(fields) }
}

fn aliases(container: &Container, network: &NetworkStatus) -> Vec<String> {
    let mut aliases = network.aliases.clone();
    if !matches!(network.network.as_str(), "" | "bridge") {
        aliases.push(short_id(&container.id).to_owned());
    }
    aliases
}

/// All names that others on the network find it by, each once.
fn names(container: &Container, network: &NetworkStatus) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if !network.network.is_empty() {
        let own = [container.name.clone(), short_id(&container.id).to_owned()];
        let [name, short] = own;
        for one in std::iter::once(name).chain(network.aliases.iter().cloned()).chain([short]) {
            if !names.contains(&one) {
                names.push(one);
            }
        }
    }
    names
}

/// Published ports with their places on the host; exposed ones with null.
fn ports(container: &Container, status: &ContainerStatus) -> Document {
    if !matches!(status.phase(), Phase::Running | Phase::Paused | Phase::Unknown) {
        return map::<&str>([]);
    }
    let mut ports: BTreeMap<String, Vec<Document>> =
        container.exposed_ports.iter().map(|port| (port.clone(), Vec::new())).collect();
    for port in &each(&status.ports) {
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
