//! `davit network create`.

use davit_proto::network::{CreateRequest, Subnet};
use davit_proto::status::RemoteError;

use crate::args::network::CreateArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::spec::env;
use crate::{exit, output, usage};

/// Makes a network.
pub async fn run(engine: Engine, args: CreateArgs) -> Result<u8, Error> {
    usage::check_target(&args.network)?;
    let request = CreateRequest {
        subnets: subnets(&args)?,
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

/// The first gateway and the first part belong to the first range, and so on.
fn subnets(args: &CreateArgs) -> Result<Vec<Subnet>, Error> {
    if args.gateway.len() > args.subnet.len() || args.ip_range.len() > args.subnet.len() {
        return Err(Error::Usage("each --gateway and --ip-range wants a --subnet that it belongs to".into()));
    }
    let at = |list: &[String], at: usize| list.get(at).cloned().unwrap_or_default();
    let subnets = args.subnet.iter().enumerate().map(|(n, cidr)| Subnet {
        cidr: cidr.clone(),
        gateway: at(&args.gateway, n),
        ip_range: at(&args.ip_range, n),
    });
    Ok(subnets.collect())
}
