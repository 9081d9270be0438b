//! Kill: one signal.

use super::driver::Driver;
use super::error::TaskError;
use super::state::{Command, Denied};

/// A signal and who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    /// Number, 1–64.
    pub signal: i32,
    /// Every process of the task; only SIGKILL can be sent to all without missing one.
    pub all: bool,
}

/// Sends a signal to init, or kills everything.
pub(super) fn kill(driver: &mut Driver, kill: Kill) -> Result<(), TaskError> {
    driver.admit(Command::Kill)?;
    let body = driver.task.living().ok_or(Denied::NotRunning)?;
    if kill.all {
        return Ok(body.cgroup.kill()?);
    }
    let sent = body.init.signal(kill.signal);
    match sent {
        // It has ended, and its end will be seen in a moment.
        Err(error) if is_gone(&error) => Ok(()),
        sent => sent.map_err(|source| TaskError::Signal { signal: kill.signal, source }),
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.raw_os_error() == Some(ESRCH)
}
