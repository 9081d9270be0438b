//! Freezes all processes of a container.

use std::sync::Arc;

use davit_proto::container::Phase;
use davit_proto::id::ContainerId;
use davit_proto::task::PauseRequest;

use super::journal;
use super::live::status_of;
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// Freezes all processes of a container.
///
/// # Errors
/// When it does not run, is frozen already, or its shim cannot be reached.
pub async fn pause(engine: &Arc<Engine>, id: &ContainerId, actor: &Actor) -> Result<(), Error> {
    engine.heard_from(id).await;
    let container = engine.container(id)?;
    let status = status_of(&container);
    let refused = |phase| Error::Phase { verb: "pause", container: container.name.clone(), phase };
    match status.phase() {
        Phase::Running => {}
        Phase::Paused => return Err(refused("already paused")),
        Phase::Restarting => return Err(refused("restarting: wait until it runs")),
        Phase::Unknown => return Err(Error::Unreachable { id: id.clone(), why: status.error }),
        Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing | Phase::Unspecified => {
            return Err(Error::NotRunning { verb: "pause", container: container.name, id: id.clone() });
        }
    }
    let request = PauseRequest { actor: actor.text().to_owned() };
    within(SHORT, "pause the container", engine.shim(id)?.tasks().pause(request)).await?;
    journal::catch_up(engine, id, 0);
    Ok(())
}
