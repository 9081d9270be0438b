//! `davit volume create`.

use davit_proto::status::RemoteError;
use davit_proto::volume::CreateRequest;

use crate::args::volume::CreateArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::spec::env;
use crate::{exit, output, usage};

/// Makes a volume.
pub async fn run(engine: Engine, args: CreateArgs) -> Result<u8, Error> {
    let name = args.volume.or(args.name).unwrap_or_default();
    usage::check_target(&name)?;
    let request = CreateRequest {
        name,
        driver: args.driver,
        labels: env::labels(&[], &args.label)?,
        options: env::strict_pairs("--opt", &args.opt)?,
    };
    let answer = engine.volumes().await?.create(request).await.map_err(RemoteError::from)?.into_inner();
    output::line(&answer.volume.unwrap_or_default().name)?;
    Ok(exit::SUCCESS)
}
