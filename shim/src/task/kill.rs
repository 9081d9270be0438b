//! Kill: one signal.

use davit_proto::journal::What;
use davit_sys::process::SIGKILL;
use tokio::time::Instant;

use super::driver::Driver;
use super::end;
use super::error::TaskError;
use super::note::Asked;
use super::state::{Command, Denied, Task};

/// A signal and who gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// Number, 1–64.
    pub signal: i32,
    /// Every process of the task; only SIGKILL can be sent to all without missing one.
    pub all: bool,
    /// Who asks; may be empty.
    pub actor: String,
}

/// Sends a signal to init, or kills everything. Of a frozen container only SIGKILL is heard at once, and any other
/// signal when it goes on; of one that waits for its next life, that life is what SIGKILL ends.
pub(super) async fn kill(driver: &mut Driver, kill: Kill) -> Result<(), TaskError> {
    let Kill { signal, all, actor } = kill;
    driver.admit(Command::Kill { is_last: signal == SIGKILL })?;
    if let Task::Restarting { exit, .. } = &driver.task {
        let exit = exit.clone();
        driver.note(What::Signal { signal: signal.unsigned_abs() }, actor);
        end::finish(driver, exit).await;
        return Ok(());
    }
    send(driver, signal, all)?;
    driver.note(What::Signal { signal: signal.unsigned_abs() }, actor.clone());
    driver.asked = Some(Asked { signal, actor, at: Instant::now(), stop: false, overdue: None });
    Ok(())
}

/// Sends a signal to init, or kills everything.
pub(super) fn send(driver: &Driver, signal: i32, all: bool) -> Result<(), TaskError> {
    let body = driver.task.living().ok_or(Denied::NotRunning)?;
    if all {
        return Ok(body.cgroup.kill()?);
    }
    match body.init.signal(signal) {
        // It has ended, and its end will be seen in a moment.
        Err(error) if is_gone(&error) => Ok(()),
        sent => sent.map_err(|source| TaskError::Signal { signal, source }),
    }
}

pub(super) fn is_gone(error: &std::io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.raw_os_error() == Some(ESRCH)
}
