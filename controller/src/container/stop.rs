//! Asks a container to end, and kills it when the time is over. The clock is the shim's.

use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::{Container, Phase, WaitCondition};
use davit_proto::id::ContainerId;
use davit_proto::status::{Classify as _, ErrorKind};
use davit_proto::task::StopRequest;
use davit_proto::time::{duration, proto_duration};
use davit_proto::types::Exit;
use davit_proto::wanted::Want;

use super::live::{self, status_of};
use super::{signal, wait, want};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::events;
use crate::shim::{LONG, within};

/// How long a container may take to end when it does not say otherwise.
const DEFAULT: Duration = Duration::from_secs(10);
/// For ever, for a caller who may hang up at any time.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How to stop.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// How long to wait before SIGKILL; the container's own time when not said.
    pub timeout: Option<Duration>,
    /// The signal to ask with; the container's own when not said.
    pub signal: Option<u32>,
    /// Never SIGKILL.
    pub forever: bool,
}

/// Stops a container. One that does not run is answered as stopped.
///
/// # Errors
/// When its shim cannot be reached, or it does not end.
pub async fn stop(
    engine: &Arc<Engine>,
    id: &ContainerId,
    how: How,
    actor: &Actor,
) -> Result<Option<Exit>, Error> {
    engine.heard_from(id).await;
    let container = engine.container(id)?;
    let status = status_of(&container);
    match status.phase() {
        Phase::Running | Phase::Paused | Phase::Restarting => {}
        Phase::Unknown => return Err(Error::Unreachable { id: id.clone(), why: status.error }),
        Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing | Phase::Unspecified => {
            return Ok(status.exit);
        }
    }
    want::want(engine, id, Want::Stop)?;
    let number = how.signal.or_else(|| signal::parse(&container.stop_signal)).unwrap_or(15);
    engine.store.note(events::of_container(&container, "kill", [("signal", number.to_string())]));
    let patience = how.timeout.unwrap_or_else(|| own_timeout(&container));
    let (timeout, limit) = match how.forever {
        true => (None, FOREVER),
        false => (Some(proto_duration(patience)), patience.saturating_add(LONG)),
    };
    let request = StopRequest { signal: number, timeout, actor: actor.text().to_owned() };
    let asked = match engine.shim(id) {
        Ok(shim) => within(limit, "stop the container", shim.tasks().stop(request)).await,
        Err(error) => Err(error),
    };
    let exit = match asked {
        Ok(answer) => {
            if let Some(exit) = &answer.exit {
                live::ended(engine, id, exit);
            }
            answer.exit
        }
        // It ended by itself, or its shim was killed: whoever supervises it finds out.
        Err(error) if is_over(&error) => {
            let ended = wait::wait(engine, id, WaitCondition::NotRunning);
            tokio::time::timeout(LONG, ended).await.map_err(|_| error)??
        }
        Err(error) => return Err(error),
    };
    engine.store.note(events::of_container(&container, "stop", []));
    Ok(exit)
}

/// Whether the error may mean that there was nothing left to stop.
fn is_over(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::FailedPrecondition | ErrorKind::Cancelled)
        || matches!(error, Error::Peer { source, .. } if source.reason.is_empty())
}

fn own_timeout(container: &Container) -> Duration {
    let own = container.spec.as_ref().and_then(|spec| spec.stop_timeout.as_ref());
    own.map_or(DEFAULT, duration)
}
