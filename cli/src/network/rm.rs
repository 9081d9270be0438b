//! `davit network rm`.

use davit_proto::network::RemoveRequest;
use davit_proto::reason;
use davit_proto::status::RemoteError;

use crate::args::network::RemoveArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{many, output, usage};

/// Removes networks.
pub async fn run(engine: Engine, args: RemoveArgs) -> Result<u8, Error> {
    let (engine, force) = (&engine, args.force);
    many::in_turn(args.networks, async move |name| {
        usage::check_target(&name)?;
        let request = RemoveRequest { network: name.clone() };
        match engine.networks().await?.remove(request).await.map_err(RemoteError::from) {
            Ok(_) => Ok(name),
            Err(error) if force && error.is(reason::NETWORK_NOT_FOUND) => {
                output::error(&error);
                Ok(String::new())
            }
            Err(error) => Err(error.into()),
        }
    })
    .await
}
