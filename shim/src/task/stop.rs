//! Stop: a signal now, SIGKILL for all later. The clock is the shim's and runs on when the caller goes.

use std::time::Duration;

use davit_proto::journal::What;
use tokio::time::Instant;

use super::driver::Driver;
use super::end;
use super::error::TaskError;
use super::kill::send;
use super::note::Asked;
use super::restart::After;
use super::state::{Admit, Command, Event, Task};

/// How a task is asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The signal to ask with.
    pub signal: i32,
    /// How long to wait before SIGKILL; none for ever.
    pub timeout: Option<Duration>,
    /// Who asks; may be empty.
    pub actor: String,
}

/// Ends the task for good: the policy does not start it again. One that waits for its next life has ended already.
pub(super) async fn stop(driver: &mut Driver, stop: Stop) -> Result<(), TaskError> {
    if driver.admit(Command::Stop)? == Admit::Repeat {
        return Ok(());
    }
    if let Task::Restarting { exit, .. } = &driver.task {
        let exit = exit.clone();
        driver.note(entry(&stop), stop.actor);
        end::finish(driver, exit).await;
        return Ok(());
    }
    ask(driver, stop, After::Nothing)
}

/// Sends the signal and sets the clock. Asked again, the earlier end of the two holds. A frozen container is thawed,
/// for it could not hear.
pub(super) fn ask(driver: &mut Driver, stop: Stop, after: After) -> Result<(), TaskError> {
    let now = Instant::now();
    let kill_at = stop.timeout.and_then(|timeout| now.checked_add(timeout));
    driver.kill_at = match (driver.kill_at, kill_at) {
        (Some(before), Some(now)) => Some(before.min(now)),
        (before, now) => before.or(now),
    };
    // Said before the signal can end it. Who wants it over for good has the last word.
    if driver.lives.after != After::Nothing {
        driver.lives.after = after;
    }
    send(driver, stop.signal, false)?;
    driver.note(entry(&stop), stop.actor.clone());
    let Stop { signal, actor, .. } = stop;
    if let Task::Paused { init: body, .. } = &driver.task {
        body.cgroup.begin_thaw()?;
        driver.note(What::Resume, actor.clone());
        driver.apply(Event::Resumed);
    }
    driver.asked = Some(Asked { signal, actor, at: now, stop: true, overdue: None });
    Ok(())
}

fn entry(stop: &Stop) -> What {
    let timeout_ms = stop.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    What::Stop { signal: stop.signal.unsigned_abs(), timeout_ms }
}

/// The clock has run down.
pub(super) fn time_is_over(driver: &mut Driver) {
    driver.kill_at = None;
    driver.kill_all();
    let actor = driver.asked.as_ref().map(|asked| asked.actor.clone()).unwrap_or_default();
    driver.note(What::StopTimeout, actor);
    if let Some(asked) = &mut driver.asked {
        asked.overdue = Some(in_milliseconds(asked.at.elapsed()));
    }
}

/// What a person reads has no use for more.
fn in_milliseconds(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
