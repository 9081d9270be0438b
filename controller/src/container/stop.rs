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
use super::{journal, signal, wait, want};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
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

/// Stops a container. One that does not run is answered as stopped, and is not started again by its policy.
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
    if runs(engine, id, &container)? {
        return ask(engine, id, &container, (how, actor)).await;
    }
    if !live::may_restart(container.spec.as_ref()) {
        return Ok(status_of(&container).exit);
    }
    // Whoever may be starting it by its policy is waited for.
    let turn = engine.turn(id).await;
    want::want(engine, id, Want::Stop)?;
    let container = engine.container(id)?;
    if runs(engine, id, &container)? {
        drop(turn);
        return ask(engine, id, &container, (how, actor)).await;
    }
    // One that waits at its gate keeps what its shim holds.
    if !engine.has_shim(id) {
        engine.store.update(id, live::alone);
    }
    Ok(status_of(&container).exit)
}

/// Whether there is somebody to be asked to stop.
fn runs(engine: &Engine, id: &ContainerId, container: &Container) -> Result<bool, Error> {
    let status = status_of(container);
    match status.phase() {
        Phase::Running | Phase::Paused => Ok(true),
        Phase::Restarting => Ok(engine.has_shim(id)),
        Phase::Unknown => Err(Error::Unreachable { id: id.clone(), why: status.error }),
        Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing | Phase::Unspecified => Ok(false),
    }
}

async fn ask(
    engine: &Arc<Engine>,
    id: &ContainerId,
    container: &Container,
    (how, actor): (How, &Actor),
) -> Result<Option<Exit>, Error> {
    want::want(engine, id, Want::Stop)?;
    let signal = how.signal.or_else(|| signal::parse(&container.stop_signal)).unwrap_or(15);
    let patience = how.timeout.unwrap_or_else(|| own_timeout(container));
    let (timeout, limit) = match how.forever {
        true => (None, FOREVER),
        false => (Some(proto_duration(patience)), patience.saturating_add(LONG)),
    };
    let request = StopRequest { signal, timeout, actor: actor.text().to_owned() };
    let asked = match engine.shim(id) {
        Ok(shim) => within(limit, "stop the container", shim.tasks().stop(request)).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(answer) => {
            journal::catch_up(engine, id, 0);
            if let Some(exit) = &answer.exit {
                engine.store.update(id, |record| live::ended(record, exit, actor.text()));
            }
            engine.store.update(id, live::alone);
            Ok(answer.exit)
        }
        // It ended by itself, or its shim was killed: whoever supervises it finds out.
        Err(error) if is_over(&error) => {
            let ended = wait::wait(engine, id, WaitCondition::NotRunning);
            tokio::time::timeout(LONG, ended).await.map_err(|_| error)?
        }
        Err(error) => Err(error),
    }
}

/// Whether the error may mean that there was nothing left to stop.
fn is_over(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::FailedPrecondition | ErrorKind::Cancelled)
        || matches!(error, Error::Peer { source, .. } if source.reason.is_empty())
}

/// How long a container has to end when it is asked to.
pub(super) fn own_timeout(container: &Container) -> Duration {
    let own = container.spec.as_ref().and_then(|spec| spec.stop_timeout.as_ref());
    own.map_or(DEFAULT, duration)
}
