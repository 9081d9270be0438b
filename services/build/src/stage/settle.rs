//! The end of a build: what its image says.

use prost_types::Timestamp;

use super::State;
use crate::build::Build;
use crate::error::Error;

/// The files that a stage has come to become an image that says what this build said.
///
/// # Errors
/// The engine refuses.
pub async fn settle(build: &Build, mut state: State) -> Result<String, Error> {
    if state.image.is_none() && state.pending.is_empty() {
        return Err(Error::Invalid("the image would hold nothing and say nothing".to_owned()));
    }
    // The time of its last layer: said again, it is the same image again.
    let created: Option<Timestamp> = state.created.parse().ok();
    let mut open = state.whole();
    open.created_at = build.epoch.stamp().or(created);
    // With its first name at once: what is cut off here leaves no image that nobody asked for. Without one it is a step.
    open.reference = match build.options.tags.first() {
        Some(tag) => tag.clone(),
        None => {
            let mut key = state.key("image", build.epoch);
            [&open.config, &open.history].into_iter().for_each(|part| key.add(part));
            key.reference()
        }
    };
    build.engine.commit(open, None).await
}
