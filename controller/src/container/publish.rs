//! Publishes further ports of a container, or fewer, while it runs.
//!
//! Order: the wish, in store and bundle; the ports that come are held on the host; they lead to the container, and
//! those that go do no more; those that go are let go of; the status. A step that fails puts back what was done before
//! it, and the wish. What a crash cuts off is finished by [`converge`] at the next start of the engine: as long as wish
//! and status are not the same, or the shim holds what neither knows of, there is something to do.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use davit_proto::container::{Container, ContainerSpec, Phase, PortSpec};
use davit_proto::id::ContainerId;
use davit_proto::port::{each, in_rows};
use davit_proto::status::chain;

use super::bundle::Bundle;
use super::live::{self, status_of};
use super::port::{self, Place, place};
use super::spec::port::{protocol, published};
use super::{shape, spec, validate};
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::shim::Shim;
use crate::store::Change;

/// What is to change.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Ports to publish too.
    pub add: Vec<PortSpec>,
    /// Ports to publish no longer. What is not said, address or port of the host, may be any.
    pub remove: Vec<PortSpec>,
}

/// Each wish, and the port that it has.
type Pairs = Vec<(PortSpec, Option<PortSpec>)>;

/// What the wishes come to when some change. Everything that can be known to be wrong is refused here.
///
/// # Errors
/// When the container can publish nothing, a port to remove is none of its, or one to add makes no sense.
pub fn check(container: &Container, wanted: &Wanted) -> Result<ContainerSpec, Error> {
    let spec = container.spec.clone().unwrap_or_default();
    if !matches!(shape::network(&spec)?, shape::Network::Wired(_)) {
        let why = "changing published ports: the container has no network of its own".to_owned();
        return Err(spec::Error::Conflict(why).into());
    }
    if status_of(container).phase() == Phase::Unknown {
        let id = container.id.parse()?;
        return Err(Error::Unreachable { id, why: status_of(container).error });
    }
    // Were all exposed ports published still, one that was taken away would be back at the next start.
    let publish_all = spec.publish_all && wanted.remove.is_empty();
    let mut ports = each(&spec.ports);
    if !wanted.remove.is_empty() {
        let mut pairs = pairs(&spec, container)?;
        for gone in &each(&wanted.remove) {
            remove(&mut pairs, gone)?;
        }
        ports = pairs.into_iter().map(|(wish, _)| wish).collect();
    }
    let fresh = |fresh: &PortSpec| PortSpec { protocol: protocol(fresh).to_owned(), ..fresh.clone() };
    ports.extend(each(&wanted.add).iter().map(fresh));
    let ports = in_rows(&ports);
    let spec = ContainerSpec { ports, publish_all, ..spec };
    validate::ports(&spec)?;
    Ok(spec)
}

/// Takes out what a person means.
fn remove(pairs: &mut Pairs, gone: &PortSpec) -> Result<(), Error> {
    let said = |said: u32, found: u32| said == 0 || said == found;
    let host = |wish: &PortSpec, actual: Option<&PortSpec>| actual.unwrap_or(wish).host_port;
    let ip = |port: &PortSpec| gone.host_ip.is_empty() || place(port).0 == place(gone).0;
    let before = pairs.len();
    pairs.retain(|(wish, actual)| {
        let meant = protocol(wish) == protocol(gone)
            && ip(wish)
            && said(gone.host_port, host(wish, actual.as_ref()))
            && said(gone.container_port, wish.container_port);
        !meant
    });
    // A number alone is the container's port; where it has no such, the host's.
    if pairs.len() == before && gone.host_port == 0 && gone.host_ip.is_empty() {
        pairs.retain(|(wish, actual)| {
            protocol(wish) != protocol(gone) || host(wish, actual.as_ref()) != gone.container_port
        });
    }
    if pairs.len() < before {
        return Ok(());
    }
    let host = if gone.host_port == 0 { String::new() } else { format!("{}:", gone.host_port) };
    let value = format!("{host}{}/{}", gone.container_port, protocol(gone));
    Err(Error::Invalid { what: "publish_remove", value, rule: "the container publishes no such port".into() })
}

/// The wishes of a container, each with the port that it has.
fn pairs(spec: &ContainerSpec, container: &Container) -> Result<Pairs, Error> {
    let mut have: Vec<Option<PortSpec>> = each(&status_of(container).ports).into_iter().map(Some).collect();
    // They are in the same order, so the next one is as a rule the one.
    let mut next = 0;
    let mut take = |wish: &PortSpec| {
        let fits = |port: &PortSpec| {
            let number = match (wish.host_port, wish.host_port_last) {
                (0, _) => true,
                (one, 0) => port.host_port == one,
                (first, last) => (first..=last).contains(&port.host_port),
            };
            number
                && port.host_ip == wish.host_ip
                && port.container_port == wish.container_port
                && protocol(port) == protocol(wish)
        };
        let free = |at: &usize| have.get(*at).is_some_and(|port| port.as_ref().is_some_and(fits));
        let at = (next..have.len()).chain(0..next).find(free)?;
        next = at + 1;
        have.get_mut(at)?.take()
    };
    let wishes = published(spec, &container.exposed_ports)?;
    Ok(wishes.into_iter().map(|wish| (wish.clone(), take(&wish))).collect())
}

/// Makes wishes true that were checked; answers with what a person should know. The caller holds the container's turn.
///
/// # Errors
/// When a port is taken, or a step fails; then all is as before.
pub async fn publish(
    engine: &Arc<Engine>,
    id: &ContainerId,
    wish: ContainerSpec,
) -> Result<Vec<String>, Error> {
    let before = engine.container(id)?.spec.unwrap_or_default();
    record(engine, id, &wish)?;
    let done = async {
        pass(failpoint::PUBLISH_WANTED).await?;
        apply(engine, id).await
    };
    match done.await {
        Ok(warnings) => Ok(warnings),
        Err(error) => {
            record(engine, id, &before)?;
            Err(error)
        }
    }
}

/// Writes down what is wanted.
fn record(engine: &Engine, id: &ContainerId, wish: &ContainerSpec) -> Result<(), Error> {
    let entered = engine.store.update(id, |record| {
        let spec = record.container.as_mut()?.spec.get_or_insert_default();
        spec.ports.clone_from(&wish.ports);
        spec.publish_all = wish.publish_all;
        Change::silent()
    });
    let Some(record) = entered else { return Ok(()) };
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.write_spec(&record).map_err(Error::io(format!("write {}", bundle.file("spec.json").display())))
}

/// Makes the ports of a container that lives what its record wants. One that does not live gets them at its start.
async fn apply(engine: &Arc<Engine>, id: &ContainerId) -> Result<Vec<String>, Error> {
    let container = engine.container(id)?;
    let mut status = status_of(&container);
    status.ports = each(&status.ports);
    let lives = live::is_live(status.phase()) || status.phase() == Phase::Created;
    let Some(shim) = engine.shim(id).ok().filter(|_| lives) else { return Ok(Vec::new()) };
    let pairs = pairs(&container.spec.clone().unwrap_or_default(), &container)?;
    let (known, held) = strays(&shim, &status.ports).await?;

    let (mut ports, mut wanted) = (Vec::new(), Vec::new());
    for (wish, actual) in pairs {
        match actual {
            Some(actual) => ports.push(actual),
            // The port is held already, for what it led to until now.
            None if wish.host_port_last == 0 && held.contains(&place(&wish)) => ports.push(wish),
            None => wanted.push(wish),
        }
    }
    let fresh = port::reserve(engine, &shim, &wanted, known).await?;
    ports.extend(fresh.iter().cloned());
    if ports == status.ports {
        return Ok(Vec::new());
    }
    let done = async {
        pass(failpoint::PUBLISH_RESERVED).await?;
        let mut warnings = port::publish(engine, id, &ports).await?;
        pass(failpoint::PUBLISH_LED).await?;
        let stay: BTreeSet<_> = ports.iter().map(place).collect();
        let gone = status.ports.iter().filter(|old| !stay.contains(&place(old)));
        let gone: Vec<PortSpec> = gone.cloned().collect();
        port::unreserve(&shim, &gone).await?;
        warnings.extend(port::relay(&shim, &ports, &status.networks).await?);
        Ok(warnings)
    };
    match done.await {
        Ok(warnings) => {
            enter(engine, id, &ports);
            Ok(warnings)
        }
        Err(error) => {
            undo(engine, id, &shim, &container, &fresh).await;
            Err(error)
        }
    }
}

/// Lets go of what the shim holds and the record does not know of: a crash came before it was led anywhere. Answers with
/// how many reservations there are, and their ports.
async fn strays(shim: &Shim, known: &[PortSpec]) -> Result<(usize, BTreeSet<Place>), Error> {
    let (count, held) = port::held(shim).await?;
    let places = |held: &[PortSpec]| held.iter().map(place).collect();
    let known: BTreeSet<_> = known.iter().map(place).collect();
    let strays: Vec<PortSpec> = held.iter().filter(|port| !known.contains(&place(port))).cloned().collect();
    if strays.is_empty() {
        return Ok((count, places(&held)));
    }
    tracing::info!(container_id = %shim.id(), ports = strays.len(), "let go of ports that were held for nothing");
    port::unreserve(shim, &strays).await?;
    let (count, held) = port::held(shim).await?;
    Ok((count, places(&held)))
}

/// Puts back what was there before. What cannot be put back is told, and is right again at the next start.
async fn undo(engine: &Arc<Engine>, id: &ContainerId, shim: &Shim, before: &Container, fresh: &[PortSpec]) {
    let status = status_of(before);
    let ports = each(&status.ports);
    let put_back = async {
        port::publish(engine, id, &ports).await?;
        port::relay(shim, &ports, &status.networks).await?;
        port::unreserve(shim, fresh).await
    };
    if let Err(error) = put_back.await {
        tracing::error!(container_id = %id, error = %chain(&error), "published ports were not put back");
    }
}

fn enter(engine: &Engine, id: &ContainerId, ports: &[PortSpec]) {
    engine.store.update(id, |record| {
        let container = record.container.as_mut()?;
        let ports = in_rows(ports);
        let known: HashSet<String> = container.exposed_ports.iter().cloned().collect();
        let single = ports.iter().filter(|port| port.count <= 1);
        let exposed = single.map(|port| format!("{}/{}", port.container_port, protocol(port)));
        container.exposed_ports.extend(exposed.filter(|text| !known.contains(text)));
        container.status.get_or_insert_default().ports = ports;
        Change::silent()
    });
}

/// Finishes what a crash cut off. A wish that cannot be made true any more is struck out.
pub async fn converge(engine: &Arc<Engine>, id: &ContainerId) {
    let _turn = engine.turn(id).await;
    let Ok(container) = engine.container(id) else { return };
    let spec = container.spec.clone().unwrap_or_default();
    if spec.ports.is_empty() && !spec.publish_all && status_of(&container).ports.is_empty() {
        // Nothing is wanted; what a shim may hold for nothing goes with it.
        return;
    }
    let Err(error) = apply(engine, id).await else { return };
    engine.recovered(format!("the ports of container {id} are published as before: {}", chain(&error)));
    let Ok(pairs) = pairs(&spec, &container) else { return };
    let ports = pairs.into_iter().filter_map(|(wish, actual)| actual.map(|_| wish));
    let ports = in_rows(&ports.collect::<Vec<_>>());
    if let Err(error) = record(engine, id, &ContainerSpec { ports, publish_all: false, ..spec }) {
        tracing::error!(container_id = %id, error = %chain(&error), "the wish was not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::container::ContainerStatus;

    fn port(host_ip: &str, host_port: u32, container_port: u32, protocol: &str) -> PortSpec {
        PortSpec {
            host_ip: host_ip.into(),
            host_port,
            container_port,
            protocol: protocol.into(),
            ..PortSpec::default()
        }
    }

    fn container(wishes: &[PortSpec], actual: &[PortSpec]) -> Container {
        let spec = ContainerSpec { ports: wishes.to_vec(), ..ContainerSpec::default() };
        let mut status = ContainerStatus { ports: actual.to_vec(), ..ContainerStatus::default() };
        status.set_phase(Phase::Running);
        Container { spec: Some(spec), status: Some(status), ..Container::default() }
    }

    fn left(container: &Container, gone: PortSpec) -> Result<Vec<u32>, Error> {
        let wanted = Wanted { remove: vec![gone], ..Wanted::default() };
        Ok(check(container, &wanted)?.ports.iter().map(|port| port.container_port).collect())
    }

    #[test]
    fn what_is_meant_is_taken_away() {
        let wishes = [port("", 8080, 80, "tcp"), port("127.0.0.1", 0, 81, "tcp"), port("", 53, 53, "udp")];
        let actual =
            [port("", 8080, 80, "tcp"), port("127.0.0.1", 32_768, 81, "tcp"), port("", 53, 53, "udp")];
        let container = container(&wishes, &actual);
        for (gone, wanted) in [
            (port("", 8080, 80, ""), vec![81, 53]),
            (port("", 0, 80, "tcp"), vec![81, 53]),
            (port("", 8080, 0, ""), vec![81, 53]),
            (port("", 0, 8080, ""), vec![81, 53]),
            (port("", 0, 32_768, ""), vec![80, 53]),
            (port("127.0.0.1", 0, 81, ""), vec![80, 53]),
            (port("", 0, 53, "udp"), vec![80, 81]),
        ] {
            assert_eq!(left(&container, gone.clone()).unwrap(), wanted, "{gone:?}");
        }
        for none in [port("", 0, 53, "tcp"), port("", 8080, 81, ""), port("10.0.0.1", 8080, 80, "")] {
            assert!(left(&container, none.clone()).is_err(), "{none:?}");
        }
    }

    #[test]
    fn each_wish_has_its_own_port() {
        let wishes = [port("", 0, 80, "tcp"), port("", 0, 80, "tcp"), port("", 9000, 80, "tcp")];
        let actual = [port("", 32_768, 80, "tcp"), port("", 32_769, 80, "tcp")];
        let container = container(&wishes, &actual);
        let spec = container.spec.clone().unwrap();
        let found = pairs(&spec, &container).unwrap();
        let numbers: Vec<_> = found.iter().map(|(_, actual)| actual.as_ref().map(|p| p.host_port)).collect();
        assert_eq!(numbers, [Some(32_768), Some(32_769), None]);
    }

    #[test]
    fn publishing_all_ends_with_the_first_that_is_taken_away() {
        let mut all = container(&[port("", 8080, 80, "tcp")], &[]);
        all.spec.as_mut().unwrap().publish_all = true;
        all.exposed_ports = vec!["53/udp".into(), "80/tcp".into()];
        let wanted = Wanted { add: vec![port("", 9000, 90, "")], ..Wanted::default() };
        let spec = check(&all, &wanted).unwrap();
        assert!(spec.publish_all && spec.ports.len() == 2, "{spec:?}");
        let wanted = Wanted { remove: vec![port("", 0, 80, "")], ..Wanted::default() };
        let spec = check(&all, &wanted).unwrap();
        assert_eq!((spec.publish_all, spec.ports), (false, vec![port("", 0, 53, "udp")]));
    }
}
