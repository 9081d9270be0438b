//! `davit history`.

use std::time::SystemTime;

use davit_proto::image::{HistoryRequest, HistoryStep};
use davit_proto::status::RemoteError;

use crate::args::image::HistoryArgs;
use crate::client::Engine;
use crate::document::{Document, map};
use crate::error::Error;
use crate::format::{Column, Format, Listing};
use crate::{exit, human, output, reference, time, usage};

const COLUMNS: &[Column] = &[
    Column { field: "ID", head: "IMAGE" },
    Column { field: "CreatedSince", head: "CREATED" },
    Column { field: "CreatedAt", head: "CREATED AT" },
    Column { field: "CreatedBy", head: "CREATED BY" },
    Column { field: "Size", head: "SIZE" },
    Column { field: "Comment", head: "COMMENT" },
    Column { field: "Tags", head: "TAGS" },
];
/// Longest instruction that is shown whole.
const CREATED_BY: usize = 45;
/// Docker's word for a step that is no image by itself.
const MISSING: &str = "<missing>";

/// Shows how an image came to be.
pub async fn run(engine: Engine, args: HistoryArgs) -> Result<u8, Error> {
    usage::check_target(&args.image)?;
    let request = HistoryRequest { image: args.image.clone() };
    let steps = engine.images().await?.history(request).await.map_err(RemoteError::from)?.into_inner().steps;
    let now = SystemTime::now();
    let rows: Vec<Document> = steps.iter().map(|step| row(step, now, &args)).collect();
    if args.quiet && args.format.is_none() {
        let ids = steps.iter().map(|step| format!("{}\n", id(step, args.no_trunc)));
        output::print(&ids.collect::<String>())?;
        return Ok(exit::SUCCESS);
    }
    let created = if args.human { "CreatedSince" } else { "CreatedAt" };
    let shown = vec!["ID", created, "CreatedBy", "Size", "Comment"];
    let format = Format::of(args.format.as_deref());
    output::print(&Listing { columns: COLUMNS, shown, rows }.render(&format)?)?;
    Ok(exit::SUCCESS)
}

fn id(step: &HistoryStep, no_trunc: bool) -> &str {
    match step.image_id.as_str() {
        "" => MISSING,
        id if no_trunc => id,
        id => output::short_id(id),
    }
}

fn row(step: &HistoryStep, now: SystemTime, args: &HistoryArgs) -> Document {
    let by = step.created_by.replace('\t', " ");
    let by = if args.no_trunc { by } else { output::ellipsis(&by, CREATED_BY) };
    let size = if args.human { human::size(step.size) } else { step.size.to_string() };
    let tags: Vec<&str> = step.references.iter().map(|name| reference::familiar(name)).collect();
    map([
        ("Comment", step.comment.as_str().into()),
        ("CreatedAt", time::local_exact(step.created_at.as_ref()).into()),
        ("CreatedBy", by.into()),
        ("CreatedSince", time::ago(step.created_at.as_ref(), now).into()),
        ("ID", id(step, args.no_trunc).into()),
        ("Size", size.into()),
        ("Tags", tags.join(",").into()),
    ])
}
