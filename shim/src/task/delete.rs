//! Delete: ends the shim.

use davit_sys::process::SIGKILL;
use tokio::time::Instant;

use super::driver::Driver;
use super::end;
use super::error::TaskError;
use super::note::Asked;
use super::restart::After;
use super::state::{Command, Task};

/// Ends a shim whose task does not run. By force a running one is killed; then the end of its life ends the shim.
pub(super) async fn delete(driver: &mut Driver, force: bool) -> Result<(), TaskError> {
    driver.admit(Command::Delete { force })?;
    match &driver.task {
        Task::Running { .. } | Task::Paused { .. } => {
            driver.lives.after = After::Nothing;
            driver.kill_all();
            let (signal, actor) = (SIGKILL, "a removal by force".to_owned());
            driver.asked = Some(Asked { signal, actor, at: Instant::now(), stop: false, overdue: None });
        }
        Task::Restarting { exit, .. } => {
            let exit = exit.clone();
            end::finish(driver, exit).await;
        }
        // It ends by itself, once everybody was told.
        Task::Stopped { .. } => {}
        Task::Empty | Task::Prepared { .. } | Task::Created { .. } => driver.ending = true,
    }
    Ok(())
}
