//! `davit builder prune`.

use davit_proto::build::{PruneRequest, PruneResponse};
use davit_proto::status::RemoteError;
use davit_proto::types::Filter;

use super::usage;
use crate::args::build::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::spec::Invalid;
use crate::{confirm, exit, human, output};

/// Removes what builds keep.
pub async fn run(engine: Engine, args: PruneArgs) -> Result<u8, Error> {
    let filters = usage::filters(&args.filter)?;
    let space = |flag: &str, text: &Option<String>| {
        let Some(text) = text else { return Ok(0) };
        let rule = "must be bytes such as 20g or 500m";
        human::parse_size(text).ok_or_else(|| Invalid::new(flag, text, rule))
    };
    let reserved = space("--reserved-space", &args.reserved_space)?;
    let most = space("--max-used-space", &args.max_used_space)?;
    if !args.force && !confirm::ask(warning(args.all))? {
        return Ok(exit::SUCCESS);
    }
    let pruned = ask(&engine, filters, args.all, reserved.max(most)).await?;
    if !pruned.records.is_empty() {
        let text =
            if args.verbose { usage::verbose(&pruned.records) } else { usage::table(&pruned.records)? };
        output::print(&text)?;
    }
    output::print(&format!("Total:\t{}\n", human::size(pruned.reclaimed_bytes)))?;
    Ok(exit::SUCCESS)
}

/// Asks the engine to forget what fits, until no more than some bytes are left.
pub async fn ask(
    engine: &Engine,
    filters: Vec<Filter>,
    all: bool,
    keep_bytes: u64,
) -> Result<PruneResponse, Error> {
    let request = PruneRequest { all, filters, keep_bytes };
    Ok(engine.builds().await?.prune(request).await.map_err(RemoteError::from)?.into_inner())
}

/// docker's words for what goes.
fn warning(all: bool) -> &'static str {
    if all { "This will remove all build cache." } else { "This will remove all dangling build cache." }
}
