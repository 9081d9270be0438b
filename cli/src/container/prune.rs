//! `davit container prune`.

use crate::args::container::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{confirm, exit, filter, output, prune};

/// Removes all containers that do not run.
pub async fn run(engine: Engine, args: PruneArgs) -> Result<u8, Error> {
    let filters = filter::parse(&args.filter)?;
    if !args.force && !confirm::ask("This will remove all stopped containers.")? {
        return Ok(exit::SUCCESS);
    }
    let pruned = prune::containers(&engine, filters).await?;
    output::print(&(pruned.text + &prune::total(pruned.bytes)))?;
    Ok(exit::SUCCESS)
}
