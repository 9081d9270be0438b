//! Resume: lets a frozen task go on.

use davit_proto::journal::What;

use super::driver::Driver;
use super::error::TaskError;
use super::state::{Command, Denied, Event};

/// Thaws the task; done when the kernel says that it is.
pub(super) async fn resume(driver: &mut Driver, actor: String) -> Result<(), TaskError> {
    driver.admit(Command::Resume)?;
    let body = driver.task.living().ok_or(Denied::NotRunning)?;
    body.cgroup.thaw().await?;
    driver.note(What::Resume, actor);
    driver.apply(Event::Resumed);
    Ok(())
}
