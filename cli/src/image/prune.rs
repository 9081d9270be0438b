//! `davit image prune`.

use crate::args::image::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{confirm, exit, filter, output, prune};

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
    let pruned = prune::images(&engine, filters, args.all).await?;
    output::print(&(pruned.text + &prune::total(pruned.bytes)))?;
    Ok(exit::SUCCESS)
}
