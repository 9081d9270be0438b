//! `davit builder prune`.

use davit_proto::build::PruneRequest;
use davit_proto::status::RemoteError;

use crate::args::build::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{confirm, exit, human, output};

/// Removes what builds keep.
pub async fn run(engine: Engine, args: PruneArgs) -> Result<u8, Error> {
    let warning = "This will remove all that builds keep for the next one.";
    if !args.force && !confirm::ask(warning)? {
        return Ok(exit::SUCCESS);
    }
    let pruned = engine.builds().await?.prune(PruneRequest {}).await.map_err(RemoteError::from)?.into_inner();
    output::line(&format!("Steps forgotten: {}", pruned.steps))?;
    output::line(&format!("Total reclaimed space: {}", human::size(pruned.reclaimed_bytes)))?;
    Ok(exit::SUCCESS)
}
