//! `davit container prune`.

use davit_proto::container::PruneRequest;
use davit_proto::status::RemoteError;

use crate::args::container::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{confirm, exit, filter, human, output};

/// Removes all containers that do not run.
pub async fn run(engine: Engine, args: PruneArgs) -> Result<u8, Error> {
    let filters = filter::parse(&args.filter)?;
    if !args.force && !confirm::ask("This will remove all stopped containers.")? {
        return Ok(exit::SUCCESS);
    }
    let request = PruneRequest { filters };
    let answer = engine.containers().await?.prune(request).await.map_err(RemoteError::from)?.into_inner();
    let mut text = String::new();
    if !answer.container_ids.is_empty() {
        text.push_str("Deleted Containers:\n");
        text.extend(answer.container_ids.iter().map(|id| format!("{}\n", output::visible(id))));
        text.push('\n');
    }
    text.push_str(&format!("Total reclaimed space: {}\n", human::size(answer.reclaimed_bytes)));
    output::print(&text)?;
    Ok(exit::SUCCESS)
}
