//! `davit volume ls`.

use davit_proto::status::RemoteError;
use davit_proto::volume::{ListRequest, Volume};

use crate::args::volume::ListArgs;
use crate::client::Engine;
use crate::document::{Document, map};
use crate::error::Error;
use crate::format::{Column, Format, Listing};
use crate::{exit, filter, output};

use super::inspect::scope;

const COLUMNS: &[Column] = &[
    Column { field: "Name", head: "VOLUME NAME" },
    Column { field: "Driver", head: "DRIVER" },
    Column { field: "Scope", head: "SCOPE" },
    Column { field: "Mountpoint", head: "MOUNTPOINT" },
    Column { field: "Labels", head: "LABELS" },
    Column { field: "Links", head: "LINKS" },
    Column { field: "Size", head: "SIZE" },
    Column { field: "Availability", head: "AVAILABILITY" },
    Column { field: "Group", head: "GROUP" },
    Column { field: "Status", head: "STATUS" },
];

/// Lists volumes.
pub async fn run(engine: Engine, args: ListArgs) -> Result<u8, Error> {
    let request = ListRequest { filters: filter::parse(&args.filter)? };
    let mut answer = engine.volumes().await?.list(request).await.map_err(RemoteError::from)?.into_inner();
    let mut volumes: Vec<Volume> = Vec::new();
    while let Some(frame) = answer.message().await.map_err(RemoteError::from)? {
        volumes.extend(frame.volumes);
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    if args.quiet && args.format.is_none() {
        let names = volumes.iter().map(|volume| format!("{}\n", output::visible(&volume.name)));
        output::print(&names.collect::<String>())?;
        return Ok(exit::SUCCESS);
    }
    let rows = volumes.iter().map(row).collect();
    let listing = Listing { columns: COLUMNS, shown: vec!["Driver", "Name"], rows };
    output::print(&listing.render(&Format::of(args.format.as_deref()))?)?;
    Ok(exit::SUCCESS)
}

fn row(volume: &Volume) -> Document {
    let mut labels: Vec<_> = volume.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    map([
        ("Availability", "N/A".into()),
        ("Driver", volume.driver.as_str().into()),
        ("Group", "N/A".into()),
        ("Labels", labels.join(",").into()),
        ("Links", volume.container_ids.len().to_string().into()),
        ("Mountpoint", volume.mountpoint.as_str().into()),
        ("Name", volume.name.as_str().into()),
        ("Scope", scope(volume).into()),
        ("Size", "N/A".into()),
        ("Status", "N/A".into()),
    ])
}
