//! The first half of a start: a shim with namespaces, cgroup and a waiting init, which knows nothing of image or
//! command.

use std::io::PipeWriter;
use std::sync::Arc;

use davit_proto::id::ContainerId;
use davit_proto::task::{NamespaceMode, PrepareRequest, PrepareResponse, Shape, TaskState};

use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint;
use crate::shim::{self, Pids, Shim};

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

/// Launches a shim and lets it make what `shape` asks for.
///
/// # Errors
/// When the shim does not come up or the kernel refuses.
pub async fn prepare(engine: &Arc<Engine>, id: &ContainerId, shape: Shape) -> Result<Prepared, Error> {
    let launched = shim::launch(&engine.config, &engine.program, id, pids(&shape)).await?;
    engine.shim_at(launched.shim.clone(), TaskState::Empty);
    failpoint::pass(failpoint::CREATE_LAUNCHED).await?;
    let request = PrepareRequest { container_id: id.to_string(), shape: Some(shape) };
    let mut tasks = launched.shim.tasks();
    let made = shim::within(shim::LONG, "prepare the container", tasks.prepare(request)).await?;
    failpoint::pass(failpoint::CREATE_PREPARED).await?;
    Ok(Prepared { shim: launched.shim, made, hold: launched.hold })
}

fn pids(shape: &Shape) -> Pids {
    match shape.pid.as_ref().map(|pid| pid.mode()) {
        Some(NamespaceMode::Host | NamespaceMode::Joined) => Pids::Shared,
        Some(NamespaceMode::Own | NamespaceMode::Unspecified) | None => Pids::Own,
    }
}
