//! Starts a container: opens its gate. One that was stopped is brought to its gate first, by a new shim.

use std::sync::Arc;

use davit_proto::container::{Container, ContainerSpec, Phase, StartResponse};
use davit_proto::id::ContainerId;
use davit_proto::reason;
use davit_proto::status::{Classify as _, ErrorKind, chain};
use davit_proto::store::ContainerRecord;
use davit_proto::task::{ResizeRequest, StartRequest, StateRequest, TaskState};
use davit_proto::types::{Exit, TerminalSize};
use davit_proto::wanted::Want;

use super::assemble::{self, Made};
use super::bundle::Bundle;
use super::live::{self, Began, status_of};
use super::release::{self, How};
use super::{journal, want};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::shim::{LONG, SHORT, Shim, within};
use crate::store::{self, Change};
use crate::{revive, supervise};

/// A container that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// It ran before.
    pub already_running: bool,
    /// Its init's process id on the host.
    pub pid: i32,
    /// Number of its life.
    pub life: u64,
}

/// Starts a container. One that runs is answered as started. A caller who goes away does not stop it midway.
///
/// # Errors
/// When it cannot be started now, or its program cannot be executed. A container that is to be removed at its end is
/// then removed.
pub async fn start(
    engine: &Arc<Engine>,
    id: &ContainerId,
    size: Option<TerminalSize>,
    actor: &Actor,
) -> Result<Started, Error> {
    let (engine, id, actor) = (engine.clone(), id.clone(), actor.clone());
    let started = tokio::spawn(async move {
        let _turn = engine.turn(&id).await;
        engine.heard_from(&id).await;
        match admit(&engine, &id).await? {
            Some(running) => Ok(running),
            None => {
                want::want(&engine, &id, Want::Run)?;
                begin_to_count(&engine, &id);
                twice(&engine, &id, size, &actor).await
            }
        }
    });
    started.await.map_err(|error| Error::Task { doing: "start the container", why: error.to_string() })?
}

/// What a client is told of a start.
#[must_use]
pub fn told(engine: &Engine, id: &ContainerId, started: &Started) -> StartResponse {
    // It may have ended again, or be gone.
    let pid = engine.container(id).map_or(0, |container| status_of(&container).pid);
    StartResponse { container_id: id.to_string(), already_running: started.already_running, pid }
}

/// Starts a container because its policy says so, when it still does at its turn: `is_due` is asked then. `None` when
/// there is nothing to start any more.
///
/// # Errors
/// When it cannot be started.
pub async fn by_policy(
    engine: &Arc<Engine>,
    id: &ContainerId,
    is_due: impl Fn(&ContainerRecord, Want) -> bool + Send,
    actor: &Actor,
) -> Result<Option<Started>, Error> {
    let _turn = engine.turn(id).await;
    let record = engine.record(id)?;
    let wanted = want::wanted(engine, id);
    if engine.has_shim(id) || !is_due(&record, wanted) {
        return Ok(None);
    }
    // Whoever stops it meanwhile has the last word, so what is wanted already is not written again.
    if wanted == Want::Stop {
        want::want(engine, id, Want::Run)?;
    }
    twice(engine, id, None, actor).await.map(Some)
}

/// A person starts it: restarts are counted from here on.
fn begin_to_count(engine: &Engine, id: &ContainerId) {
    engine.store.update(id, |record| {
        let status = record.container.as_mut()?.status.as_mut()?;
        if std::mem::take(&mut status.restart_count) == 0 { None } else { Change::silent() }
    });
}

async fn twice(
    engine: &Arc<Engine>,
    id: &ContainerId,
    size: Option<TerminalSize>,
    actor: &Actor,
) -> Result<Started, Error> {
    match attempt(engine, id, size, actor).await {
        // The shim died at its gate, unnoticed: a new one.
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            tracing::warn!(container_id = %id, error = %chain(&error), "starting with a new shim");
            release::settle(engine, id).await?;
            attempt(engine, id, size, actor).await
        }
        other => other,
    }
}

/// Brings a container that does not run to its gate, so that it can be attached to before it starts.
///
/// # Errors
/// When it cannot be started now, or a step fails.
pub async fn ready(
    engine: &Arc<Engine>,
    id: &ContainerId,
    size: Option<TerminalSize>,
    actor: &Actor,
) -> Result<(), Error> {
    let (engine, id, actor) = (engine.clone(), id.clone(), actor.clone());
    let made = tokio::spawn(async move {
        let _turn = engine.turn(&id).await;
        engine.heard_from(&id).await;
        match admit(&engine, &id).await? {
            Some(_) => Ok(()),
            None => gate(&engine, &id, size, &actor).await.map(drop),
        }
    });
    made.await.map_err(|error| Error::Task { doing: "prepare the container", why: error.to_string() })?
}

/// Whether it runs already; an error when it can neither run nor be started.
async fn admit(engine: &Arc<Engine>, id: &ContainerId) -> Result<Option<Started>, Error> {
    let container = engine.container(id)?;
    let status = status_of(&container);
    let refused = |phase| Error::Phase { verb: "start", container: container.name.clone(), phase };
    match status.phase() {
        // What waits for its restart is started now.
        Phase::Created | Phase::Restarting => Ok(None),
        Phase::Exited if !goes_on(engine, id, &container).await => Ok(None),
        Phase::Running | Phase::Exited => {
            Ok(Some(Started { already_running: true, pid: status.pid, life: status.life }))
        }
        Phase::Paused => Err(refused("paused: resume it instead")),
        Phase::Removing => Err(refused("being removed")),
        Phase::Creating | Phase::Unspecified => Err(refused("not made yet")),
        Phase::Unknown => Err(Error::Unreachable { id: id.clone(), why: status.error }),
    }
}

/// Whether its shim is about to begin the next life by itself, which its journal does not say yet.
async fn goes_on(engine: &Engine, id: &ContainerId, container: &Container) -> bool {
    let Some(shim) = engine.shim(id).ok().filter(|_| live::may_restart(container.spec.as_ref())) else {
        return false;
    };
    let answer = within(SHORT, "ask the shim", shim.tasks().state(StateRequest {})).await;
    let state = answer.ok().and_then(|answer| Some(answer.snapshot?.state()));
    matches!(state, Some(TaskState::Running | TaskState::Paused | TaskState::Restarting))
}

async fn attempt(
    engine: &Arc<Engine>,
    id: &ContainerId,
    size: Option<TerminalSize>,
    actor: &Actor,
) -> Result<Started, Error> {
    let shim = gate(engine, id, size, actor).await?;
    let record = engine.record(id)?;
    let container = record.container.clone().unwrap_or_default();
    let life = status_of(&container).life + 1;
    pass(failpoint::START_WANTED).await?;
    // A client may say the size of its own terminal without knowing whether the container has one.
    let has_terminal = container.spec.as_ref().is_some_and(|spec| spec.terminal);
    if let Some(size) = size.filter(|_| has_terminal) {
        let request = ResizeRequest { size: Some(size), ..ResizeRequest::default() };
        within(SHORT, "size the terminal", shim.tasks().resize(request)).await?;
    }
    let request = StartRequest { life, actor: actor.text().to_owned() };
    let answer = within(LONG, "start the container", shim.tasks().start(request)).await;
    match answer {
        Ok(started) => {
            pass(failpoint::START_OPENED).await?;
            journal::catch_up(engine, id, life);
            let began = Began { life, pid: started.pid, shim_pid: 0, at: started.started_at };
            engine.store.update(id, |record| live::began(record, &began, actor.text()));
            Ok(Started { already_running: false, pid: started.pid, life })
        }
        // Nothing is known of whether it began; its shim will tell.
        Err(error @ Error::TimedOut { .. }) => Err(error),
        Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
        Err(error) => {
            failed(engine, id, life, &error).await;
            Err(error)
        }
    }
}

/// The connection to a shim whose init waits at the gate.
async fn gate(
    engine: &Arc<Engine>,
    id: &ContainerId,
    size: Option<TerminalSize>,
    actor: &Actor,
) -> Result<Shim, Error> {
    let is_good = || knows_shim(engine, id) && !engine.is_unsettled(id);
    if let Some(shim) = engine.shim_at_gate(id).filter(|_| is_good()) {
        return Ok(shim);
    }
    release::settle(engine, id).await?;
    let record = engine.record(id)?;
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.make().map_err(Error::io(format!("make {}", bundle.path().display())))?;
    match assemble(engine, &record, size, actor).await {
        Ok(shim) => Ok(shim),
        Err(error) => {
            note_error(engine, id, &chain(&error));
            if let Err(left) = release::settle(engine, id).await {
                tracing::error!(container_id = %id, error = %chain(&left), "a failed start left something");
                supervise::later(engine, id);
            }
            Err(error)
        }
    }
}

/// Whether the record tells of the shim that there is: an engine may have been cut off between making one and saying
/// so, and then nobody knows what it holds.
fn knows_shim(engine: &Engine, id: &ContainerId) -> bool {
    engine.container(id).is_ok_and(|container| status_of(&container).shim_pid != 0)
}

/// Ends a shim that an engine was cut off over before its record told of it, or before its gate was opened by a restart
/// policy: whoever starts the container makes another one, and until then it holds nothing. The caller holds the
/// container's turn.
///
/// # Errors
/// When the shim will not end, or the network service fails.
pub async fn forget_cut_off(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    if engine.is_new(id) && (!knows_shim(engine, id) || revive::is_overdue(engine, id)) {
        engine.recovered(format!("a start of container {id} was cut off and is undone"));
        release::settle(engine, id).await?;
    }
    Ok(())
}

async fn assemble(
    engine: &Arc<Engine>,
    record: &ContainerRecord,
    size: Option<TerminalSize>,
    actor: &Actor,
) -> Result<Shim, Error> {
    let id = store::record_id(record)?;
    let assembled = assemble::assemble(engine, record, size, None).await?;
    assemble::enter(engine, &id, &assembled, &Made::Again(actor))?;
    Ok(assembled.shim)
}

/// The shim said that the program cannot be executed. The container stays as it was, or goes if that was asked for.
async fn failed(engine: &Arc<Engine>, id: &ContainerId, life: u64, error: &Error) {
    let exit = Exit {
        life,
        reason: chain(error),
        finished_at: Some(store::now()),
        exit_code: exit_code(error),
        ..Exit::default()
    };
    journal::catch_up(engine, id, 0);
    let record = engine.store.update(id, |record| live::ended(record, &exit, ""));
    note_error(engine, id, &exit.reason);
    let auto_remove = record
        .and_then(|record| record.container.clone()?.spec)
        .is_some_and(|spec: ContainerSpec| spec.auto_remove);
    let cleared = if auto_remove {
        release::release(engine, id, How { volumes: true, durable: false, told: true }).await
    } else {
        release::settle(engine, id).await
    };
    if let Err(left) = cleared {
        tracing::error!(container_id = %id, error = %chain(&left), "a failed start left something");
        supervise::later(engine, id);
    }
}

/// docker's codes for a container whose program never ran.
fn exit_code(error: &Error) -> u32 {
    match error.reason() {
        reason::COMMAND_NOT_FOUND => 127,
        reason::COMMAND_NOT_EXECUTABLE => 126,
        _ => 128,
    }
}

fn note_error(engine: &Engine, id: &ContainerId, text: &str) {
    engine.store.update(id, |record| {
        text.clone_into(&mut record.container.as_mut()?.status.as_mut()?.error);
        Change::silent()
    });
}
