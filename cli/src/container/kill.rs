//! `davit kill`.

use davit_proto::container::KillRequest;
use davit_proto::status::RemoteError;

use crate::args::container::KillArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{many, usage};

/// Sends a signal to containers.
pub async fn run(engine: Engine, args: KillArgs) -> Result<u8, Error> {
    let (engine, signal) = (&engine, args.signal);
    many::together(args.target.containers, |name: String| {
        let request =
            KillRequest { container: name.clone(), signal: signal.clone(), ..KillRequest::default() };
        async move {
            usage::check_target(&name)?;
            engine.containers().await?.kill(request).await.map_err(RemoteError::from)?;
            Ok(name)
        }
    })
    .await
}
