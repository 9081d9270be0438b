//! `davit network ls`.

use davit_proto::network::{ListRequest, Network};
use davit_proto::status::RemoteError;

use crate::args::network::ListArgs;
use crate::client::Engine;
use crate::document::{Document, map};
use crate::error::Error;
use crate::format::{Column, Format, Listing};
use crate::{exit, filter, output, time};

const COLUMNS: &[Column] = &[
    Column { field: "ID", head: "NETWORK ID" },
    Column { field: "Name", head: "NAME" },
    Column { field: "Driver", head: "DRIVER" },
    Column { field: "Scope", head: "SCOPE" },
    Column { field: "IPv6", head: "IPV6" },
    Column { field: "Internal", head: "INTERNAL" },
    Column { field: "Labels", head: "LABELS" },
    Column { field: "CreatedAt", head: "CREATED AT" },
];

/// Lists networks.
pub async fn run(engine: Engine, args: ListArgs) -> Result<u8, Error> {
    let request = ListRequest { filters: filter::parse(&args.filter)? };
    let mut answer = engine.networks().await?.list(request).await.map_err(RemoteError::from)?.into_inner();
    let mut networks: Vec<Network> = Vec::new();
    while let Some(frame) = answer.message().await.map_err(RemoteError::from)? {
        networks.extend(frame.networks);
    }
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let id = |network: &Network| {
        if args.no_trunc { network.id.clone() } else { output::short_id(&network.id).to_owned() }
    };
    if args.quiet && args.format.is_none() {
        let ids = networks.iter().map(|network| format!("{}\n", output::visible(&id(network))));
        output::print(&ids.collect::<String>())?;
        return Ok(exit::SUCCESS);
    }
    let rows = networks.iter().map(|network| row(network, &id(network))).collect();
    let listing = Listing { columns: COLUMNS, shown: vec!["ID", "Name", "Driver", "Scope"], rows };
    output::print(&listing.render(&Format::of(args.format.as_deref()))?)?;
    Ok(exit::SUCCESS)
}

fn row(network: &Network, id: &str) -> Document {
    let mut labels: Vec<_> = network.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    map([
        ("CreatedAt", time::local(network.created_at.as_ref()).into()),
        ("Driver", network.driver.as_str().into()),
        ("ID", id.into()),
        ("IPv6", network.ipv6.to_string().into()),
        ("Internal", network.internal.to_string().into()),
        ("Labels", labels.join(",").into()),
        ("Name", network.name.as_str().into()),
        ("Scope", "local".into()),
    ])
}
