//! `davit network create`.

use davit_proto::network::CreateRequest;
use davit_proto::status::RemoteError;

use super::range;
use crate::args::network::CreateArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::spec::env;
use crate::{exit, output, usage};

/// Makes a network.
pub async fn run(engine: Engine, args: CreateArgs) -> Result<u8, Error> {
    usage::check_target(&args.network)?;
    let request = CreateRequest {
        subnets: range::subnets(&args)?,
        name: args.network,
        driver: args.driver,
        internal: args.internal,
        ipv6: args.ipv6,
        labels: env::labels(&[], &args.label)?,
        options: env::strict_pairs("--opt", &args.opt)?,
    };
    let answer = engine.networks().await?.create(request).await.map_err(RemoteError::from)?.into_inner();
    output::line(&answer.network.unwrap_or_default().id)?;
    Ok(exit::SUCCESS)
}
