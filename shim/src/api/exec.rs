//! Execs on the wire.

use davit_proto::task::{ExecRequest, ExecResponse, OnHangup, SeenRequest, SeenResponse};
use davit_proto::types::Exit;

use super::{Api, actor_of, window_size};
use crate::init::exec_plan::Wishes;
use crate::task::TaskError;
use crate::task::driver::Request as Ask;
use crate::task::exec::{self, Options};
use crate::task::execs::View;

/// Most bytes of an exec's id.
const ID: usize = 64;

/// Adds a process; answers when it runs.
pub async fn exec(api: &Api, request: ExecRequest) -> Result<ExecResponse, TaskError> {
    let options = Box::new(decode(request)?);
    let pid = api.task.ask(|reply| Ask::Exec(exec::Ask::Begin(options, reply))).await?;
    Ok(ExecResponse { pid })
}

/// A client has taken output for good.
pub async fn seen(api: &Api, request: SeenRequest) -> Result<SeenResponse, TaskError> {
    let SeenRequest { exec_id, session, offsets, keep } = request;
    let offsets = offsets.unwrap_or_default();
    let stdio = view(api, &exec_id).await?.stdio;
    stdio.seen(session, [offsets.stdout, offsets.stderr]).await;
    if keep {
        stdio.release().await;
    }
    Ok(SeenResponse {})
}

/// The end of an exec, at once when it has ended.
pub async fn wait(api: &Api, id: &str) -> Result<Exit, TaskError> {
    let mut exit = view(api, id).await?.exit;
    let known = exit.wait_for(Option::is_some).await.map(|exit| exit.clone());
    known.ok().flatten().ok_or(TaskError::Ending)
}

/// An exec, for its streams and its end.
pub async fn view(api: &Api, id: &str) -> Result<View, TaskError> {
    let id = id.to_owned();
    api.task.ask(|reply| Ask::Exec(exec::Ask::Find(id, reply))).await
}

fn decode(request: ExecRequest) -> Result<Options, TaskError> {
    let hangs_up = request.on_hangup() == OnHangup::HangUp;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if !(1..=ID).contains(&request.exec_id.len()) || !request.exec_id.bytes().all(plain) {
        let value = request.exec_id.chars().take(200).collect();
        let rule = "must be 1 to 64 letters, digits, '_', '.' and '-'";
        return Err(TaskError::Invalid { name: "exec_id", value, rule });
    }
    Ok(Options {
        id: request.exec_id,
        wishes: Wishes {
            args: request.args,
            env: request.env,
            cwd: request.working_dir,
            user: request.user,
            terminal: request.terminal,
            privileged: request.privileged,
        },
        open_stdin: request.open_stdin,
        size: request.size.map(window_size).transpose()?,
        hangs_up,
        actor: actor_of(request.actor),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_and_the_rest_is_passed_on() {
        let request = |id: &str| ExecRequest { exec_id: id.to_owned(), ..ExecRequest::default() };
        for bad in ["", "a/b", "..\0", &"x".repeat(65)] {
            assert!(decode(request(bad)).is_err(), "{bad:?}");
        }
        let on_hangup = OnHangup::HangUp.into();
        let options = decode(ExecRequest { on_hangup, user: "1:2".into(), ..request("a-B_9.") }).unwrap();
        assert!(options.hangs_up && options.wishes.user == "1:2");
        assert!(!decode(request("x")).unwrap().hangs_up);
    }
}
