//! The end of a life, and of everything that hangs on the shim.

use std::time::{Duration, SystemTime};

use davit_proto::journal::What;
use davit_proto::time::timestamp;
use davit_proto::types::{Exit, exit::How};
use davit_sys::file::Durability;
use davit_sys::process;
use tokio::time::{Instant, sleep, timeout};

use super::driver::{Body, DRAIN, Driver};
use super::error::TaskError;
use super::note::cause_of_exit;
use super::state::{Event, Task};
use super::{oom, restart};
use crate::failpoint::{self, pass};
use crate::init::Init;

/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// The end of a life.
#[derive(Debug)]
pub(super) struct Ending {
    /// How.
    pub exit: Exit,
    /// When it was seen.
    pub finished_at: SystemTime,
    /// Why, for the journal.
    pub cause: String,
}

/// Init has ended and was reaped.
pub(super) async fn end(driver: &mut Driver, status: process::Exit) {
    let finished_at = SystemTime::now();
    driver.kill_at = None;
    let oom = driver.task.init().and_then(oom::kills);
    let cause = cause_of_exit(status, driver.asked.take().as_ref(), oom);
    let exit = match &driver.task {
        Task::Running { life, started_at, .. } | Task::Paused { life, started_at, .. } => Exit {
            life: *life,
            how: Some(how(status)),
            exit_code: status.code().into(),
            started_at: Some(timestamp(*started_at)),
            finished_at: Some(timestamp(finished_at)),
            oom_killed: oom.is_some(),
            reason: String::new(),
        },
        // No life had begun, so there is none to record.
        _ => Exit {
            how: Some(how(status)),
            exit_code: 125,
            finished_at: Some(timestamp(finished_at)),
            reason: format!("init ended before it was started: {status}"),
            ..Exit::default()
        },
    };
    let shares_pids = driver.task.init().is_some_and(|body| !body.init.shape().pid.is_own());
    if shares_pids {
        // In a pid namespace of its own the kernel has killed them with init.
        driver.kill_all();
    }
    if let Task::Paused { init, .. } = &driver.task
        && let Err(error) = init.cgroup.begin_thaw()
    {
        tracing::error!(%error, "cannot thaw the cgroup of a container that ended");
    }
    conclude(driver, Ending { exit, finished_at, cause }).await;
}

/// Makes the exit true: log whole, record on disk, in the journal, then published; then another life follows, or who
/// is attached is told.
pub(super) async fn conclude(driver: &mut Driver, ending: Ending) {
    let Ending { exit, finished_at, cause } = ending;
    let life = driver.task.init().and_then(|body| body.life.as_ref());
    let stdio = life.map(|life| life.stdio.clone());
    let durability = life.map_or(Durability::Synced, |life| life.durability);
    if let Some(stdio) = &stdio {
        match timeout(DRAIN, stdio.drain()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last output was not read"),
            Err(_elapsed) => tracing::error!("the last output was not read in time"),
        }
    }
    if exit.life > 0 {
        let recorded = pass(failpoint::ENDED)
            .map_err(TaskError::Failpoint)
            .and_then(|()| Ok(driver.bundle.record_exit(&exit, durability)?));
        if let Err(error) = recorded {
            // What is true stays true; whoever asks while the shim lives is told.
            let error = davit_proto::status::chain(&error);
            tracing::error!(%error, "the exit could not be recorded");
        }
        match pass(failpoint::RECORDED) {
            Ok(()) => driver.note_at(exit.life, finished_at, entry(&exit), cause),
            Err(error) => tracing::error!(%error, "the journal does not tell of the exit"),
        }
    }
    if exit.life > 0 && restart::follows(driver, &exit) {
        driver.lives.last = Some(exit.clone());
        driver.apply(Event::Waits { exit });
        if let Some(body) = driver.task.init_mut() {
            body.init.release_mounts();
        }
    } else {
        finish(driver, exit).await;
    }
}

/// No other life follows: what stands on disk is published and told to who is attached.
pub(super) async fn finish(driver: &mut Driver, exit: Exit) {
    driver.lives.due = None;
    let stdio = driver.task.init().and_then(|body| body.life.as_ref()).map(|life| life.stdio.clone());
    driver.apply(Event::Ended { exit: exit.clone() });
    if let Some(stdio) = stdio {
        // Without a pump nobody is attached.
        let _ = stdio.finish(exit).await;
    }
}

pub(super) fn how(status: process::Exit) -> How {
    match status {
        process::Exit::Exited(code) => How::Code(code.into()),
        process::Exit::Signaled(signal) => How::Signal(signal.into()),
    }
}

fn entry(exit: &Exit) -> What {
    What::Exit {
        exit_code: exit.exit_code,
        signal: match exit.how {
            Some(How::Signal(signal)) => Some(signal),
            Some(How::Code(_)) | None => None,
        },
        oom: exit.oom_killed,
        unborn: exit.started_at.is_none(),
    }
}

/// Lets go of everything, in an order in which nothing is left behind. Called when nobody waits any more.
pub async fn teardown(task: Task<Body>) {
    let alive = task.living().is_some();
    let Some(Body { init, cgroup, lock, ports, names, relays, .. }) = task.into_init() else { return };
    if alive {
        if let Err(error) = cgroup.kill() {
            tracing::error!(%error, "cannot kill the container's cgroup");
        }
        wait_until_gone(&init).await;
    }
    if let Some(names) = names {
        names.end().await;
    }
    // Namespaces first: the overlay must be gone before somebody else may mount its upper directory.
    drop(init);
    if let Err(error) = cgroup.remove() {
        tracing::error!(%error, "cannot remove the container's cgroup");
    }
    drop((relays, ports, lock));
}

async fn wait_until_gone(init: &Init) {
    let deadline = Instant::now() + GONE;
    while Instant::now() < deadline {
        match init.reap() {
            Ok(None) => sleep(Duration::from_millis(1)).await,
            Ok(Some(_)) => return,
            Err(error) => {
                tracing::error!(%error, "cannot reap init");
                return;
            }
        }
    }
    tracing::error!("init does not die");
}
