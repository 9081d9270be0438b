//! `davit stop`.

use davit_proto::container::StopRequest;
use davit_proto::status::RemoteError;
use prost_types::Duration;

use crate::args::container::StopArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{many, patience, usage};

/// Asks containers to end, and has those killed that do not.
pub async fn run(engine: Engine, args: StopArgs) -> Result<u8, Error> {
    let (engine, signal) = (&engine, args.signal.unwrap_or_default());
    let (timeout, no_timeout) = timeout(args.timeout);
    many::together(args.target.containers, |name: String| {
        let request = StopRequest {
            container: name.clone(),
            timeout,
            signal: signal.clone(),
            no_timeout,
            ..StopRequest::default()
        };
        async move {
            usage::check_target(&name)?;
            let containers = engine.containers().await?;
            // Asked twice it is still stopped once.
            patience::ask(async || containers.clone().stop(request.clone()).await.map_err(RemoteError::from))
                .await?;
            Ok(name)
        }
    })
    .await
}

/// Seconds as the wire says them; a negative number waits for ever.
pub fn timeout(seconds: Option<i64>) -> (Option<Duration>, bool) {
    match seconds {
        None => (None, false),
        Some(seconds) if seconds < 0 => (None, true),
        Some(seconds) => (Some(Duration { seconds, nanos: 0 }), false),
    }
}
