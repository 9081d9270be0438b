//! `why`: each change of a container's state with its cause, also of one that was removed a while ago. A read: it waits
//! for nobody's operation.

use davit_proto::container::WhyResponse;

use crate::engine::Engine;
use crate::error::Error;

/// Tells what happened to a container, and why.
///
/// # Errors
/// When nobody remembers such a container, or several ids begin so.
pub fn why(engine: &Engine, text: &str) -> Result<WhyResponse, Error> {
    let past = engine.store.why(text)?;
    let name = match past.name {
        Some(name) => name,
        None => engine.container(&past.id.parse()?)?.name,
    };
    Ok(WhyResponse { entries: past.entries, container_id: past.id, name })
}
