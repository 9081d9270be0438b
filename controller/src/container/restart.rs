//! Stops a container, when it runs, and starts it.

use std::sync::Arc;

use davit_proto::id::ContainerId;

use super::start;
use super::stop::{self, How};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::events;

/// Restarts a container.
///
/// # Errors
/// When it does not end, or cannot be started.
pub async fn restart(engine: &Arc<Engine>, id: &ContainerId, how: How, actor: &Actor) -> Result<(), Error> {
    stop::stop(engine, id, how, actor).await?;
    start::start(engine, id, None, actor).await?;
    let container = engine.container(id)?;
    let event = events::of_container(&container, "restart", [("cause", actor.text().to_owned())]);
    engine.store.note(event);
    Ok(())
}
