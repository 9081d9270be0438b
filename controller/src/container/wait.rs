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
/// When there is no such container.
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

/// The life whose end is the next one.
fn next_exit(status: &ContainerStatus) -> u64 {
    if runs(status) { status.life } else { status.life + 1 }
}

fn status(seen: &Seen) -> ContainerStatus {
    seen.record.container.as_ref().map(live::status_of).unwrap_or_default()
}
