//! Restart: the next life of the same container in the same shim, by policy or because a person would not wait.
//!
//! ```text
//!   exit on disk ─▶ journal ─▶ policy says yes ─▶ RESTARTING published ─▶ mounts let go ─▶ delay
//!     ─▶ `wanted` read again ─▶ cgroup emptied ─▶ init prepared in the kept namespaces ─▶ configured ─▶ streams handed
//!        to the pump, which goes on with log, offsets and clients ─▶ journal ─▶ gate opened ─▶ RUNNING published
//! ```
//!
//! A life that cannot begin is a life that failed, with a record of its own, and the policy decides on.

use std::time::{Duration, SystemTime};

use davit_proto::journal::What;
use davit_proto::time::timestamp;
use davit_proto::types::Exit;
use davit_proto::wanted::{Want, Wanted};
use tokio::time::Instant;

use super::configure;
use super::driver::{Body, Driver};
use super::end::{self, Ending};
use super::error::TaskError;
use super::oom::Alarm;
use super::policy::{Next, Restarts, Shown, decide};
use super::state::{Denied, Event, Task};
use crate::failpoint::{self, pass};
use crate::init::Init;

/// What follows the present life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum After {
    /// What the policy says.
    #[default]
    Policy,
    /// Nothing: somebody asked for its end.
    Nothing,
    /// Another life, whatever the policy, unless it is wanted stopped.
    Life,
}

/// The lives of one container in one shim.
#[derive(Debug, Default)]
pub(super) struct Lives {
    pub after: After,
    pub restarts: Restarts,
    /// When the next life begins.
    pub due: Option<Instant>,
    /// When the present one began.
    pub began: Option<Instant>,
    /// How the last one ended.
    pub last: Option<Exit>,
}

impl Lives {
    /// A person starts the container: whatever failed before is forgotten.
    pub fn start_over(&mut self) {
        *self = Self { last: self.last.take(), ..Self::default() };
    }
}

/// Decides what follows a life that is over, whose end stands on disk and in the journal. True when one more will
/// come, which is in the journal then.
pub(super) fn follows(driver: &mut Driver, exit: &Exit) -> bool {
    let lived = driver.lives.began.take().map_or(Duration::ZERO, |began| began.elapsed());
    let before = driver.lives.restarts;
    let Some(wanted) = wanted(driver) else { return false };
    let next = match driver.lives.after {
        After::Nothing => Next::Over,
        After::Life if wanted.want == Want::Run => Next::Life(before.next(lived)),
        After::Policy | After::Life => decide(&wanted, exit.exit_code, lived, before),
    };
    let policy = Shown(wanted.restart);
    match next {
        Next::Over => false,
        Next::GaveUp => {
            let times = if before.count == 1 { "restart" } else { "restarts" };
            driver.note_at(
                exit.life,
                SystemTime::now(),
                What::GaveUp,
                format!("restart policy {policy}: it failed again after {} {times}", before.count),
            );
            false
        }
        Next::Life(next) => {
            let delay_ms = u64::try_from(next.delay.as_millis()).unwrap_or(u64::MAX);
            let what = What::Restarting { delay_ms, count: next.count };
            driver.note_at(exit.life, SystemTime::now(), what, format!("restart policy {policy}"));
            driver.lives.restarts = next;
            driver.lives.due = Instant::now().checked_add(next.delay);
            true
        }
    }
}

/// What is wanted now; nothing when that cannot be known, for then nothing is begun.
fn wanted(driver: &Driver) -> Option<Wanted> {
    match driver.bundle.wanted() {
        Ok(wanted) => wanted,
        Err(error) => {
            let error = davit_proto::status::chain(&error);
            tracing::error!(%error, "cannot tell whether to restart the container: it stays stopped");
            None
        }
    }
}

/// The delay is over: the next life, unless it is no longer wanted.
pub(super) async fn is_due(driver: &mut Driver) {
    driver.lives.due = None;
    let Task::Restarting { exit, .. } = &driver.task else { return };
    let exit = exit.clone();
    let before = Restarts { count: driver.lives.restarts.count.saturating_sub(1), ..Restarts::default() };
    let goes_on = |wanted: &Wanted| match driver.lives.after {
        After::Nothing => false,
        After::Life => wanted.want == Want::Run,
        After::Policy => {
            matches!(decide(wanted, exit.exit_code, Duration::ZERO, before), Next::Life(_))
        }
    };
    let Some(wanted) = wanted(driver).filter(goes_on) else {
        return end::finish(driver, exit).await;
    };
    let Restarts { count, delay } = driver.lives.restarts;
    let cause = format!("restart policy {}, restart {count} after {delay:?}", Shown(wanted.restart));
    if let Err(ending) = live(driver, exit.life + 1, cause).await {
        end::conclude(driver, ending).await;
    }
}

/// A person starts what waits for its next life: that begins now. When it cannot, the policy does not try again.
pub(super) async fn start_now(driver: &mut Driver, life: u64, actor: String) -> Result<(), TaskError> {
    driver.lives.start_over();
    let Err(ending) = live(driver, life, actor).await else { return Ok(()) };
    let failure = super::start::failure(&ending.exit);
    driver.lives.after = After::Nothing;
    end::conclude(driver, ending).await;
    Err(failure)
}

/// Begins a life in the namespaces of the one before; fails with the end of a life that could not begin.
async fn live(driver: &mut Driver, life: u64, cause: String) -> Result<(), Ending> {
    let Err(error) = try_live(driver, life, cause).await else { return Ok(()) };
    driver.kill_remains();
    let finished_at = SystemTime::now();
    let reason = davit_proto::status::chain(&error);
    let exit = Exit {
        life,
        exit_code: super::start::exit_code(&error),
        reason: reason.clone(),
        finished_at: Some(timestamp(finished_at)),
        ..Exit::default()
    };
    Err(Ending { exit, finished_at, cause: reason })
}

async fn try_live(driver: &mut Driver, life: u64, cause: String) -> Result<(), TaskError> {
    let Task::Restarting { init: body, .. } = &mut driver.task else {
        return Err(Denied::NotConfigured.into());
    };
    body.cgroup.renew().await?;
    renew(body)?;
    configure::configure_again(&driver.bundle, body).await?;
    pass(failpoint::RENEWED).map_err(TaskError::Failpoint)?;
    driver.oom = Alarm::set(&body.cgroup);
    let pid = body.init.host_pid();
    driver.asked = None;
    driver.note_at(life, SystemTime::now(), What::Start { pid }, cause);
    let Task::Restarting { init: body, .. } = &mut driver.task else {
        return Err(Denied::NotConfigured.into());
    };
    body.init.start()?;
    driver.lives.began = Some(Instant::now());
    driver.lives.after = After::Policy;
    driver.apply(Event::Started { life, at: SystemTime::now() });
    Ok(())
}

/// A new init in the place of the dead one, whose namespaces it goes on with.
fn renew(body: &mut Body) -> Result<(), TaskError> {
    let kept = body.init.namespaces().keep().map_err(TaskError::Namespace)?;
    let fresh = Init::prepare(body.init.shape(), &body.cgroup, Some(&kept))?;
    let dead = std::mem::replace(&mut body.init, fresh);
    body.init.replace(dead);
    Ok(())
}
