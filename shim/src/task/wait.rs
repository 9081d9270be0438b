//! Wait: the end of a life, at once when it is over.

use davit_proto::types::Exit;

use super::driver::Handle;
use super::error::TaskError;

/// The exit of a life, or of the present or last one when `life` is 0.
pub async fn wait(handle: &Handle, life: u64) -> Result<Exit, TaskError> {
    let mut published = handle.subscribe();
    let published = published
        .wait_for(|published| published.exit().is_some())
        .await
        .map_err(|_ended_without_a_life| TaskError::Ending)?;
    match published.exit() {
        Some(exit) if life == 0 || life == exit.life => Ok(exit.clone()),
        Some(exit) if life < exit.life => Err(TaskError::ForgottenLife { asked: life, last: exit.life }),
        _ => Err(TaskError::Ending),
    }
}
