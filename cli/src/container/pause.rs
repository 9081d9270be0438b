//! `davit pause` and `davit unpause`.

use davit_proto::container::{PauseRequest, ResumeRequest};
use davit_proto::status::RemoteError;

use crate::args::container::TargetArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{many, usage};

/// Freezes containers.
pub async fn run(engine: Engine, args: TargetArgs) -> Result<u8, Error> {
    let engine = &engine;
    many::together(args.containers, async move |name| {
        usage::check_target(&name)?;
        let request = PauseRequest { container: name.clone() };
        engine.containers().await?.pause(request).await.map_err(RemoteError::from)?;
        Ok(name)
    })
    .await
}

/// Thaws containers.
pub async fn resume(engine: Engine, args: TargetArgs) -> Result<u8, Error> {
    let engine = &engine;
    many::together(args.containers, async move |name| {
        usage::check_target(&name)?;
        let request = ResumeRequest { container: name.clone() };
        engine.containers().await?.resume(request).await.map_err(RemoteError::from)?;
        Ok(name)
    })
    .await
}
