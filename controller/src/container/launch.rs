//! The first half of a start: a shim with namespaces, cgroup and a waiting init, which knows nothing of image or
//! command.

use std::io::PipeWriter;
use std::sync::Arc;
use std::time::Duration;

use davit_proto::id::ContainerId;
use davit_proto::status::{Classify as _, ErrorKind};
use davit_proto::task::{NamespaceMode, PrepareRequest, PrepareResponse, Shape, TaskState};
use tokio::time::timeout;

use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint;
use crate::shim::{self, Pids, Process, Shim};

/// How long a shim that went away may take to end.
const DYING: Duration = Duration::from_secs(1);

/// A shim at the end of its first half.
#[derive(Debug)]
pub struct Prepared {
    /// The connection.
    pub shim: Shim,
    /// What it made.
    pub made: PrepareResponse,
    /// The shim ends, and all with it, when this closes before it is configured.
    pub hold: PipeWriter,
}

/// The points that are passed.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    /// The shim was launched.
    pub launched: &'static str,
    /// It has made the namespaces.
    pub prepared: &'static str,
}

/// Launches a shim and lets it make what `shape` asks for.
///
/// # Errors
/// When the shim does not come up or the kernel refuses.
pub async fn prepare(
    engine: &Arc<Engine>,
    id: &ContainerId,
    shape: Shape,
    steps: Steps,
) -> Result<Prepared, Error> {
    let launched = shim::launch(&engine.config, &engine.program, id, pids(&shape)).await?;
    engine.shim_at(launched.shim.clone(), TaskState::Empty);
    failpoint::pass(steps.launched).await?;
    let request = PrepareRequest { container_id: id.to_string(), shape: Some(shape) };
    let mut tasks = launched.shim.tasks();
    let made = shim::within(shim::LONG, "prepare the container", tasks.prepare(request)).await?;
    failpoint::pass(steps.prepared).await?;
    Ok(Prepared { shim: launched.shim, made, hold: launched.hold })
}

/// The first half of a container: what was prepared ahead, or a shim of its own.
///
/// # Errors
/// When the shim does not come up or the kernel refuses.
pub async fn first_half(
    engine: &Arc<Engine>,
    id: &ContainerId,
    shape: Shape,
    prepared: Option<Prepared>,
) -> Result<Prepared, Error> {
    const STEPS: Steps = Steps { launched: failpoint::CREATE_LAUNCHED, prepared: failpoint::CREATE_PREPARED };
    match prepared {
        Some(prepared) => Ok(prepared),
        None => prepare(engine, id, shape, STEPS).await,
    }
}

/// Whether the shim of a container is gone beyond doubt. One that does not answer is given a moment to end.
pub async fn is_gone(engine: &Engine, id: &ContainerId, failure: &Error) -> bool {
    match shim::find(&engine.config.shim_dir(id), &engine.facts.boot_id) {
        Ok(Process::Gone) => true,
        Ok(Process::Alive(_, pidfd)) if broke_off(failure) => {
            matches!(timeout(DYING, shim::ended(pidfd)).await, Ok(Ok(())))
        }
        Ok(Process::Alive(..) | Process::Unnamed) | Err(_) => false,
    }
}

/// Whether a failure may be that of a connection: a peer that answers says more.
fn broke_off(failure: &Error) -> bool {
    matches!(failure.kind(), ErrorKind::Unavailable | ErrorKind::Cancelled | ErrorKind::Internal)
}

fn pids(shape: &Shape) -> Pids {
    match shape.pid.as_ref().map(|pid| pid.mode()) {
        Some(NamespaceMode::Host | NamespaceMode::Joined) => Pids::Shared,
        Some(NamespaceMode::Own | NamespaceMode::Unspecified) | None => Pids::Own,
    }
}
