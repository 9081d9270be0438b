//! `davit network inspect`: a network in docker's fields.

use davit_proto::network::{Endpoint, InspectRequest, Network, Traffic};
use davit_proto::status::RemoteError;

use crate::args::network::InspectArgs;
use crate::client::Engine;
use crate::document::{Document, map, texts};
use crate::error::Error;
use crate::system::inspect::{self, Found};
use crate::{time, usage};

/// Shows all of some networks.
pub async fn run(engine: Engine, args: InspectArgs) -> Result<u8, Error> {
    let engine = &engine;
    inspect::show(args.networks, args.format.as_deref(), async move |name| find(engine, &name).await).await
}

/// One network as a document; `None` when there is none by that name.
pub async fn find(engine: &Engine, name: &str) -> Result<Found, Error> {
    usage::check_target(name)?;
    let request = InspectRequest { network: name.to_owned() };
    let answer = engine.networks().await?.inspect(request).await.map_err(RemoteError::from);
    Found::or_missing(answer, davit_proto::reason::NETWORK_NOT_FOUND, |answer| {
        answer.into_inner().network.map(|network| document(&network))
    })
}

fn document(network: &Network) -> Document {
    let ranges = network.subnets.iter().map(|subnet| {
        let mut fields = vec![("Subnet", Document::from(subnet.cidr.as_str()))];
        if !subnet.ip_range.is_empty() {
            fields.push(("IPRange", subnet.ip_range.as_str().into()));
        }
        if !subnet.gateway.is_empty() {
            fields.push(("Gateway", subnet.gateway.as_str().into()));
        }
        if !subnet.aux_addresses.is_empty() {
            fields.push(("AuxiliaryAddresses", texts(&subnet.aux_addresses)));
        }
        map(fields)
    });
    let ipam = map([
        ("Driver", "default".into()),
        ("Options", map::<&str>([])),
        ("Config", Document::List(ranges.collect())),
    ]);
    let endpoints = network.endpoints.iter().map(|place| (place.container_id.as_str(), endpoint(place)));
    map([
        ("Name", network.name.as_str().into()),
        ("Id", network.id.as_str().into()),
        ("Created", time::exact(network.created_at.as_ref()).into()),
        ("Scope", "local".into()),
        ("Driver", network.driver.as_str().into()),
        ("EnableIPv6", network.ipv6.into()),
        ("IPAM", ipam),
        ("Internal", network.internal.into()),
        ("Attachable", false.into()),
        ("Ingress", false.into()),
        ("Containers", map(endpoints)),
        ("Options", texts(&network.options)),
        ("Labels", texts(&network.labels)),
        // A field of davit's own.
        ("Interface", network.interface.as_str().into()),
    ])
}

fn endpoint(endpoint: &Endpoint) -> Document {
    let with_prefix = |address: &str, prefix: u32| {
        if address.is_empty() { String::new() } else { format!("{address}/{prefix}") }
    };
    let mut fields = vec![
        ("Name", Document::from(endpoint.container_name.as_str())),
        ("EndpointID", "".into()),
        ("MacAddress", endpoint.mac.as_str().into()),
        ("IPv4Address", with_prefix(&endpoint.ipv4, endpoint.ipv4_prefix).into()),
        ("IPv6Address", with_prefix(&endpoint.ipv6, endpoint.ipv6_prefix).into()),
        // What follows is davit's own.
        ("Interface", endpoint.interface.as_str().into()),
    ];
    if let Some(traffic) = &endpoint.traffic {
        fields.push(("Traffic", counters(traffic)));
    }
    map(fields)
}

fn counters(traffic: &Traffic) -> Document {
    map([
        ("ReceivedBytes", traffic.received_bytes.into()),
        ("ReceivedPackets", traffic.received_packets.into()),
        ("ReceivedDropped", traffic.received_dropped.into()),
        ("SentBytes", traffic.sent_bytes.into()),
        ("SentPackets", traffic.sent_packets.into()),
        ("SentDropped", traffic.sent_dropped.into()),
    ])
}
