//! Thaws a container that was frozen.

use std::sync::Arc;

use davit_proto::container::Phase;
use davit_proto::id::ContainerId;
use davit_proto::task::ResumeRequest;

use super::journal;
use super::live::status_of;
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// Thaws a container that was frozen.
///
/// # Errors
/// When it is not frozen, or its shim cannot be reached.
pub async fn resume(engine: &Arc<Engine>, id: &ContainerId, actor: &Actor) -> Result<(), Error> {
    engine.heard_from(id).await;
    let container = engine.container(id)?;
    let status = status_of(&container);
    match status.phase() {
        Phase::Paused => {}
        Phase::Running | Phase::Restarting => {
            let container = container.name;
            return Err(Error::Phase { verb: "resume", container, phase: "not paused" });
        }
        Phase::Unknown => return Err(Error::Unreachable { id: id.clone(), why: status.error }),
        Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing | Phase::Unspecified => {
            return Err(Error::NotRunning { verb: "resume", container: container.name, id: id.clone() });
        }
    }
    let request = ResumeRequest { actor: actor.text().to_owned() };
    within(SHORT, "resume the container", engine.shim(id)?.tasks().resume(request)).await?;
    journal::catch_up(engine, id, 0);
    Ok(())
}
