//! `davit update`: limits, restart policy, published ports, mounts.

use davit_proto::container::{PortSpec, Resources, UpdateRequest};
use davit_proto::status::RemoteError;

use crate::args::container::UpdateArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::spec::{self, Invalid, limit, mount, port};
use crate::{many, output, usage};

/// Changes limits, policy and published ports of containers.
pub async fn run(engine: Engine, args: UpdateArgs) -> Result<u8, Error> {
    let resources = limit::resources(&args.resources)?;
    let restart = args.restart.as_deref().map(spec::restart).transpose()?;
    let publish_add = ports(&args.publish_add, port::publish)?;
    let publish_remove = ports(&args.publish_rm, port::unpublish)?;
    let ports = !(publish_add.is_empty() && publish_remove.is_empty());
    let mount_add = args.mount_add.iter().map(|text| mount::either(text)).collect::<Result<Vec<_>, _>>()?;
    let mounts = !(mount_add.is_empty() && args.mount_rm.is_empty());
    if restart.is_none() && resources == Resources::default() && !ports && !mounts {
        let what =
            "say what to change: a limit, --restart, --publish-add, --publish-rm, --mount-add or --mount-rm";
        return Err(Error::Usage(what.into()));
    }
    let engine = &engine;
    many::in_turn(args.target.containers, |name: String| {
        let request = UpdateRequest {
            container: name.clone(),
            resources: Some(resources.clone()),
            restart,
            publish_add: publish_add.clone(),
            publish_remove: publish_remove.clone(),
            mount_add: mount_add.clone(),
            mount_remove: args.mount_rm.clone(),
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

fn ports(
    texts: &[String],
    read: impl Fn(&str) -> Result<Vec<PortSpec>, Invalid>,
) -> Result<Vec<PortSpec>, Invalid> {
    let ports = texts.iter().map(|text| read(text)).collect::<Result<Vec<_>, _>>()?;
    Ok(ports.into_iter().flatten().collect())
}
