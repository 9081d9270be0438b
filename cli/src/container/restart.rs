//! `davit restart`.

use davit_proto::container::RestartRequest;
use davit_proto::status::RemoteError;

use super::stop::timeout;
use crate::args::container::StopArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{many, usage};

/// Stops containers and starts them again.
pub async fn run(engine: Engine, args: StopArgs) -> Result<u8, Error> {
    let (engine, signal) = (&engine, args.signal.unwrap_or_default());
    let (timeout, forever) = timeout(args.timeout);
    if forever {
        return Err(Error::Usage("a restart cannot wait for ever: give a number of seconds".into()));
    }
    many::in_turn(args.target.containers, |name: String| {
        let request = RestartRequest { container: name.clone(), timeout, signal: signal.clone() };
        async move {
            usage::check_target(&name)?;
            engine.containers().await?.restart(request).await.map_err(RemoteError::from)?;
            Ok(name)
        }
    })
    .await
}
