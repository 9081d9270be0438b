//! What connect, disconnect and recovery have in common: which networks a container is to be on, and the words of the
//! network service for it.

use std::sync::Arc;

use davit_proto::container::{Container, ContainerSpec, EndpointSpec, NetworkStatus, Phase};
use davit_proto::id::ContainerId;
use davit_proto::network::{
    AttachRequest, AttachResponse, DetachRequest, Endpoint, EndpointRequest, InspectRequest, NameLink,
    Network as Found,
};
use davit_proto::status::{Classify as _, ErrorKind, chain};
use davit_proto::task::{NetworkNamespace, StateRequest};

use super::live::status_of;
use super::shape::{self, Network};
use super::spec::Error as Wrong;
use super::{port, release};
use crate::engine::Engine;
use crate::error::Error;
use crate::events;
use crate::pool;
use crate::shim::{LONG, SHORT, Shim, within};
use crate::store::{self, Draft};

/// The default network, which every container joins that names none.
pub const BRIDGE: &str = "bridge";

/// A network as the service knows it.
///
/// # Errors
/// When there is none, in the service's own words.
pub async fn find(engine: &Engine, network: &str) -> Result<Found, Error> {
    let request = InspectRequest { network: network.to_owned() };
    let answer = within(SHORT, "look for the network", engine.networks().inspect(request)).await;
    Ok(answer.map_err(plain)?.network.unwrap_or_default())
}

/// The service's sentence alone: it names operation and object itself.
pub fn plain(error: Error) -> Error {
    match error {
        Error::Peer { source, .. } => Error::Remote(source),
        other => other,
    }
}

/// Calls the containers on a network as they are called now. Shims that are prepared ahead are none.
pub fn name_holders(engine: &Engine, network: &mut Found) {
    engine.pool.hide(network);
    for endpoint in &mut network.endpoints {
        let id = endpoint.container_id.parse::<ContainerId>();
        if let Some(container) = id.ok().and_then(|id| engine.container(&id).ok()) {
            endpoint.container_name = container.name;
        }
    }
}

/// Lets those go from a network whose last life is over: their shims may still serve who reads their last words.
/// Answers whether any did.
pub async fn settle_holders(engine: &Arc<Engine>, network: &Found) -> bool {
    let mut settled = false;
    for id in network.endpoints.iter().filter_map(|endpoint| endpoint.container_id.parse().ok()) {
        let _turn = engine.turn(&id).await;
        let record = engine.store.get(&id);
        if record.is_some_and(|record| store::phase(&record) == Phase::Exited) {
            match release::settle(engine, &id).await {
                Ok(()) => settled = true,
                Err(error) => {
                    tracing::warn!(container_id = %id, error = %chain(&error), "still on its networks")
                }
            }
        }
    }
    settled
}

/// Who keeps a network from being removed, in docker's words.
pub async fn in_use(engine: &Engine, network: &str) -> Error {
    let mut found = match find(engine, network).await {
        Ok(found) => found,
        Err(error) => return error,
    };
    name_holders(engine, &mut found);
    let holders: Vec<String> = found
        .endpoints
        .iter()
        .map(|endpoint| {
            let short = endpoint.container_id.get(..12).unwrap_or(&endpoint.container_id);
            format!("name:{:?} id:{short:?}", endpoint.container_name)
        })
        .collect();
    Error::NetworkInUse { network: found.name, holders: holders.join(", ") }
}

/// Calls networks by their names from now on, so that each is known by one.
///
/// # Errors
/// When one is not there, or named twice.
pub async fn name(engine: &Engine, spec: &mut ContainerSpec) -> Result<(), Error> {
    if !matches!(shape::network(spec)?, Network::Wired(_)) {
        return Ok(());
    }
    let mut names: Vec<String> = Vec::new();
    for endpoint in &mut spec.networks {
        match endpoint.network.as_str() {
            "" | "default" | BRIDGE => BRIDGE.clone_into(&mut endpoint.network),
            other => endpoint.network = find(engine, other).await?.name,
        }
        if names.contains(&endpoint.network) {
            return Err(Wrong::Conflict(format!(
                "network {:?} is specified multiple times",
                endpoint.network
            ))
            .into());
        }
        names.push(endpoint.network.clone());
    }
    Ok(())
}

/// The networks that a container is to be on.
///
/// # Errors
/// When it has no networks of its own, in docker's words.
pub fn own(spec: &ContainerSpec, network: &Found) -> Result<Vec<EndpointSpec>, Error> {
    const HOST: &str = "container cannot be disconnected from host network or connected to host network";
    const SHARED: &str = "container sharing network namespace with another container or host cannot be connected to \
                          any other network";
    const NONE: &str = "container cannot be connected to multiple networks with one of the networks in private \
                        (none) mode";
    let sentence = match (shape::network(spec)?, network.driver.as_str()) {
        (Network::Wired(_), "host") => HOST,
        (Network::Wired(_), "null") => NONE,
        (Network::Wired(endpoints), _) => return Ok(endpoints),
        (Network::Host, "host") => HOST,
        (Network::Host | Network::Container(_), _) => SHARED,
        (Network::None, _) => NONE,
    };
    Err(Wrong::Conflict(sentence.to_owned()).into())
}

/// Enters the networks that a container is to be on.
pub fn set(spec: &mut ContainerSpec, endpoints: Vec<EndpointSpec>) {
    spec.unconnected = endpoints.is_empty();
    spec.networks = endpoints;
}

/// Whether a change of a container's networks is in its phase and at its revision.
///
/// # Errors
/// When it is not.
pub fn admit(
    id: &ContainerId,
    container: &Container,
    verb: &'static str,
    if_revision: u64,
) -> Result<(), Error> {
    if if_revision != 0 && if_revision != container.revision {
        return Err(Error::Outdated {
            container: container.name.clone(),
            expected: if_revision,
            present: container.revision,
        });
    }
    let refused = |phase| Err(Error::Phase { verb, container: container.name.clone(), phase });
    let status = status_of(container);
    match status.phase() {
        Phase::Removing => refused("being removed"),
        Phase::Creating | Phase::Unspecified => refused("not made yet"),
        Phase::Unknown => Err(Error::Unreachable { id: id.clone(), why: status.error }),
        Phase::Created | Phase::Running | Phase::Paused | Phase::Restarting | Phase::Exited => Ok(()),
    }
}

/// The namespace of a container, which its shim holds; none when it has neither. One that the record does not tell of
/// was made by an engine that was cut off then, and goes.
///
/// # Errors
/// When it may live and does not answer.
pub async fn namespace(engine: &Engine, id: &ContainerId) -> Result<Option<NetworkNamespace>, Error> {
    if status_of(&engine.container(id)?).netns_path.is_empty() {
        return Ok(None);
    }
    let shim: Shim = match engine.shim_heard(id).await {
        Ok(shim) => shim,
        Err(Error::NotRunning { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let state = within(SHORT, "ask the shim", shim.tasks().state(StateRequest {})).await?;
    Ok(state.snapshot.and_then(|snapshot| snapshot.network_namespace))
}

/// Joins one network. Idempotent.
///
/// # Errors
/// In the service's words.
pub async fn attach(
    engine: &Arc<Engine>,
    container: &Container,
    netns: NetworkNamespace,
    endpoint: &EndpointSpec,
    links: Vec<NameLink>,
) -> Result<(NetworkStatus, Vec<String>), Error> {
    let request = AttachRequest {
        container_id: container.id.clone(),
        container_name: container.name.clone(),
        netns_pid: netns.pid,
        netns_fd: netns.fd,
        netns_inode: netns.inode,
        endpoints: vec![request(endpoint)],
        links,
        ..AttachRequest::default()
    };
    let answer = join(engine, request).await?;
    let place = answer.endpoints.into_iter().next().map(status).unwrap_or_default();
    Ok((place, answer.warnings))
}

/// Asks for places on networks. Where the addresses do not suffice, those of prepared shims go first.
///
/// # Errors
/// In the service's words.
pub async fn join(engine: &Arc<Engine>, request: AttachRequest) -> Result<AttachResponse, Error> {
    const DOING: &str = "attach to the network";
    let answer = within(LONG, DOING, engine.networks().attach(request.clone())).await;
    let answer = match answer {
        Err(error) if lacks_address(&request, &error) => match pool::yield_addresses(engine).await {
            Some(_quiet) => within(LONG, DOING, engine.networks().attach(request)).await,
            None => Err(error),
        },
        other => other,
    };
    answer.map_err(plain)
}

fn lacks_address(request: &AttachRequest, error: &Error) -> bool {
    let asks = |endpoint: &EndpointRequest| !endpoint.ipv4.is_empty() || !endpoint.ipv6.is_empty();
    match error.kind() {
        ErrorKind::ResourceExhausted => true,
        ErrorKind::AlreadyExists => request.endpoints.iter().any(asks),
        _ => false,
    }
}

/// Lets the ports of a container lead to where it is now. Idempotent.
///
/// # Errors
/// When the service or the shim fails.
pub async fn lead_ports(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let status = status_of(&engine.container(id)?);
    let Ok(shim) = engine.shim(id) else { return Ok(()) };
    if !status.ports.is_empty() {
        port::publish(engine, id, &status.ports).await?;
        port::relay(&shim, &status.ports, &status.networks).await?;
    }
    Ok(())
}

/// Leaves one network. Idempotent.
///
/// # Errors
/// In the service's words.
pub async fn detach(
    engine: &Arc<Engine>,
    id: &ContainerId,
    netns: NetworkNamespace,
    network: &str,
) -> Result<(), Error> {
    let request = DetachRequest {
        container_id: id.to_string(),
        network: network.to_owned(),
        netns_pid: netns.pid,
        netns_fd: netns.fd,
        netns_inode: netns.inode,
    };
    let answer = within(LONG, "leave the network", engine.networks().detach(request)).await;
    answer.map(drop).map_err(plain)
}

/// What the service is asked for.
#[must_use]
pub fn request(wanted: &EndpointSpec) -> EndpointRequest {
    EndpointRequest {
        network: wanted.network.clone(),
        ipv4: wanted.ipv4.clone(),
        ipv6: wanted.ipv6.clone(),
        mac: wanted.mac.clone(),
        aliases: wanted.aliases.clone(),
    }
}

/// What is reported of a place on a network.
#[must_use]
pub fn status(endpoint: Endpoint) -> NetworkStatus {
    NetworkStatus {
        network: endpoint.network_name,
        network_id: endpoint.network_id,
        ipv4: endpoint.ipv4,
        ipv4_prefix: endpoint.ipv4_prefix,
        ipv4_gateway: endpoint.ipv4_gateway,
        ipv6: endpoint.ipv6,
        ipv6_prefix: endpoint.ipv6_prefix,
        ipv6_gateway: endpoint.ipv6_gateway,
        mac: endpoint.mac,
        aliases: endpoint.aliases,
        interface: endpoint.interface,
    }
}

/// Whether a place is on the network that is wanted. Records of earlier versions may name networks by their ids.
#[must_use]
pub fn is_on(place: &NetworkStatus, wanted: &EndpointSpec) -> bool {
    let name = wanted.network.as_str();
    place.network == name || (name.len() >= 12 && place.network_id.starts_with(name))
}

/// What the world is told of a container that joins or leaves networks where it had addresses.
pub fn events<'a>(
    action: &'static str,
    container_id: &'a str,
    networks: &'a [NetworkStatus],
) -> impl Iterator<Item = Draft> + 'a {
    let wired = networks.iter().filter(|network| !network.mac.is_empty());
    wired.map(move |network| events::of_network(action, network, container_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(names: &[&str]) -> ContainerSpec {
        let one = |name: &&str| EndpointSpec { network: (*name).to_owned(), ..Default::default() };
        ContainerSpec { networks: names.iter().map(one).collect(), ..Default::default() }
    }

    fn found(driver: &str) -> Found {
        Found { driver: driver.into(), name: "n".into(), ..Default::default() }
    }

    #[test]
    fn only_networks_of_its_own_change() {
        assert_eq!(own(&on(&[]), &found("bridge")).unwrap()[0].network, "bridge", "the default one is said");
        assert_eq!(own(&on(&["a", "b"]), &found("bridge")).unwrap().len(), 2);
        let said = |names: &[&str], driver| own(&on(names), &found(driver)).unwrap_err().to_string();
        assert!(said(&["host"], "bridge").contains("sharing network namespace"));
        assert!(said(&["container:x"], "bridge").contains("sharing network namespace"));
        assert!(said(&["host"], "host").contains("connected to host network"));
        assert!(said(&["none"], "bridge").contains("private (none) mode"));
        assert!(said(&["a"], "null").contains("private (none) mode"));
        assert!(said(&["a"], "host").contains("connected to host network"));
    }

    #[test]
    fn a_change_is_at_a_revision_and_in_a_phase() {
        let id = ContainerId::generate().unwrap();
        let of = |phase: Phase| {
            let mut status = davit_proto::container::ContainerStatus::default();
            status.set_phase(phase);
            Container { revision: 7, status: Some(status), ..Container::default() }
        };
        for revision in [0, 7] {
            admit(&id, &of(Phase::Running), "connect", revision).unwrap();
        }
        let outdated = admit(&id, &of(Phase::Running), "connect", 6).unwrap_err();
        assert!(matches!(outdated, Error::Outdated { expected: 6, present: 7, .. }));
        for phase in [Phase::Exited, Phase::Created, Phase::Paused] {
            admit(&id, &of(phase), "connect", 0).unwrap();
        }
        for phase in [Phase::Removing, Phase::Creating] {
            assert!(matches!(admit(&id, &of(phase), "connect", 0), Err(Error::Phase { .. })));
        }
        assert!(matches!(admit(&id, &of(Phase::Unknown), "connect", 0), Err(Error::Unreachable { .. })));
    }

    #[test]
    fn the_last_network_can_go() {
        let mut spec = on(&["a"]);
        set(&mut spec, Vec::new());
        assert!(spec.unconnected);
        assert!(own(&spec, &found("bridge")).unwrap().is_empty());
        set(&mut spec, on(&["b"]).networks);
        assert!(!spec.unconnected);
    }
}
