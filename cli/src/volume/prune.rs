//! `davit volume prune`.

use davit_proto::status::RemoteError;
use davit_proto::volume::PruneRequest;

use crate::args::volume::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{confirm, exit, filter, human, output};

/// Removes volumes that nobody uses.
pub async fn run(engine: Engine, args: PruneArgs) -> Result<u8, Error> {
    let filters = filter::parse(&args.filter)?;
    let warning = if args.all {
        "This will remove all volumes not used by at least one container, those with a name too."
    } else {
        "This will remove anonymous volumes not used by at least one container."
    };
    if !args.force && !confirm::ask(warning)? {
        return Ok(exit::SUCCESS);
    }
    let request = PruneRequest { all: args.all, filters };
    let answer = engine.volumes().await?.prune(request).await.map_err(RemoteError::from)?.into_inner();
    let mut text = String::new();
    if !answer.names.is_empty() {
        text.push_str("Deleted Volumes:\n");
        text.extend(answer.names.iter().map(|name| format!("{}\n", output::visible(name))));
        text.push('\n');
    }
    text.push_str(&format!("Total reclaimed space: {}\n", human::size(answer.reclaimed_bytes)));
    output::print(&text)?;
    Ok(exit::SUCCESS)
}
