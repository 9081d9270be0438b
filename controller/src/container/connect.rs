//! Joins a container to a network: at once when it has a namespace, and at each start after it.
//!
//! What is wanted is recorded first, then the service joins, then the hosts file and the record say so. Cut off in
//! between, the next engine goes on from what is wanted: [`converge`]. A step that fails puts back what was.

use std::sync::Arc;

use davit_proto::container::{ConnectRequest, ContainerSpec, EndpointSpec, NetworkStatus};
use davit_proto::id::ContainerId;
use davit_proto::status::chain;
use davit_proto::task::NetworkNamespace;

use super::bundle::Bundle;
use super::{converge, create, hosts, links, live, network, validate};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::store::Change;

/// The address at which every container on a network has its resolver.
const RESOLVER: &str = "127.0.0.11";
/// Longest resolv.conf that is looked at.
const RESOLV_CONF: usize = 1 << 20;

/// Joins a network; answers with what a person should know. A caller who goes away does not stop it midway.
///
/// # Errors
/// When there is no such network, the container cannot be on it, or an address is not to be had; then it is as it was.
pub async fn connect(
    engine: &Arc<Engine>,
    id: &ContainerId,
    request: ConnectRequest,
    actor: &Actor,
) -> Result<Vec<String>, Error> {
    let (engine, id, actor) = (engine.clone(), id.clone(), actor.clone());
    let joined = tokio::spawn(async move {
        let _turn = engine.turn(&id).await;
        engine.heard_from(&id).await;
        let intent = admit(&engine, &id, request).await?;
        let netns = network::namespace(&engine, &id).await?;
        let before = engine.container(&id)?.spec.unwrap_or_default();
        enter(&engine, &id, netns.is_some(), &intent)?;
        let joined = async {
            pass(failpoint::CONNECT_INTENT).await?;
            join(&engine, &id, netns, &intent.endpoint).await
        };
        match joined.await {
            Ok((place, warnings)) => match settle(&engine, &id, place, &actor).await {
                Ok(()) => Ok(warnings),
                Err(error) => {
                    converge::again(&engine, &id);
                    Err(error)
                }
            },
            Err(error) => Err(undo(&engine, &id, netns, before, &intent.endpoint.network, error).await),
        }
    });
    joined.await.map_err(|error| Error::Task { doing: "join the network", why: error.to_string() })?
}

/// What a container is to have from now on.
struct Intent {
    endpoint: EndpointSpec,
    endpoints: Vec<EndpointSpec>,
    links: Vec<String>,
}

async fn admit(engine: &Engine, id: &ContainerId, request: ConnectRequest) -> Result<Intent, Error> {
    let container = engine.container(id)?;
    network::admit(id, &container, "connect", request.if_revision)?;
    let mut endpoint = request.endpoint.unwrap_or_default();
    validate::endpoint(&endpoint)?;
    let found = network::find(engine, &endpoint.network).await?;
    let spec = container.spec.clone().unwrap_or_default();
    let mut endpoints = network::own(&spec, &found)?;
    if endpoints.iter().any(|known| known.network == found.name) {
        return Err(Error::Connected { container: container.name, network: found.name });
    }
    endpoint.network = found.name;
    endpoints.push(endpoint.clone());
    let mut wish = ContainerSpec { networks: endpoints, links: request.links, ..ContainerSpec::default() };
    validate::joins(&wish)?;
    links::name_by_id(engine, &mut wish)?;
    links::check_circle(engine, &container, &wish.links)?;
    let known = spec.links;
    wish.links.retain(|link| !known.contains(link));
    let links = known.into_iter().chain(wish.links).collect();
    Ok(Intent { endpoint, endpoints: wish.networks, links })
}

/// Records what is wanted.
fn enter(engine: &Engine, id: &ContainerId, wired: bool, intent: &Intent) -> Result<(), Error> {
    change(engine, id, wired, |spec| {
        network::set(spec, intent.endpoints.clone());
        spec.links.clone_from(&intent.links);
    })
}

/// Changes what is wanted of a container, in store and bundle. `wired` marks it for recovery until what is follows.
///
/// # Errors
/// When the bundle cannot be written.
pub fn change(
    engine: &Engine,
    id: &ContainerId,
    wired: bool,
    edit: impl FnOnce(&mut ContainerSpec),
) -> Result<(), Error> {
    let record = engine.store.update(id, |record| {
        edit(record.container.as_mut()?.spec.get_or_insert_default());
        record.rewiring = wired;
        Change::silent()
    });
    let Some(record) = record else { return Ok(()) };
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.write_spec(&record).map_err(Error::io(format!("write {}", bundle.file("spec.json").display())))
}

/// Lets the service join, where there is a namespace to be joined.
///
/// # Errors
/// In the service's words.
pub async fn join(
    engine: &Arc<Engine>,
    id: &ContainerId,
    netns: Option<NetworkNamespace>,
    endpoint: &EndpointSpec,
) -> Result<(NetworkStatus, Vec<String>), Error> {
    let Some(netns) = netns else {
        let place = NetworkStatus {
            network: endpoint.network.clone(),
            aliases: endpoint.aliases.clone(),
            ..NetworkStatus::default()
        };
        return Ok((place, Vec::new()));
    };
    let container = engine.container(id)?;
    let names = links::names(container.spec.as_ref());
    let (place, mut warnings) = network::attach(engine, &container, netns, endpoint, names).await?;
    pass(failpoint::CONNECT_ATTACHED).await?;
    let resolv_conf = Bundle::new(engine.config.bundle(id)).read_shown("resolv.conf", RESOLV_CONF);
    if resolv_conf.is_ok_and(|text| !text.contains(RESOLVER)) {
        warnings
            .push("it has no resolver of its own: names of the network resolve after its next start".into());
    }
    Ok((place, warnings))
}

/// Records what is, and shows it to the container's programs.
///
/// # Errors
/// When a file cannot be written.
pub async fn settle(
    engine: &Arc<Engine>,
    id: &ContainerId,
    place: NetworkStatus,
    actor: &Actor,
) -> Result<(), Error> {
    engine.store.update(id, |record| {
        let container = record.container.as_mut()?;
        let status = container.status.get_or_insert_default();
        status.networks.retain(|known| known.network != place.network);
        status.networks.push(place.clone());
        // Its end came in meanwhile, and took the address along.
        if status.netns_path.is_empty() {
            live::unwire(&container.id, status);
            let (change, cause) = (format!("is to join the network {}", place.network), actor.text());
            return Some(Change::default().explained(change, cause));
        }
        let events = network::events("connect", &container.id, std::slice::from_ref(&place)).collect();
        let change = Change { events, ..Change::default() };
        Some(change.explained(format!("joined the network {}", place.network), actor.text()))
    });
    pass(failpoint::CONNECT_RECORDED).await?;
    show(engine, id).await
}

/// Shows a container's networks to its programs, and makes durable that they are what is wanted.
///
/// # Errors
/// When the service fails, or the disk refuses.
pub async fn show(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    network::lead_ports(engine, id).await?;
    hosts::follow_networks(engine, id)?;
    // Only now: whoever is cut off before goes on from what is wanted.
    let record = engine
        .store
        .update(id, |record| if std::mem::take(&mut record.rewiring) { Change::silent() } else { None });
    let Some(record) = record else { return Ok(()) };
    // Were it only in the bundle, the next start would take it from there without a word.
    engine.store.written(record.container.as_ref().map_or(0, |container| container.revision)).await;
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.write_spec(&record).map_err(Error::io(format!("write {}", bundle.file("spec.json").display())))?;
    create::keep(engine, id).await
}

/// Puts back what was. The error that matters is the first one.
async fn undo(
    engine: &Arc<Engine>,
    id: &ContainerId,
    netns: Option<NetworkNamespace>,
    before: ContainerSpec,
    network: &str,
    error: Error,
) -> Error {
    let left = match netns {
        Some(netns) => network::detach(engine, id, netns, network).await,
        None => Ok(()),
    };
    // What could not be left is left when the engine comes back to it.
    let marked = left.is_err();
    let put_back = change(engine, id, marked, |spec| {
        spec.networks = before.networks;
        spec.unconnected = before.unconnected;
        spec.links = before.links;
    });
    if let Err(left) = left.and(put_back) {
        tracing::error!(container_id = %id, error = %chain(&left), "a failed connect left something");
        converge::again(engine, id);
    }
    error
}
