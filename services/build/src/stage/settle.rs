//! The end of a build: what was said after the last layer.

use super::State;
use crate::build::Build;
use crate::error::Error;

/// What was said after the last layer becomes an image of its own.
///
/// # Errors
/// The engine refuses.
pub async fn settle(build: &Build, mut state: State) -> Result<String, Error> {
    match &state.image {
        Some(image) if state.pending.is_empty() => return Ok(image.id.clone()),
        _ => {}
    }
    let Some(last) = state.pending.pop() else {
        return Err(Error::Invalid("the image would hold nothing and say nothing".to_owned()));
    };
    let created = state.image.as_ref().and_then(|image| image.told.image.as_ref()?.created_at);
    // With its first name at once: what is cut off here leaves no image that nobody asked for. Without one it is a step.
    let name = match build.options.tags.first() {
        Some(tag) => tag.clone(),
        None => state.key(&last, build.epoch).reference(),
    };
    let mut open = state.open(last, name);
    // The time of what it is based on: said again, it is the same image again.
    open.created_at = build.epoch.stamp().or(created);
    build.engine.commit(open, None).await
}
