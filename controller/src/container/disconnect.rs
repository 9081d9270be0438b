//! Takes a container from a network: at once when it has a namespace, and for each start after it. The order is that of
//! [`super::connect`].

use std::sync::Arc;

use davit_proto::container::{ContainerSpec, DisconnectRequest, EndpointSpec};
use davit_proto::id::ContainerId;
use davit_proto::status::{Classify as _, ErrorKind, chain};
use davit_proto::task::NetworkNamespace;

use super::connect::{change, show};
use super::{converge, network};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::store::Change;

/// Leaves a network. A caller who goes away does not stop it midway.
///
/// # Errors
/// When the container is not on it, or has no networks of its own; then it is as it was.
pub async fn disconnect(
    engine: &Arc<Engine>,
    id: &ContainerId,
    request: DisconnectRequest,
    actor: &Actor,
) -> Result<(), Error> {
    let (engine, id, actor) = (engine.clone(), id.clone(), actor.clone());
    let left = tokio::spawn(async move {
        let _turn = engine.turn(&id).await;
        engine.heard_from(&id).await;
        let (endpoints, network) = admit(&engine, &id, &request).await?;
        let netns = network::namespace(&engine, &id).await?;
        let before = engine.container(&id)?.spec.unwrap_or_default();
        change(&engine, &id, netns.is_some(), |spec| network::set(spec, endpoints))?;
        let left = async {
            pass(failpoint::DISCONNECT_INTENT).await?;
            leave(&engine, &id, netns, &network).await
        };
        match left.await {
            Ok(()) => {
                settle(&engine, &id, &network, &actor).await.inspect_err(|_| converge::again(&engine, &id))
            }
            Err(error) => Err(undo(&engine, &id, netns, before, error).await),
        }
    });
    left.await.map_err(|error| Error::Task { doing: "leave the network", why: error.to_string() })?
}

/// The networks that stay, and the name of the one that goes.
async fn admit(
    engine: &Engine,
    id: &ContainerId,
    request: &DisconnectRequest,
) -> Result<(Vec<EndpointSpec>, String), Error> {
    let container = engine.container(id)?;
    network::admit(id, &container, "disconnect", request.if_revision)?;
    let spec = container.spec.unwrap_or_default();
    let known = spec.networks.iter().any(|known| known.network == request.network);
    let found = match network::find(engine, &request.network).await {
        // What was its network's name may be the beginning of another one's id since that network is gone.
        Ok(found) if !known || found.name == request.network => found,
        Err(error) if !known || error.kind() != ErrorKind::NotFound => return Err(error),
        // A container that does not run may be on a network that is gone.
        _ => {
            let (name, driver) = (request.network.clone(), "bridge".to_owned());
            davit_proto::network::Network { name, driver, ..Default::default() }
        }
    };
    let alone = spec.networks.first().is_some_and(|first| first.network == "none");
    let mut endpoints = match found.driver.as_str() {
        "null" if alone => return Ok((Vec::new(), found.name)),
        "null" => Vec::new(),
        _ => network::own(&spec, &found)?,
    };
    let count = endpoints.len();
    endpoints.retain(|known| known.network != found.name);
    if endpoints.len() == count {
        return Err(Error::NotConnected { container: id.clone(), network: found.name });
    }
    Ok((endpoints, found.name))
}

async fn leave(
    engine: &Arc<Engine>,
    id: &ContainerId,
    netns: Option<NetworkNamespace>,
    network: &str,
) -> Result<(), Error> {
    if let Some(netns) = netns.filter(|_| network != "none") {
        network::detach(engine, id, netns, network).await?;
    }
    pass(failpoint::DISCONNECT_DETACHED).await
}

/// Records what is, and shows it to the container's programs.
///
/// # Errors
/// When a file cannot be written.
pub async fn settle(
    engine: &Arc<Engine>,
    id: &ContainerId,
    network: &str,
    actor: &Actor,
) -> Result<(), Error> {
    engine.store.update(id, |record| {
        let container = record.container.as_mut()?;
        let status = container.status.get_or_insert_default();
        let (gone, stays) =
            std::mem::take(&mut status.networks).into_iter().partition(|known| known.network == network);
        status.networks = stays;
        let gone: Vec<_> = gone;
        let events = network::events("disconnect", &container.id, &gone).collect();
        let change = Change { events, ..Change::default() };
        Some(change.explained(format!("left the network {network}"), actor.text()))
    });
    pass(failpoint::DISCONNECT_RECORDED).await?;
    show(engine, id).await
}

/// Puts back what was, the place on the network included. The error that matters is the first one.
async fn undo(
    engine: &Arc<Engine>,
    id: &ContainerId,
    netns: Option<NetworkNamespace>,
    before: ContainerSpec,
    error: Error,
) -> Error {
    let put_back = change(engine, id, netns.is_some(), |spec| {
        spec.networks = before.networks;
        spec.unconnected = before.unconnected;
    });
    let back = match put_back {
        Ok(()) => converge::networks(engine, id).await,
        Err(error) => Err(error),
    };
    if let Err(left) = back {
        tracing::error!(container_id = %id, error = %chain(&left), "a failed disconnect left something");
        converge::again(engine, id);
    }
    error
}
