//! Pause: freezes every process of the task.

use davit_proto::journal::What;

use super::driver::Driver;
use super::error::TaskError;
use super::state::{Command, Denied, Event};

/// Freezes the task; done when the kernel says that every process stands still. One that cannot be frozen, because a
/// process sleeps in the kernel and does not come back, runs on as before.
pub(super) async fn pause(driver: &mut Driver, actor: String) -> Result<(), TaskError> {
    driver.admit(Command::Pause)?;
    let body = driver.task.living().ok_or(Denied::NotRunning)?;
    if let Err(error) = body.cgroup.freeze().await {
        if let Err(error) = body.cgroup.begin_thaw() {
            tracing::error!(%error, "a container that did not freeze may not thaw");
        }
        return Err(error.into());
    }
    driver.note(What::Pause, actor);
    driver.apply(Event::Paused);
    Ok(())
}
