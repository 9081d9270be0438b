//! Removes a container and all that it holds.

use std::sync::Arc;

use davit_proto::container::Phase;
use davit_proto::id::ContainerId;

use super::live::status_of;
use super::release;
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::store::Change;
use crate::supervise;

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// Kill it first when it runs.
    pub force: bool,
    /// Remove its volumes without a name too.
    pub volumes: bool,
}

/// Removes a container. A caller who goes away does not stop it midway.
///
/// # Errors
/// When it runs and `force` is not said, or something of it cannot be released.
pub async fn remove(engine: &Arc<Engine>, id: &ContainerId, how: How, actor: &Actor) -> Result<(), Error> {
    let (engine, id, actor) = (engine.clone(), id.clone(), actor.clone());
    let removed = tokio::spawn(async move {
        let _turn = engine.turn(&id).await;
        engine.heard_from(&id).await;
        admit(&engine, &id, how)?;
        mark(&engine, &id, how.volumes, &actor);
        pass(failpoint::REMOVE_MARKED).await?;
        let released = release::How { volumes: how.volumes, durable: true, told: true };
        let outcome = release::release(&engine, &id, released).await;
        if outcome.is_err() {
            supervise::later(&engine, &id);
        }
        outcome
    });
    removed.await.map_err(|error| Error::Task { doing: "remove the container", why: error.to_string() })?
}

fn admit(engine: &Arc<Engine>, id: &ContainerId, how: How) -> Result<(), Error> {
    let container = engine.container(id)?;
    let status = status_of(&container);
    let running = |advice| Error::Running { verb: "remove", container: container.name.clone(), advice };
    match status.phase() {
        _ if how.force => Ok(()),
        Phase::Running | Phase::Restarting => {
            Err(running("stop the container before removing or force remove"))
        }
        Phase::Paused => {
            let phase = "paused: unpause and stop it before removing or force remove";
            Err(Error::Phase { verb: "remove", container: container.name.clone(), phase })
        }
        Phase::Unknown => Err(Error::Unreachable { id: id.clone(), why: status.error }),
        Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing | Phase::Unspecified => Ok(()),
    }
}

/// From here on it is being removed, whatever happens.
pub fn mark(engine: &Engine, id: &ContainerId, volumes: bool, actor: &Actor) {
    engine.store.update(id, |record| {
        record.remove_volumes |= volumes;
        let status = record.container.as_mut()?.status.get_or_insert_default();
        if status.phase() == Phase::Removing {
            return Change::silent();
        }
        status.set_phase(Phase::Removing);
        Change::silent().map(|change| change.explained("is being removed", actor.text()))
    });
}
