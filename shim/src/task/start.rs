//! Start: opens the gate for one life.

use std::time::SystemTime;

use davit_proto::journal::What;
use davit_proto::time::timestamp;
use davit_proto::types::Exit;
use tokio::time::Instant;

use super::driver::Driver;
use super::end::{self, Ending};
use super::error::TaskError;
use super::restart::{self, After};
use super::state::{Admit, Command, Denied, Event, Task};
use crate::failpoint::{self, pass};

/// Which life begins, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Number of the life.
    pub life: u64,
    /// Who asks; may be empty.
    pub actor: String,
}

/// Lets init execute the container's program. A life that could not begin is over, with a record that says why.
pub(super) async fn start(driver: &mut Driver, start: Start) -> Result<(), TaskError> {
    let Start { life, actor } = start;
    if driver.admit(Command::Start { life })? == Admit::Repeat {
        return repeat(driver);
    }
    let body = match &driver.task {
        Task::Created { init, .. } => init,
        Task::Restarting { .. } => return restart::start_now(driver, life, actor).await,
        _ => return Err(Denied::NotConfigured.into()),
    };
    // The number is used up before the program can do anything, so that no life is lived twice.
    let pid = body.init.host_pid();
    driver.asked = None;
    driver.lives.start_over();
    driver.note_at(life, SystemTime::now(), What::Start { pid }, actor);
    let Task::Created { init: body, .. } = &mut driver.task else {
        return Err(Denied::NotConfigured.into());
    };
    let started = match pass(failpoint::BEGUN) {
        Ok(()) => body.init.start(),
        Err(error) => Err(body.init.give_up(error)),
    };
    match started {
        Ok(()) => {
            driver.lives.began = Some(Instant::now());
            driver.apply(Event::Started { life, at: SystemTime::now() });
            Ok(())
        }
        Err(error) => {
            let finished_at = SystemTime::now();
            let exit = Exit {
                life,
                exit_code: error.exit_code().into(),
                reason: davit_proto::status::chain(&error),
                finished_at: Some(timestamp(finished_at)),
                ..Exit::default()
            };
            let failure = failure(&exit);
            driver.kill_all();
            // A person is told, and tries again or does not.
            driver.lives.after = After::Nothing;
            let cause = exit.reason.clone();
            end::conclude(driver, Ending { exit, finished_at, cause }).await;
            Err(failure)
        }
    }
}

/// The answer of the first time once more.
fn repeat(driver: &Driver) -> Result<(), TaskError> {
    match &driver.task {
        Task::Restarting { exit, .. } | Task::Stopped { exit, .. } if exit.started_at.is_none() => {
            Err(failure(exit))
        }
        _ => Ok(()),
    }
}

/// What a caller is told of a life that could not begin.
pub(super) fn failure(exit: &Exit) -> TaskError {
    TaskError::Start { message: exit.reason.clone(), exit_code: exit.exit_code }
}

/// What a shell would report of a program that could not be started.
pub(super) fn exit_code(error: &TaskError) -> u32 {
    const OWN_FAILURE: u32 = 125;
    match error {
        TaskError::Init(error) => error.exit_code().into(),
        _ => OWN_FAILURE,
    }
}
