//! Sends a signal to a container's init.

use std::sync::Arc;

use davit_proto::container::Phase;
use davit_proto::id::ContainerId;
use davit_proto::reason;
use davit_proto::status::Classify as _;
use davit_proto::task::KillRequest;

use super::bundle::Want;
use super::live::status_of;
use super::start;
use crate::engine::Engine;
use crate::error::Error;
use crate::events;
use crate::shim::{SHORT, within};

/// The signal that nobody survives.
pub const SIGKILL: u32 = 9;

/// Sends a signal. `SIGKILL` also says that the container shall not run.
///
/// # Errors
/// When the container does not run, or its shim cannot be reached.
pub async fn kill(engine: &Arc<Engine>, id: &ContainerId, signal: u32) -> Result<(), Error> {
    engine.heard_from(id).await;
    let container = engine.container(id)?;
    let status = status_of(&container);
    let not_running =
        || Error::NotRunning { verb: "kill", container: container.name.clone(), id: id.clone() };
    match status.phase() {
        Phase::Running | Phase::Paused | Phase::Restarting => {}
        Phase::Unknown => return Err(Error::Unreachable { id: id.clone(), why: status.error }),
        Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing | Phase::Unspecified => {
            return Err(not_running());
        }
    }
    if signal == SIGKILL {
        start::want(engine, id, Want::Stop)?;
    }
    let Ok(shim) = engine.shim(id) else { return Err(not_running()) };
    let request = KillRequest { signal, ..KillRequest::default() };
    match within(SHORT, "kill the container", shim.tasks().kill(request)).await {
        Ok(_) => {}
        Err(error) if error.reason() == reason::CONTAINER_NOT_RUNNING => return Err(not_running()),
        Err(error) => return Err(error),
    }
    engine.store.note(events::of_container(&container, "kill", [("signal", signal.to_string())]));
    Ok(())
}
