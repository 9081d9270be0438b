//! `davit ps`.

use std::time::SystemTime;

use davit_proto::container::{Container, ListRequest};
use davit_proto::status::RemoteError;

use super::row;
use crate::args::container::ListArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::format::{Format, Listing};
use crate::{exit, filter, output};

/// Lists containers.
pub async fn run(engine: Engine, args: ListArgs) -> Result<u8, Error> {
    let limit = match (args.latest, args.last) {
        (true, _) => 1,
        (false, Some(last)) if last > 0 => u32::try_from(last).unwrap_or(u32::MAX),
        (false, _) => 0,
    };
    let format = Format::of(args.format.as_deref());
    let request = ListRequest {
        all: args.all || limit > 0,
        limit,
        size: args.size || asks_for_size(&format),
        filters: filter::parse(&args.filter)?,
        ..ListRequest::default()
    };
    let mut answer = engine.containers().await?.list(request).await.map_err(RemoteError::from)?.into_inner();
    let mut containers: Vec<Container> = Vec::new();
    while let Some(frame) = answer.message().await.map_err(RemoteError::from)? {
        containers.extend(frame.containers);
    }
    if args.quiet && args.format.is_none() {
        let ids = containers.iter().map(|container| {
            let id = if args.no_trunc { container.id.as_str() } else { output::short_id(&container.id) };
            format!("{}\n", output::visible(id))
        });
        output::print(&ids.collect::<String>())?;
        return Ok(exit::SUCCESS);
    }
    let mut shown = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
    if args.size {
        shown.push("Size");
    }
    let now = SystemTime::now();
    let rows = containers.iter().map(|container| row::of(container, now, args.no_trunc)).collect();
    output::print(&Listing { columns: row::COLUMNS, shown, rows }.render(&format)?)?;
    Ok(exit::SUCCESS)
}

/// Sizes cost a walk through a container's files; a template that shows them asks for it.
fn asks_for_size(format: &Format) -> bool {
    match format {
        Format::Template(template) | Format::TableOf(template) => template.contains(".Size"),
        Format::Table | Format::Json => false,
    }
}
