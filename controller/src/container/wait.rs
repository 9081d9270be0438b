//! Waits for what a container does next. Asks nobody: whoever supervises the shim brings the news.

use std::sync::Arc;

use davit_proto::container::{ContainerStatus, Phase, WaitCondition};
use davit_proto::id::ContainerId;
use davit_proto::types::Exit;

use super::live;
use crate::engine::Engine;
use crate::error::Error;
use crate::store::{Seen, Unresolved};

/// Waits until the condition is met, for as long as that takes, and answers with the last exit.
///
/// # Errors
/// When there is no such container, or it will never be healthy and that was waited for.
pub async fn wait(
    engine: &Arc<Engine>,
    id: &ContainerId,
    condition: WaitCondition,
) -> Result<Option<Exit>, Error> {
    let missing = || Unresolved::NotFound(id.to_string());
    let mut watched = engine.store.watch(id).ok_or_else(missing)?;
    let awaited = next_exit(&status(&watched.borrow()));
    loop {
        let (now, removed) = {
            let seen = watched.borrow_and_update();
            (status(&seen), seen.removed)
        };
        let met = match condition {
            WaitCondition::Unspecified | WaitCondition::NotRunning => !runs(&now),
            WaitCondition::NextExit => now.exit.as_ref().is_some_and(|exit| exit.life >= awaited),
            WaitCondition::Removed => false,
            WaitCondition::Healthy => is_healthy(&watched.borrow(), id)?,
        };
        // To one that was removed nothing else will ever happen.
        if met || removed || watched.changed().await.is_err() {
            return Ok(now.exit);
        }
    }
}

/// One that is being removed may still run for a moment.
fn runs(status: &ContainerStatus) -> bool {
    live::is_live(status.phase()) || (status.phase() == Phase::Removing && status.pid != 0)
}

/// Whether its check passes. One that waits for its restart may yet pass it; what does not run, or is not asked, never does.
fn is_healthy(seen: &Seen, id: &ContainerId) -> Result<bool, Error> {
    let container = seen.record.container.clone().unwrap_or_default();
    let status = live::status_of(&container);
    let waits = status.phase() == Phase::Restarting && !seen.removed;
    if !waits && (!runs(&status) || seen.removed) {
        return Err(Error::NotRunning {
            verb: "wait for the health of",
            container: container.name,
            id: id.clone(),
        });
    }
    if status.health.is_empty() && !waits {
        return Err(Error::NoHealthCheck { container: container.name });
    }
    Ok(!waits && status.health == "healthy")
}

/// The life whose end is the next one.
fn next_exit(status: &ContainerStatus) -> u64 {
    if runs(status) { status.life } else { status.life + 1 }
}

fn status(seen: &Seen) -> ContainerStatus {
    seen.record.container.as_ref().map(live::status_of).unwrap_or_default()
}
