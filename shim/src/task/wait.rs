//! Wait: the end of a life, at once when it is over.

use davit_proto::types::Exit;

use super::driver::Handle;
use super::error::TaskError;

/// The exit of a life; with 0 the last one, when no other follows it.
pub async fn wait(handle: &Handle, life: u64) -> Result<Exit, TaskError> {
    let mut published = handle.subscribe();
    let published = published
        .wait_for(|published| {
            let ended = published.exit().map_or(0, |exit| exit.life);
            published.is_over() || (life > 0 && ended >= life)
        })
        .await
        .map_err(|_ended_without_a_life| TaskError::Ending)?;
    match published.exit() {
        Some(exit) if life == 0 || life == exit.life => Ok(exit.clone()),
        Some(exit) if life < exit.life => Err(TaskError::ForgottenLife { asked: life, last: exit.life }),
        _ => Err(TaskError::Ending),
    }
}
