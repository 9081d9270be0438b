//! `davit volume rm`.

use davit_proto::status::RemoteError;
use davit_proto::volume::RemoveRequest;

use crate::args::volume::RemoveArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{many, usage};

/// Removes volumes.
pub async fn run(engine: Engine, args: RemoveArgs) -> Result<u8, Error> {
    let (engine, force) = (&engine, args.force);
    many::in_turn(args.volumes, async move |name| {
        usage::check_target(&name)?;
        let request = RemoveRequest { name: name.clone(), force };
        engine.volumes().await?.remove(request).await.map_err(RemoteError::from)?;
        Ok(name)
    })
    .await
}
