//! A change of networks that was cut off goes on from what is wanted: every network that is wanted is joined, every other
//! one left. Both are idempotent, so it does not matter how far the change had come.

use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::{Container, EndpointSpec, NetworkStatus};
use davit_proto::id::ContainerId;
use davit_proto::network::RenameRequest;
use davit_proto::status::{Classify as _, ErrorKind, chain};
use davit_proto::task::NetworkNamespace;

use super::live::status_of;
use super::shape;
use super::{connect, links, network};
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};
use crate::store::Change;

/// Pauses between tries.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Brings a container that lives to what is wanted of it, where an engine was cut off: its networks, its name there. The
/// caller holds its turn.
///
/// # Errors
/// When the network service or the shim cannot be reached.
pub async fn converge(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    if engine.record(id)?.rewiring {
        name(engine, id).await?;
    }
    networks(engine, id).await
}

/// Tries again until it succeeds: a service may be away for a while.
pub fn again(engine: &Arc<Engine>, id: &ContainerId) {
    let (engine, id) = (engine.clone(), id.clone());
    tokio::spawn(async move {
        let mut pause = FIRST_RETRY;
        loop {
            tokio::time::sleep(pause).await;
            let _turn = engine.turn(&id).await;
            if !engine.has_shim(&id) {
                return;
            }
            match converge(&engine, &id).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(container_id = %id, error = %chain(&error), "not wired yet"),
            }
            pause = (pause * 2).min(LAST_RETRY);
        }
    });
}

/// The networks of a container whose change was cut off. A network that is refused now is not wanted any more.
///
/// # Errors
/// When the network service or the shim cannot be reached.
pub async fn networks(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let record = engine.record(id)?;
    if !record.rewiring {
        return Ok(());
    }
    let Some(netns) = network::namespace(engine, id).await? else { return Ok(()) };
    let container = record.container.clone().unwrap_or_default();
    let spec = container.spec.clone().unwrap_or_default();
    let wanted = shape::network(&spec)?.endpoints().to_vec();
    let had = status_of(&container).networks;
    for place in had.iter().filter(|place| !wanted.iter().any(|wanted| network::is_on(place, wanted))) {
        match network::detach(engine, id, netns, &place.network).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other?,
        }
    }
    let (places, refused) = join(engine, &container, netns, &wanted).await?;
    engine.store.update(id, |record| {
        let container = record.container.as_mut()?;
        if !refused.is_empty() {
            let kept = wanted.iter().filter(|wanted| !refused.contains(&wanted.network)).cloned().collect();
            network::set(container.spec.get_or_insert_default(), kept);
        }
        let status = container.status.get_or_insert_default();
        let beside = |these: &[NetworkStatus], those: &[NetworkStatus]| -> Vec<NetworkStatus> {
            let is_new = |one: &&NetworkStatus| !those.iter().any(|other| other.network == one.network);
            these.iter().filter(is_new).cloned().collect()
        };
        let (new, gone) = (beside(&places, &status.networks), beside(&status.networks, &places));
        status.networks.clone_from(&places);
        let events = network::events("disconnect", &container.id, &gone).chain(network::events(
            "connect",
            &container.id,
            &new,
        ));
        Some(Change { events: events.collect(), ..Change::default() })
    });
    connect::show(engine, id).await
}

/// The places on the networks that are to be had, and the names of those that are not.
async fn join(
    engine: &Arc<Engine>,
    container: &Container,
    netns: NetworkNamespace,
    wanted: &[EndpointSpec],
) -> Result<(Vec<NetworkStatus>, Vec<String>), Error> {
    let (mut places, mut refused) = (Vec::new(), Vec::new());
    for endpoint in wanted {
        let names = links::names(container.spec.as_ref());
        match network::attach(engine, container, netns, endpoint, names).await {
            Ok((place, _)) => places.push(place),
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => {
                let (name, why) = (&container.name, chain(&error));
                engine.recovered(format!("container {name} could not join {}: {why}", endpoint.network));
                refused.push(endpoint.network.clone());
            }
        }
    }
    Ok((places, refused))
}

fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::Internal)
}

/// The name by which others find a container.
///
/// # Errors
/// When the network service cannot be reached.
pub async fn name(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    if !engine.has_shim(id) {
        return Ok(());
    }
    let name = engine.container(id)?.name;
    let request = RenameRequest { container_id: id.to_string(), name };
    let answer =
        within(SHORT, "rename the container on its networks", engine.networks().rename(request)).await;
    answer.map(drop)
}
