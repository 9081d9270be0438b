//! `davit network prune`.

use crate::args::network::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{confirm, exit, filter, output, prune};

/// Removes networks that nobody uses.
pub async fn run(engine: Engine, args: PruneArgs) -> Result<u8, Error> {
    let filters = filter::parse(&args.filter)?;
    let warning = "This will remove all custom networks not used by at least one container.";
    if !args.force && !confirm::ask(warning)? {
        return Ok(exit::SUCCESS);
    }
    output::print(&prune::networks(&engine, filters).await?.text)?;
    Ok(exit::SUCCESS)
}
