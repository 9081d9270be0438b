//! `davit volume create`.

use davit_proto::status::RemoteError;
use davit_proto::volume::CreateRequest;

use crate::args::volume::{CreateArgs, MadeArgs};
use crate::client::Engine;
use crate::error::Error;
use crate::spec::env;
use crate::{exit, output, usage};

/// Makes a volume.
pub async fn run(engine: Engine, args: CreateArgs) -> Result<u8, Error> {
    let name = args.volume.or(args.name).unwrap_or_default();
    let request = request(name, MadeArgs { driver: args.driver, label: args.label, opt: args.opt })?;
    let answer = engine.volumes().await?.create(request).await.map_err(RemoteError::from)?.into_inner();
    output::line(&answer.volume.unwrap_or_default().name)?;
    Ok(exit::SUCCESS)
}

/// What is to be made.
pub fn request(name: String, made: MadeArgs) -> Result<CreateRequest, Error> {
    usage::check_target(&name)?;
    Ok(CreateRequest {
        name,
        driver: made.driver,
        labels: env::labels(&[], &made.label)?,
        options: env::strict_pairs("--opt", &made.opt)?,
    })
}
