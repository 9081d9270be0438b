//! `inspect`: all of one container. A read: it waits for nobody's operation.

use std::sync::Arc;

use davit_proto::container::{InspectRequest, InspectResponse};
use davit_proto::id::ContainerId;
use davit_proto::task::StateRequest;
use davit_proto::types::Health;

use super::{exec, live, size};
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// Tells all of one container.
///
/// # Errors
/// When there is no such container, or its size cannot be measured.
pub async fn inspect(engine: &Arc<Engine>, request: InspectRequest) -> Result<InspectResponse, Error> {
    let id = engine.find(&request.container)?;
    let mut container = engine.container(&id)?;
    if request.size {
        size::measure(engine, &mut container).await?;
    }
    let runs = live::is_live(live::status_of(&container).phase());
    let execs = if runs { exec::running(engine, &id).await } else { Vec::new() };
    if let Some(status) = container.status.as_mut().filter(|status| runs && !status.health.is_empty()) {
        status.health_log = health(engine, &id).await;
    }
    Ok(InspectResponse { container: Some(container), execs })
}

/// What the last health checks said; nothing when the shim does not tell.
async fn health(engine: &Arc<Engine>, id: &ContainerId) -> Option<Health> {
    let shim = engine.shim(id).ok()?;
    let state = within(SHORT, "read the health log", shim.tasks().state(StateRequest {})).await.ok()?;
    state.snapshot?.health
}
