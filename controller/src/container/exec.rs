//! `exec`: adds a process to a running container, and carries frames between it and its client.
//!
//! The shim makes the process, holds what its client has not seen, and ends it when its client stays away. So nothing of
//! an exec is kept here: a client whose engine died joins it again, by its id and at its offsets.

use std::sync::Arc;

use davit_proto::container::{
    Container, ExecOpen, ExecRequest, ExecResponse, ExecStarted, Phase, SeenRequest, exec_request,
    exec_response,
};
use davit_proto::id::ContainerId;
use davit_proto::journal::{What, entries};
use davit_proto::reason;
use davit_proto::status::Classify as _;
use davit_proto::task::attach_request::Frame as ToShim;
use davit_proto::task::{self, AttachOffsets, OnHangup};
use davit_proto::types::exit::How;
use davit_proto::types::{self, Exit, TerminalSize};
use futures_util::stream::Stream;
use tonic::Streaming;

use super::backlog::Backlog;
use super::bundle::Bundle;
use super::live::{KILLED, status_of};
use super::session::{self, Client, Last, Link, Told};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{LONG, SHORT, Shim, within};

/// Runs one more process for a client.
pub fn exec(
    engine: Arc<Engine>,
    frames: Streaming<ExecRequest>,
    actor: Actor,
) -> impl Stream<Item = Result<ExecResponse, Error>> + Send + 'static {
    let (client, told) = Client::new(frames, actor);
    tokio::spawn(session(engine, client));
    told
}

type ExecClient = Client<ExecRequest, ExecResponse>;

async fn session(engine: Arc<Engine>, mut client: ExecClient) {
    if let Err(error) = whole(&engine, &mut client).await {
        // A client that has gone does not hear of it.
        let _ = client.out.send(Err(error)).await;
    }
}

async fn whole(engine: &Arc<Engine>, client: &mut ExecClient) -> Result<(), Error> {
    let Some(exec_request::Frame::Open(open)) = client.first().await?.and_then(|request| request.frame)
    else {
        return Err(session::not_open());
    };
    let id = engine.find(&open.container)?;
    engine.heard_from(&id).await;
    let exec_id = match open.exec_id.as_str() {
        "" => davit_proto::id::random_hex().map_err(|error| Error::Io {
            doing: "choose an id for the exec".to_owned(),
            source: std::io::Error::other(error),
        })?,
        chosen => chosen.to_owned(),
    };
    let mut started = ExecStarted { exec_id: exec_id.clone(), ..ExecStarted::default() };
    let joined = join(engine, &id, &open, &mut started, &client.actor).await;
    let over = joined.as_ref().err().and_then(|error| over(engine, &id, &exec_id, error));
    let told = client.tell(response_of(exec_response::Frame::Started(started)));
    match (joined, over) {
        (Ok(Some(link)), _) => {
            if told.await.is_err() {
                return Ok(());
            }
            let place = Place { shim: link.shim(), exec_id, actor: client.actor.clone() };
            carry(engine, link, place, client).await
        }
        (Ok(None), _) => {
            // A client that has gone does not hear of it.
            let _ = told.await;
            Ok(())
        }
        (Err(_), Some(exit)) => {
            if told.await.is_ok() && !open.detach {
                // The same.
                let _ = client.tell(self::told(Told::Exit(exit))).await;
            }
            Ok(())
        }
        (Err(error), None) => Err(error),
    }
}

/// Begins the process, or finds the one that was begun before; and its streams, for a client that wants them.
async fn join(
    engine: &Arc<Engine>,
    id: &ContainerId,
    open: &ExecOpen,
    started: &mut ExecStarted,
    actor: &Actor,
) -> Result<Option<Link>, Error> {
    let container = engine.container(id)?;
    let shim = engine.shim(id);
    // Who comes back to a process does not ask for anything to be begun.
    if open.from.is_none() || shim.is_err() {
        admit(&container, id)?;
    }
    let ended = |error| not_running(error, &container, id);
    let shim = shim.map_err(ended)?;
    if open.from.is_none() {
        let request = request(open, &started.exec_id, actor);
        let added = within(LONG, "add a process to the container", shim.tasks().exec(request)).await;
        started.pid = added.map_err(ended)?.pid;
    }
    if open.detach {
        return Ok(None);
    }
    let link = Link::open(engine, id, attach(open, &started.exec_id)).await.map_err(ended)?;
    started.stdin_offset = link.attached.stdin_offset;
    started.stdout_offset = link.attached.stdout_offset;
    started.stderr_offset = link.attached.stderr_offset;
    Ok(Some(link))
}

/// How an exec ended whose shim does not say any more: the journal does, which outlives it.
fn over(engine: &Engine, id: &ContainerId, exec_id: &str, error: &Error) -> Option<Exit> {
    let ended = error.reason() == reason::CONTAINER_NOT_RUNNING;
    if !ended && error.reason() != reason::EXEC_NOT_FOUND {
        return None;
    }
    match Bundle::new(engine.config.bundle(id)).read_life() {
        Ok(journal) => end_of(&journal?, exec_id, ended),
        Err(error) => {
            tracing::error!(container_id = %id, %error, "failed to read a container's journal");
            None
        }
    }
}

/// The end of an exec by its container's journal. One that is not said to have ended has gone with its container.
fn end_of(journal: &[u8], exec_id: &str, container_ended: bool) -> Option<Exit> {
    let (mut began, mut ended) = (None, None);
    for entry in entries(journal) {
        match &entry.what {
            What::ExecStart { exec, .. } if exec == exec_id => began = Some(entry),
            What::ExecExit { exec, exit_code } if exec == exec_id => {
                let how = Some(How::Code(*exit_code));
                ended = Some(Exit { life: entry.life, how, exit_code: *exit_code, ..Exit::default() });
            }
            _ => {}
        }
    }
    let killed = || Exit {
        how: Some(How::Signal(9)),
        reason: "it was killed with its container".to_owned(),
        exit_code: KILLED,
        ..Exit::default()
    };
    ended.or_else(|| began.filter(|_| container_ended).map(|entry| Exit { life: entry.life, ..killed() }))
}

/// Which process, by a connection that nobody's input fills.
struct Place {
    shim: Shim,
    exec_id: String,
    actor: Actor,
}

/// Carries frames both ways until the process ends or the client goes.
async fn carry(engine: &Arc<Engine>, link: Link, place: Place, client: &mut ExecClient) -> Result<(), Error> {
    let (mut output, input) = link.split();
    let Client { frames, out, .. } = client;
    let down = session::deliver(&mut output, Backlog::new(engine.config.root.clone()), out, told);
    let up = async {
        loop {
            match frames.message().await {
                Ok(Some(ExecRequest { frame: Some(exec_request::Frame::Input(typed)) })) => {
                    for piece in session::pieces(typed) {
                        // When the shim takes no more, its own stream tells why.
                        let _ = input.send(task::AttachRequest { frame: Some(ToShim::Input(piece)) }).await;
                    }
                }
                Ok(Some(ExecRequest { frame: Some(frame) })) => obey(&place, frame).await?,
                // A newer client's kind of frame.
                Ok(Some(ExecRequest { frame: None })) => {}
                // It has no more to say, and still listens.
                Ok(None) => std::future::pending().await,
                Err(_) => return Ok::<Last, Error>(Last::Left),
            }
        }
    };
    let last = tokio::select! {
        last = down => last?,
        gone = up => gone?,
        () = out.closed() => Last::Left,
    };
    match last {
        Last::Exit(exit) => {
            let _ = client.tell(told(Told::Exit(exit))).await;
        }
        Last::Left => session::take_leave(output, input),
        // The process may go on: whoever listens joins it again, or hears that its container has ended.
        Last::Broken => return Err(Error::Broken { id: place.shim.id().clone() }),
    }
    Ok(())
}

async fn obey(place: &Place, frame: exec_request::Frame) -> Result<(), Error> {
    let done = match frame {
        exec_request::Frame::Resize(size) => resize(&place.shim, &place.exec_id, Some(size)).await,
        exec_request::Frame::Signal(signal) => {
            kill(&place.shim, &place.exec_id, signal.number, &place.actor).await
        }
        exec_request::Frame::Open(_) => return Err(session::not_open()),
        exec_request::Frame::Input(_) => Ok(()),
    };
    if let Err(error) = done {
        // Too early or too late: the client sees the process's end for itself.
        tracing::debug!(container_id = %place.shim.id(), %error, "an order for an exec came to nothing");
    }
    Ok(())
}

/// Sets the size of an exec's terminal.
///
/// # Errors
/// When it has none, or is not there.
pub async fn resize(shim: &Shim, exec_id: &str, size: Option<TerminalSize>) -> Result<(), Error> {
    let request = task::ResizeRequest { size, exec_id: exec_id.to_owned() };
    within(SHORT, "size the terminal", shim.tasks().resize(request)).await.map(|_| ())
}

/// Sends a signal to an exec.
///
/// # Errors
/// When it is not there, or has ended.
pub async fn kill(shim: &Shim, exec_id: &str, signal: u32, actor: &Actor) -> Result<(), Error> {
    let request = task::KillRequest {
        signal,
        exec_id: exec_id.to_owned(),
        actor: actor.text().to_owned(),
        ..task::KillRequest::default()
    };
    within(SHORT, "kill the exec", shim.tasks().kill(request)).await.map(|_| ())
}

/// Tells how much of an exec's output a client has taken.
///
/// # Errors
/// When the exec is not there.
pub async fn seen(engine: &Arc<Engine>, request: SeenRequest) -> Result<(), Error> {
    let SeenRequest { container, exec_id, session, offsets, keep } = request;
    let shim = engine.shim_heard(&engine.find(&container)?).await?;
    let offsets = offsets.map(|seen| AttachOffsets { stdout: seen.stdout, stderr: seen.stderr });
    let request = task::SeenRequest { exec_id, session, offsets, keep };
    within(SHORT, "tell what was seen", shim.tasks().seen(request)).await.map(|_| ())
}

/// The execs of a container that run; none when its shim does not say.
pub async fn running(engine: &Arc<Engine>, id: &ContainerId) -> Vec<types::Exec> {
    let Ok(shim) = engine.shim(id) else { return Vec::new() };
    let asked = within(SHORT, "list the execs", shim.tasks().execs(task::ExecsRequest {})).await;
    let execs = asked.map(|answer| answer.execs).unwrap_or_default();
    execs.into_iter().filter(|exec| exec.exit.is_none()).collect()
}

fn admit(container: &Container, id: &ContainerId) -> Result<(), Error> {
    let status = status_of(container);
    let phase = |phase| Error::Phase { verb: "exec in", container: container.name.clone(), phase };
    match status.phase() {
        Phase::Running => Ok(()),
        Phase::Paused => Err(phase("paused, unpause it first")),
        Phase::Restarting => Err(phase("restarting, wait until it runs")),
        Phase::Unknown => Err(Error::Unreachable { id: id.clone(), why: status.error }),
        Phase::Unspecified | Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing => {
            Err(Error::NotRunning { verb: "exec", container: container.name.clone(), id: id.clone() })
        }
    }
}

/// The shim knows better than the record, but not the name.
fn not_running(error: Error, container: &Container, id: &ContainerId) -> Error {
    match matches!(error.reason(), reason::CONTAINER_NOT_RUNNING | reason::SHIM_ENDING) {
        true => Error::NotRunning { verb: "exec", container: container.name.clone(), id: id.clone() },
        false => error,
    }
}

fn request(open: &ExecOpen, exec_id: &str, actor: &Actor) -> task::ExecRequest {
    let on_hangup = if open.detach { OnHangup::Keep } else { OnHangup::HangUp };
    task::ExecRequest {
        exec_id: exec_id.to_owned(),
        args: open.command.clone(),
        env: open.env.clone(),
        working_dir: open.working_dir.clone(),
        user: open.user.clone(),
        terminal: open.terminal,
        open_stdin: open.streams.unwrap_or_default().stdin,
        privileged: open.privileged,
        size: open.size,
        on_hangup: on_hangup.into(),
        actor: actor.text().to_owned(),
    }
}

fn attach(open: &ExecOpen, exec_id: &str) -> task::AttachOpen {
    let streams = open.streams.unwrap_or_default();
    let from = open.from.unwrap_or_default();
    task::AttachOpen {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        // From its first byte on.
        from: Some(AttachOffsets { stdout: from.stdout, stderr: from.stderr }),
        size: open.size.filter(|_| open.from.is_some()),
        session: open.session.clone(),
        exec_id: exec_id.to_owned(),
        says_seen: open.says_seen,
    }
}

fn told(told: Told) -> ExecResponse {
    response_of(match told {
        Told::Output(output) => exec_response::Frame::Output(output),
        Told::Dropped(dropped) => exec_response::Frame::Dropped(dropped),
        Told::Exit(exit) => exec_response::Frame::Exit(exit),
    })
}

fn response_of(frame: exec_response::Frame) -> ExecResponse {
    ExecResponse { frame: Some(frame) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOURNAL: &[u8] = br#"{"n":1,"at":"2026-11-21T01:02:03Z","life":1,"event":"start","pid":7}
{"n":2,"at":"2026-11-21T01:02:03Z","life":1,"event":"exec-start","exec":"a","command":"sh"}
{"n":3,"at":"2026-11-21T01:02:03Z","life":1,"event":"exec-start","exec":"b","command":"sh"}
{"n":4,"at":"2026-11-21T01:02:03Z","life":1,"event":"exec-exit","exec":"a","exit_code":3}
"#;

    #[test]
    fn the_journal_tells_how_an_exec_ended() {
        let code = |exec, ended| end_of(JOURNAL, exec, ended).map(|exit| (exit.life, exit.exit_code));
        assert_eq!(code("a", true), Some((1, 3)));
        assert_eq!(code("a", false), Some((1, 3)));
        assert_eq!(code("b", true), Some((1, 137)));
        assert_eq!(code("b", false), None, "it may run");
        assert_eq!(code("c", true), None, "there was none");
    }
}
