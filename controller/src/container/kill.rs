//! Sends a signal to a container's init.

use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::{Phase, WaitCondition};
use davit_proto::id::ContainerId;
use davit_proto::reason;
use davit_proto::status::Classify as _;
use davit_proto::task::KillRequest;
use davit_proto::wanted::Want;

use super::live::status_of;
use super::{journal, signal, wait, want};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// The signal that nobody survives.
pub const SIGKILL: u32 = 9;
/// The signal that asks for an end where nothing else is said.
const SIGTERM: u32 = 15;
/// How long a container may take to be gone that was sent SIGKILL.
const ENDING: Duration = Duration::from_secs(10);

/// Sends a signal. `SIGKILL` and the container's own stop signal also say that it shall not run. After `SIGKILL` it is
/// answered when the container is gone.
///
/// # Errors
/// When the container does not run, or its shim cannot be reached.
pub async fn kill(engine: &Arc<Engine>, id: &ContainerId, number: u32, actor: &Actor) -> Result<(), Error> {
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
    if number == SIGKILL || signal::parse(&container.stop_signal).unwrap_or(SIGTERM) == number {
        want::want(engine, id, Want::Stop)?;
    }
    let Ok(shim) = engine.shim(id) else { return Err(not_running()) };
    let request = KillRequest { signal: number, actor: actor.text().to_owned(), ..KillRequest::default() };
    match within(SHORT, "kill the container", shim.tasks().kill(request)).await {
        Ok(_) => {}
        Err(error) if error.reason() == reason::CONTAINER_NOT_RUNNING => return Err(not_running()),
        Err(error) => return Err(error),
    }
    journal::catch_up(engine, id, 0);
    if number == SIGKILL {
        // Whoever starts it next must not find it running still. What the kernel does not let go of yet was sent its
        // signal all the same, and what goes with its end is gone.
        let _ = tokio::time::timeout(ENDING, wait::wait(engine, id, WaitCondition::NotRunning)).await;
    }
    Ok(())
}
