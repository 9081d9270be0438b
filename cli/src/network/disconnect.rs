//! `davit network disconnect`.

use davit_proto::container::DisconnectRequest;
use davit_proto::reason;
use davit_proto::status::RemoteError;

use crate::args::network::DisconnectArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, usage};

/// Takes a container from a network.
pub async fn run(engine: Engine, args: DisconnectArgs) -> Result<u8, Error> {
    usage::check_target(&args.network)?;
    usage::check_target(&args.container)?;
    let request = DisconnectRequest {
        container: args.container,
        network: args.network,
        ..DisconnectRequest::default()
    };
    let answer = engine.containers().await?.disconnect(request).await.map_err(RemoteError::from);
    let absent = [reason::NETWORK_NOT_CONNECTED, reason::CONTAINER_NOT_FOUND];
    match answer {
        Err(error) if !(args.force && absent.iter().any(|reason| error.is(reason))) => Err(error.into()),
        _ => Ok(exit::SUCCESS),
    }
}
