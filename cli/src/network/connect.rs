//! `davit network connect`.

use davit_proto::container::{ConnectRequest, EndpointSpec};
use davit_proto::status::RemoteError;

use crate::args::network::ConnectArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, output, usage};

/// Joins a container to a network.
pub async fn run(engine: Engine, args: ConnectArgs) -> Result<u8, Error> {
    usage::check_target(&args.network)?;
    usage::check_target(&args.container)?;
    let endpoint = EndpointSpec {
        network: args.network,
        ipv4: args.ip.unwrap_or_default(),
        ipv6: args.ip6.unwrap_or_default(),
        mac: args.mac_address.unwrap_or_default(),
        aliases: args.alias,
    };
    let request = ConnectRequest {
        container: args.container,
        endpoint: Some(endpoint),
        links: args.link,
        ..ConnectRequest::default()
    };
    let answer = engine.containers().await?.connect(request).await.map_err(RemoteError::from)?;
    for warning in answer.into_inner().warnings {
        output::complain(&format!("WARNING: {warning}"));
    }
    Ok(exit::SUCCESS)
}
