//! `davit tag`.

use davit_proto::image::TagRequest;
use davit_proto::status::RemoteError;

use crate::args::image::TagArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, usage};

/// Gives an image one more name.
pub async fn run(engine: Engine, args: TagArgs) -> Result<u8, Error> {
    usage::check_target(&args.source)?;
    usage::check_target(&args.target)?;
    let request = TagRequest { source: args.source, target: args.target, unnamed: false };
    engine.images().await?.tag(request).await.map_err(RemoteError::from)?;
    Ok(exit::SUCCESS)
}
