//! `davit volume prune`.

use crate::args::volume::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{confirm, exit, filter, output, prune};

/// Removes volumes that nobody uses.
pub async fn run(engine: Engine, args: PruneArgs) -> Result<u8, Error> {
    let filters = filter::parse(&args.filter)?;
    let warning = if args.all {
        "This will remove all local volumes not used by at least one container."
    } else {
        "This will remove anonymous local volumes not used by at least one container."
    };
    if !args.force && !confirm::ask(warning)? {
        return Ok(exit::SUCCESS);
    }
    let pruned = prune::volumes(&engine, filters, args.all).await?;
    output::print(&(pruned.text + &prune::total(pruned.bytes)))?;
    Ok(exit::SUCCESS)
}
