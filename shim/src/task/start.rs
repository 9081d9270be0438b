//! Start: opens the gate for one life.

use std::time::SystemTime;

use davit_proto::time::timestamp;
use davit_proto::types::Exit;

use super::driver::Driver;
use super::end;
use super::error::TaskError;
use super::state::{Admit, Command, Denied, Event, Task};

/// Lets init execute the container's program. A life that could not begin is over, with a record that says why.
pub(super) async fn start(driver: &mut Driver, life: u64) -> Result<(), TaskError> {
    if driver.admit(Command::Start { life })? == Admit::Repeat {
        return repeat(driver);
    }
    let Task::Created { init: body, .. } = &mut driver.task else {
        return Err(Denied::NotConfigured.into());
    };
    // The number is used up before the program can do anything, so that no life is lived twice.
    let at = SystemTime::now();
    driver.bundle.record_start(life, at, body.init.host_pid())?;
    match body.init.start() {
        Ok(()) => {
            driver.apply(Event::Started { life, at: SystemTime::now() });
            Ok(())
        }
        Err(error) => {
            let exit = Exit {
                life,
                exit_code: error.exit_code().into(),
                reason: davit_proto::status::chain(&error),
                finished_at: Some(timestamp(SystemTime::now())),
                ..Exit::default()
            };
            let failure = failure(&exit);
            driver.kill_all();
            end::conclude(driver, exit).await;
            Err(failure)
        }
    }
}

/// The answer of the first time once more.
fn repeat(driver: &Driver) -> Result<(), TaskError> {
    match &driver.task {
        Task::Stopped { exit, .. } if exit.started_at.is_none() => Err(failure(exit)),
        _ => Ok(()),
    }
}

fn failure(exit: &Exit) -> TaskError {
    TaskError::Start { message: exit.reason.clone(), exit_code: exit.exit_code }
}
