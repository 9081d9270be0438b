//! Lets a container go that ended and was to go with its end, before its shim has gone: the kernel takes a few
//! milliseconds to take it apart, and whoever waits for the exit code has no use for them. What anybody could notice
//! goes first: files, image, record and name. A container with more than that is released in the usual order.
//!
//! The bundle in the trash says at the next start of an engine that the rest is still to be done.

use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::{Container, EndpointSpec, MountKind, Phase};
use davit_proto::id::ContainerId;
use davit_proto::status::chain;

use super::{DRAIN, How, cgroup, discard, empty_of, end_shim, forget, release_image, release_network};
use crate::container::copy::Which;
use crate::container::live::status_of;
use crate::container::network::BRIDGE;
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::{self, pass};

/// Containers that may be gone while their shims are not. With more of them the next one waits for its own.
pub const MOST: usize = 64;
/// Pauses between tries to release the rest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Begins to let a container go whose end is on record, when it is one of those. Otherwise it goes with its shim.
pub fn begin(engine: &Arc<Engine>, id: &ContainerId) {
    let Ok(place) = engine.leaving.clone().try_acquire_owned() else { return };
    let (engine, id) = (engine.clone(), id.clone());
    tokio::spawn(async move {
        let _place = place;
        let _turn = engine.turn(&id).await;
        let container = engine.store.get(&id).and_then(|record| record.container.clone());
        if !container.is_some_and(|container| may_go(&container)) {
            return;
        }
        if let Err(error) = part(&engine, &id).await {
            // It still has a record, and is released when its shim has gone.
            tracing::warn!(container_id = %id, error = %chain(&error), "failed to let a container go early");
            return;
        }
        let mut pause = FIRST_PAUSE;
        while let Err(error) = rest(&engine, &id).await {
            tracing::error!(container_id = %id, error = %chain(&error), "a container that is gone left something");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
        engine.pool.reveal(&id);
    });
}

/// Whether nothing but its address and its cgroup stays for a moment, neither of which anybody asks for by name.
fn may_go(container: &Container) -> bool {
    let (spec, status) = (container.spec.clone().unwrap_or_default(), status_of(container));
    let plain = |endpoint: &EndpointSpec| {
        matches!(endpoint.network.as_str(), "" | "default" | "none" | BRIDGE)
            && endpoint.ipv4.is_empty()
            && endpoint.ipv6.is_empty()
            && endpoint.mac.is_empty()
    };
    spec.auto_remove
        && status.phase() == Phase::Exited
        && spec.cgroup_parent.is_empty()
        && spec.networks.iter().all(plain)
        && status.networks.iter().all(|network| network.network == BRIDGE)
        && status.ports.is_empty()
        && !status.mounts.iter().any(|mount| mount.kind() == MountKind::Volume)
}

/// From here on it is no more, for all who look.
async fn part(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let how = How { volumes: true, durable: false, told: true };
    engine.copies.end(id, Which::All).await;
    discard(engine, id, how).await?;
    pass(failpoint::RELEASE_TRASH).await?;
    release_image(engine, id).await?;
    engine.pool.conceal(id);
    forget(engine, id, how);
    Ok(())
}

/// What nobody waits for.
async fn rest(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    pass(failpoint::RELEASE_EARLY).await?;
    end_shim(engine, id, DRAIN).await?;
    pass(failpoint::RELEASE_SHIM).await?;
    release_network(engine, id).await?;
    pass(failpoint::RELEASE_SERVICES).await?;
    let path = engine.config.cgroup_path(id, "");
    cgroup::sweep(&path).await.map_err(Error::io(format!("remove the cgroup {path}")))?;
    pass(failpoint::RELEASE_CGROUP).await?;
    let (trash, id) = (engine.config.trash(), id.clone());
    drop(tokio::task::spawn_blocking(move || empty_of(&trash, &id)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::container::{ContainerSpec, ContainerStatus, MountStatus, NetworkStatus, PortSpec};

    fn ended() -> Container {
        let mut status = ContainerStatus {
            networks: vec![NetworkStatus { network: BRIDGE.into(), ..Default::default() }],
            ..Default::default()
        };
        status.set_phase(Phase::Exited);
        let spec = ContainerSpec { auto_remove: true, ..Default::default() };
        Container { spec: Some(spec), status: Some(status), ..Default::default() }
    }

    fn with(change: impl FnOnce(&mut ContainerSpec, &mut ContainerStatus)) -> Container {
        let mut container = ended();
        change(container.spec.as_mut().unwrap(), container.status.as_mut().unwrap());
        container
    }

    #[test]
    fn who_holds_nothing_that_has_a_name_goes_at_once() {
        assert!(may_go(&ended()));
        let on = |name: &str| vec![EndpointSpec { network: name.to_owned(), ..Default::default() }];
        assert!(may_go(&with(|spec, status| {
            spec.networks = on("none");
            status.networks.clear();
        })));
        let stay = [
            with(|spec, _| spec.auto_remove = false),
            with(|_, status| status.set_phase(Phase::Running)),
            with(|_, status| status.set_phase(Phase::Removing)),
            with(|spec, _| spec.cgroup_parent = "/mine".into()),
            with(|spec, _| spec.networks = on("mine")),
            with(|_, status| status.networks[0].network = "mine".into()),
            with(|spec, _| {
                spec.networks = vec![EndpointSpec { ipv4: "172.17.0.9".into(), ..Default::default() }]
            }),
            with(|_, status| status.ports = vec![PortSpec::default()]),
            with(|_, status| {
                let mut mount = MountStatus::default();
                mount.set_kind(MountKind::Volume);
                status.mounts = vec![mount];
            }),
        ];
        for container in stay {
            assert!(!may_go(&container), "{container:?}");
        }
    }
}
