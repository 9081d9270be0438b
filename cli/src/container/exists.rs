//! `davit container exists`.

use super::inspect;
use crate::args::container::ExistsArgs;
use crate::client::Engine;
use crate::error::Error;

/// Tells by the exit code alone.
pub async fn run(engine: Engine, args: ExistsArgs) -> Result<u8, Error> {
    Ok(inspect::find(&engine, &args.container, false).await?.code())
}
