//! `davit image prune`.

use davit_proto::image::PruneRequest;
use davit_proto::status::RemoteError;

use super::rm;
use crate::args::image::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{confirm, exit, filter, human, output};

/// Removes images that nothing uses.
pub async fn run(engine: Engine, args: PruneArgs) -> Result<u8, Error> {
    let filters = filter::parse(&args.filter)?;
    let warning = if args.all {
        "This will remove all images without at least one container associated to them."
    } else {
        "This will remove all dangling images."
    };
    if !args.force && !confirm::ask(warning)? {
        return Ok(exit::SUCCESS);
    }
    let request = PruneRequest { all: args.all, filters };
    let answer = engine.images().await?.prune(request).await.map_err(RemoteError::from)?.into_inner();
    let mut text = String::new();
    if !answer.removed.is_empty() {
        text.push_str("Deleted Images:\n");
        text.push_str(&rm::lines(&answer.removed));
        text.push('\n');
    }
    text.push_str(&format!("Total reclaimed space: {}\n", human::size(answer.reclaimed_bytes)));
    output::print(&text)?;
    Ok(exit::SUCCESS)
}
