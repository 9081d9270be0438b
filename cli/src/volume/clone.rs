//! `davit volume clone`.

use davit_proto::status::RemoteError;
use davit_proto::volume::CloneVolumeRequest;

use super::create;
use crate::args::volume::CloneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, output, usage};

/// Makes a volume with the files of another one.
pub async fn run(engine: Engine, args: CloneArgs) -> Result<u8, Error> {
    usage::check_target(&args.source)?;
    usage::check_target(&args.volume)?;
    let create = Some(create::request(args.volume, args.made)?);
    let request = CloneVolumeRequest { source: args.source, create };
    let answer = engine.volumes().await?.clone_volume(request).await.map_err(RemoteError::from)?.into_inner();
    output::line(&answer.volume.unwrap_or_default().name)?;
    Ok(exit::SUCCESS)
}
