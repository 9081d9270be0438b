//! `inspect`: all of one container. A read: it waits for nobody's operation.

use std::sync::Arc;

use davit_proto::container::{InspectRequest, InspectResponse};

use super::{exec, live, size};
use crate::engine::Engine;
use crate::error::Error;

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
    Ok(InspectResponse { container: Some(container), execs })
}
