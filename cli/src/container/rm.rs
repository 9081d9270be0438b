//! `davit rm`.

use davit_proto::container::RemoveRequest;
use davit_proto::reason;
use davit_proto::status::RemoteError;

use crate::args::container::RemoveArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{many, output, usage};

/// Removes containers.
pub async fn run(engine: Engine, args: RemoveArgs) -> Result<u8, Error> {
    if args.link {
        return Err(Error::Usage(
            "--link is not served by this version: a link goes with the container that has it".into(),
        ));
    }
    let (engine, force, volumes) = (&engine, args.force, args.volumes);
    many::together(args.target.containers, async move |name| {
        usage::check_target(&name)?;
        let request = RemoveRequest { container: name.clone(), force, volumes };
        match engine.containers().await?.remove(request).await.map_err(RemoteError::from) {
            Ok(_) => Ok(name),
            // With force the wish is fulfilled when there is nothing left.
            Err(error) if force && error.is(reason::CONTAINER_NOT_FOUND) => {
                output::error(&error);
                Ok(String::new())
            }
            Err(error) => Err(error.into()),
        }
    })
    .await
}
