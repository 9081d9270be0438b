//! What happens in a container's life, as changes of its record. Pure: each takes the record, and answers with what
//! there is to tell, or with nothing when it is known. Lives are counted, so nothing is entered twice.

use davit_proto::container::{
    Container, ContainerSpec, ContainerStatus, HealthAction, HealthCheck, NetworkStatus, Phase, RestartMode,
};
use davit_proto::store::ContainerRecord;
use davit_proto::task::{Snapshot, TaskState};
use davit_proto::types::{Exit, exit::How};

use super::{journal, network, signal};
use crate::engine::Engine;
use crate::events;
use crate::store::{Change, Draft};

/// What a shell says of a process that SIGKILL ended.
pub const KILLED: u32 = 128 + 9;

/// A life that began.
#[derive(Debug, Clone, PartialEq)]
pub struct Began {
    /// Its number.
    pub life: u64,
    /// Its init's process id on the host.
    pub pid: i32,
    /// The shim's process id on the host; 0 when it is known.
    pub shim_pid: i32,
    /// When.
    pub at: Option<prost_types::Timestamp>,
}

/// A life began, because of `cause`.
pub fn began(record: &mut ContainerRecord, began: &Began, cause: &str) -> Option<Change> {
    let container = record.container.as_mut()?;
    let status = container.status.get_or_insert_default();
    if status.life >= began.life {
        return None;
    }
    let again = status.restart_count > 0;
    // One that is being removed stays so, whatever it does on its way.
    if status.phase() != Phase::Removing {
        status.set_phase(Phase::Running);
    }
    status.life = began.life;
    status.pid = began.pid;
    if began.shim_pid != 0 {
        status.shim_pid = began.shim_pid;
    }
    status.started_at = began.at.or(status.started_at);
    status.error.clear();
    let text = if again { "was started again" } else { "was started" };
    Change::told(events::of_container(container, "start", [])).map(|change| change.explained(text, cause))
}

/// A life ended, by its exit record.
pub fn ended(record: &mut ContainerRecord, exit: &Exit, cause: &str) -> Option<Change> {
    let mut change = Change::default();
    // A life that was over before anybody heard of its start still began.
    if exit.started_at.is_some() {
        let unheard = Began { life: exit.life, pid: 0, shim_pid: 0, at: exit.started_at };
        change.events.extend(began(record, &unheard, "").map(|change| change.events).unwrap_or_default());
    }
    let (stopped, oom_told) = (record.stopping == exit.life, record.oom_told == exit.life);
    let container = record.container.as_mut()?;
    let stays_wired = may_restart(container.spec.as_ref());
    let status = container.status.get_or_insert_default();
    if status.exit.as_ref().is_some_and(|known| known.life >= exit.life) || status.life > exit.life {
        return None;
    }
    status.life = exit.life;
    status.pid = 0;
    status.exit = Some(exit.clone());
    let leaving = status.phase() == Phase::Removing;
    if exit.started_at.is_none() {
        // Its program never ran: it is as it was, and says why.
        status.error.clone_from(&exit.reason);
        if is_live(status.phase()) {
            status.set_phase(Phase::Exited);
        }
        let text = format!("could not be started: {}", exit.reason);
        return Some(change.explained(text, if cause == exit.reason { "" } else { cause }));
    }
    if !leaving {
        status.set_phase(Phase::Exited);
    }
    let unwired = if stays_wired { Vec::new() } else { unwire(&container.id, status) };
    let code = ("exitCode", exit.exit_code.to_string());
    if exit.oom_killed && !oom_told {
        change.events.push(events::of_container(container, "oom", []));
    }
    change.events.push(match journal::seconds(exit) {
        Some(length) => events::of_container(container, "die", [code, ("execDuration", length.to_string())]),
        None => events::of_container(container, "die", [code]),
    });
    change.events.extend(unwired);
    if stopped {
        change.events.push(events::of_container(container, "stop", []));
    }
    Some(change.explained(how(exit), if cause.is_empty() { exit.reason.as_str() } else { cause }))
}

/// The end in words.
fn how(exit: &Exit) -> String {
    match exit.how {
        Some(How::Signal(number)) => format!("was ended by {}", signal::say(number)),
        Some(How::Code(code)) => format!("ended with exit code {code}"),
        None => format!("ended with exit code {}", exit.exit_code),
    }
}

/// Its shim waits to start it again.
pub fn restarting(record: &mut ContainerRecord, count: u32) {
    let Some(status) = record.container.as_mut().map(|container| container.status.get_or_insert_default())
    else {
        return;
    };
    status.restart_count = count;
    if status.phase() != Phase::Removing {
        status.set_phase(Phase::Restarting);
    }
}

/// It was frozen.
pub fn paused(record: &mut ContainerRecord) -> Option<Change> {
    moved(record, Phase::Running, Phase::Paused, "pause")
}

/// It was thawed.
pub fn resumed(record: &mut ContainerRecord) -> Option<Change> {
    moved(record, Phase::Paused, Phase::Running, "unpause")
}

fn moved(record: &mut ContainerRecord, from: Phase, to: Phase, action: &str) -> Option<Change> {
    let container = record.container.as_mut()?;
    let status = container.status.as_mut().filter(|status| status.phase() == from)?;
    status.set_phase(to);
    Change::told(events::of_container(container, action, []))
}

/// What a shim says of itself, where its journal could not say it, as on a full disk. A snapshot that is older than what
/// was read of the journal says nothing: a newer one follows.
pub fn stated(record: &mut ContainerRecord, snapshot: &Snapshot) -> Option<Change> {
    if record.journal > snapshot.journal {
        return None;
    }
    let life = Began {
        life: snapshot.life,
        pid: snapshot.pid,
        shim_pid: snapshot.shim_pid,
        at: snapshot.started_at,
    };
    match snapshot.state() {
        TaskState::Running => began(record, &life, "").or_else(|| resumed(record)),
        TaskState::Paused => began(record, &life, "").or_else(|| paused(record)),
        TaskState::Stopped => ended(record, snapshot.exit.as_ref()?, ""),
        TaskState::Restarting => {
            let change = ended(record, snapshot.exit.as_ref()?, "");
            let waits = record.container.as_ref().is_some_and(|c| status_of(c).phase() == Phase::Restarting);
            if !waits {
                restarting(record, snapshot.restart_count);
            }
            change.or_else(|| if waits { None } else { Change::silent() })
        }
        TaskState::Unspecified | TaskState::Empty | TaskState::Prepared | TaskState::Created => None,
    }
}

/// Its shim is gone: it has neither process, address nor published port, and nobody waits to start it again; what it is
/// to join again stays.
pub fn alone(record: &mut ContainerRecord) -> Option<Change> {
    let container = record.container.as_mut()?;
    let status = container.status.as_mut()?;
    let wired = !status.netns_path.is_empty() || !status.ports.is_empty() || status.shim_pid != 0;
    if !wired && !is_live(status.phase()) {
        return None;
    }
    status.pid = 0;
    let events = unwire(&container.id, status);
    if is_live(status.phase()) {
        status.set_phase(Phase::Exited);
    }
    Some(Change { events, ..Change::default() })
}

/// Without a namespace there is neither address nor published port; what it is to join again stays.
pub fn unwire(container_id: &str, status: &mut ContainerStatus) -> Vec<Draft> {
    let told = network::events("disconnect", container_id, &status.networks).collect();
    status.shim_pid = 0;
    status.netns_path.clear();
    status.ports.clear();
    for network in &mut status.networks {
        let NetworkStatus { network: name, network_id, aliases, .. } = std::mem::take(network);
        *network = NetworkStatus { network: name, network_id, aliases, ..NetworkStatus::default() };
    }
    told
}

/// Whether its shim may begin another life by itself: then it keeps address and ports.
#[must_use]
pub fn may_restart(spec: Option<&ContainerSpec>) -> bool {
    let policy = spec.and_then(|spec| spec.restart).unwrap_or_default().mode();
    let health = spec.and_then(|spec| spec.health.as_ref()).map(HealthCheck::on_failure);
    !matches!(policy, RestartMode::Unspecified | RestartMode::No) || health == Some(HealthAction::Restart)
}

/// Whether a container may have a process, by its record.
#[must_use]
pub fn is_live(phase: Phase) -> bool {
    matches!(phase, Phase::Running | Phase::Paused | Phase::Restarting)
}

/// Full ids of the containers that may have a process.
#[must_use]
pub fn running(engine: &Engine) -> Vec<String> {
    let may_run = |container: &Container| {
        let phase = status_of(container).phase();
        is_live(phase) || phase == Phase::Unknown
    };
    engine.containers().0.into_iter().filter(may_run).map(|container| container.id).collect()
}

/// A container's status; empty when it has none.
#[must_use]
pub fn status_of(container: &Container) -> ContainerStatus {
    container.status.clone().unwrap_or_default()
}
