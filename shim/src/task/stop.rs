//! Stop: a signal now, SIGKILL for all later. The clock is the shim's and runs on when the caller goes.

use std::time::Duration;

use tokio::time::Instant;

use super::driver::Driver;
use super::error::TaskError;
use super::kill::{Kill, kill};
use super::state::{Admit, Command};

/// How a task is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The signal to ask with.
    pub signal: i32,
    /// How long to wait before SIGKILL; none for ever.
    pub timeout: Option<Duration>,
}

/// Sends the signal and sets the clock. Asked again, the earlier end of the two holds.
pub(super) fn stop(driver: &mut Driver, stop: Stop) -> Result<(), TaskError> {
    if driver.admit(Command::Stop)? == Admit::Repeat {
        return Ok(());
    }
    let kill_at = stop.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    driver.kill_at = match (driver.kill_at, kill_at) {
        (Some(before), Some(now)) => Some(before.min(now)),
        (before, now) => before.or(now),
    };
    kill(driver, Kill { signal: stop.signal, all: false })
}

/// The clock has run down.
pub(super) fn time_is_over(driver: &mut Driver) {
    driver.kill_at = None;
    driver.kill_all();
}
