//! `davit network prune`.

use davit_proto::network::PruneRequest;
use davit_proto::status::RemoteError;

use crate::args::network::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{confirm, exit, filter, output};

/// Removes networks that nobody uses.
pub async fn run(engine: Engine, args: PruneArgs) -> Result<u8, Error> {
    let filters = filter::parse(&args.filter)?;
    let warning = "This will remove all custom networks not used by at least one container.";
    if !args.force && !confirm::ask(warning)? {
        return Ok(exit::SUCCESS);
    }
    let answer = engine
        .networks()
        .await?
        .prune(PruneRequest { filters })
        .await
        .map_err(RemoteError::from)?
        .into_inner();
    let mut text = String::new();
    if !answer.names.is_empty() {
        text.push_str("Deleted Networks:\n");
        text.extend(answer.names.iter().map(|name| format!("{}\n", output::visible(name))));
    }
    output::print(&text)?;
    Ok(exit::SUCCESS)
}
