//! What a shim tells, entered into the record: each start and each exit once, whoever brings the news first.

use std::sync::Arc;

use davit_proto::container::{Container, ContainerStatus, NetworkStatus, Phase};
use davit_proto::id::ContainerId;
use davit_proto::store::ContainerRecord;
use davit_proto::types::Exit;

use crate::engine::Engine;
use crate::events;
use crate::store::Change;

/// A life that began.
#[derive(Debug, Clone, PartialEq)]
pub struct Began {
    /// Its number.
    pub life: u64,
    /// Its init's process id on the host.
    pub pid: i32,
    /// The shim's process id on the host.
    pub shim_pid: i32,
    /// When.
    pub at: Option<prost_types::Timestamp>,
}

/// A life began. Nothing happens when that is known, or when the life is over already.
pub fn began(engine: &Engine, id: &ContainerId, began: &Began) {
    engine.store.update(id, |record| {
        let container = record.container.as_mut()?;
        let status = container.status.get_or_insert_default();
        let known = status.life >= began.life && status.phase() != Phase::Paused;
        if known || status.phase() == Phase::Removing {
            return None;
        }
        let again = status.life >= began.life;
        enter(status, began);
        let action = if again { "unpause" } else { "start" };
        Change::told(events::of_container(container, action, []))
    });
}

/// A container was frozen.
pub fn paused(engine: &Engine, id: &ContainerId) {
    engine.store.update(id, |record| {
        let container = record.container.as_mut()?;
        let status = container.status.as_mut().filter(|status| status.phase() == Phase::Running)?;
        status.set_phase(Phase::Paused);
        Change::told(events::of_container(container, "pause", []))
    });
}

/// A life ended, by its exit record. Nothing happens when that is known.
pub fn ended(engine: &Engine, id: &ContainerId, exit: &Exit) -> Option<Arc<ContainerRecord>> {
    // A life that was over before anybody heard of its start still began.
    let known = engine.store.get(id)?.container.as_ref().map_or(0, |container| status_of(container).life);
    if exit.started_at.is_some() && known < exit.life {
        began(engine, id, &Began { life: exit.life, pid: 0, shim_pid: 0, at: exit.started_at });
    }
    engine.store.update(id, |record| {
        let container = record.container.as_mut()?;
        let status = container.status.get_or_insert_default();
        if status.exit.as_ref().is_some_and(|known| known.life >= exit.life) || status.life > exit.life {
            return None;
        }
        status.life = exit.life;
        status.pid = 0;
        status.shim_pid = 0;
        unwire(status);
        status.exit = Some(exit.clone());
        // One that is being removed stays so, whatever it does on its way.
        let leaving = status.phase() == Phase::Removing;
        if exit.started_at.is_none() {
            // Its program never ran: it is as it was, and says why.
            status.error.clone_from(&exit.reason);
            if matches!(status.phase(), Phase::Running | Phase::Paused) {
                status.set_phase(Phase::Exited);
            }
            return Change::silent();
        }
        if !leaving {
            status.set_phase(Phase::Exited);
        }
        Change::told(events::of_container(container, "die", [("exitCode", exit.exit_code.to_string())]))
    })
}

/// Without a namespace there is neither address nor published port; what it is to join again stays.
fn unwire(status: &mut ContainerStatus) {
    status.netns_path.clear();
    status.ports.clear();
    for network in &mut status.networks {
        let NetworkStatus { network: name, network_id, aliases, .. } = std::mem::take(network);
        *network = NetworkStatus { network: name, network_id, aliases, ..NetworkStatus::default() };
    }
}

fn enter(status: &mut ContainerStatus, began: &Began) {
    status.set_phase(Phase::Running);
    status.life = began.life;
    status.pid = began.pid;
    if began.shim_pid != 0 {
        status.shim_pid = began.shim_pid;
    }
    if began.at.is_some() {
        status.started_at = began.at;
    }
    status.error.clear();
}

/// Whether a container may have a process, by its record.
#[must_use]
pub fn is_live(phase: Phase) -> bool {
    matches!(phase, Phase::Running | Phase::Paused | Phase::Restarting)
}

/// A container's status; empty when it has none.
#[must_use]
pub fn status_of(container: &Container) -> ContainerStatus {
    container.status.clone().unwrap_or_default()
}
