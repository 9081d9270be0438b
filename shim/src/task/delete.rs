//! Delete: ends the shim.

use super::driver::Driver;
use super::error::TaskError;
use super::state::{Command, Task};

/// Ends a shim whose task does not run. By force a running one is killed; then the end of its life ends the shim.
pub(super) fn delete(driver: &mut Driver, force: bool) -> Result<(), TaskError> {
    driver.admit(Command::Delete { force })?;
    match &driver.task {
        Task::Running { .. } => driver.kill_all(),
        // It ends by itself, once everybody was told.
        Task::Stopped { .. } => {}
        Task::Empty | Task::Prepared { .. } | Task::Created { .. } => driver.ending = true,
    }
    Ok(())
}
