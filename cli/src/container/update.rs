//! `davit update`.

use davit_proto::container::{Resources, UpdateRequest};
use davit_proto::status::RemoteError;

use crate::args::container::UpdateArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::spec::{self, limit};
use crate::{many, output, usage};

/// Changes limits and policy of containers.
pub async fn run(engine: Engine, args: UpdateArgs) -> Result<u8, Error> {
    let resources = limit::resources(&args.resources)?;
    let restart = args.restart.as_deref().map(spec::restart).transpose()?;
    if restart.is_none() && resources == Resources::default() {
        return Err(Error::Usage("say what to change: a limit or --restart".into()));
    }
    let engine = &engine;
    many::in_turn(args.target.containers, |name: String| {
        let request = UpdateRequest {
            container: name.clone(),
            resources: Some(resources.clone()),
            restart,
            ..UpdateRequest::default()
        };
        async move {
            usage::check_target(&name)?;
            let answer = engine.containers().await?.update(request).await.map_err(RemoteError::from)?;
            for warning in answer.into_inner().warnings {
                output::complain(&format!("WARNING: {warning}"));
            }
            Ok(name)
        }
    })
    .await
}
