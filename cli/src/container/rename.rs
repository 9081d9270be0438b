//! `davit rename`.

use davit_proto::container::RenameRequest;
use davit_proto::status::RemoteError;

use crate::args::container::RenameArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, usage};

/// Gives a container another name.
pub async fn run(engine: Engine, args: RenameArgs) -> Result<u8, Error> {
    usage::check_target(&args.container)?;
    usage::check_target(&args.name)?;
    let request = RenameRequest { container: args.container, name: args.name };
    engine.containers().await?.rename(request).await.map_err(RemoteError::from)?;
    Ok(exit::SUCCESS)
}
