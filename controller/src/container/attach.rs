//! `attach`: joins the streams of a running container, or starts one and joins it before its first byte.

use std::sync::Arc;

use davit_proto::container::{
    AttachOpen, AttachRequest, AttachResponse, Attached, Container, Phase, attach_request, attach_response,
};
use davit_proto::id::ContainerId;
use davit_proto::task;
use futures_util::stream::Stream;
use tonic::Streaming;

use super::live::status_of;
use super::session::{self, Client, Ended, Link, Said, Told, Words};
use super::start;
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;

/// Attaches a client. Should the client go, the container goes on.
pub fn attach(
    engine: Arc<Engine>,
    frames: Streaming<AttachRequest>,
    actor: Actor,
) -> impl Stream<Item = Result<AttachResponse, Error>> + Send + 'static {
    let (client, told) = Client::new(frames, actor);
    tokio::spawn(session(engine, client));
    told
}

type AttachClient = Client<AttachRequest, AttachResponse>;

async fn session(engine: Arc<Engine>, mut client: AttachClient) {
    if let Err(error) = whole(&engine, &mut client).await {
        // A client that has gone does not hear of it.
        let _ = client.out.send(Err(error)).await;
    }
}

async fn whole(engine: &Arc<Engine>, client: &mut AttachClient) -> Result<(), Error> {
    let Some(attach_request::Frame::Open(open)) = client.first().await?.and_then(|request| request.frame)
    else {
        return Err(session::not_open());
    };
    let id = engine.find(&open.container)?;
    if open.start {
        start::ready(engine, &id, open.size, &client.actor).await?;
    }
    let container = engine.container(&id)?;
    let waits = admit(&container, &id, &open)?;
    let link = Link::open(engine, &id, shim_open(&open, waits)).await?;
    let attached = Attached {
        container_id: id.to_string(),
        terminal: container.spec.as_ref().is_some_and(|spec| spec.terminal),
        stdout_offset: link.attached.stdout_offset,
        stderr_offset: link.attached.stderr_offset,
        stdin_offset: link.attached.stdin_offset,
    };
    if client.tell(response_of(attach_response::Frame::Attached(attached))).await.is_err() {
        return Ok(());
    }
    let life = match open.start {
        true => start::start(engine, &id, open.size, &client.actor).await?.life,
        false => status_of(&container).life,
    };
    match session::carry(engine, link, life, client, Words { said, told: tell }).await? {
        Ended::Left => {}
        Ended::Exit(exit) => {
            session::settle(engine, &id, &exit).await;
            let _ = client.tell(tell(Told::Exit(exit))).await;
        }
    }
    Ok(())
}

/// Whether the container waits at its gate; an error when it can be attached to neither there nor running.
fn admit(container: &Container, id: &ContainerId, open: &AttachOpen) -> Result<bool, Error> {
    let status = status_of(container);
    match status.phase() {
        Phase::Running | Phase::Restarting => Ok(false),
        Phase::Created | Phase::Exited if open.start => Ok(true),
        Phase::Paused => Err(Error::Phase {
            verb: "attach",
            container: container.name.clone(),
            phase: "paused: resume it first",
        }),
        Phase::Unknown => Err(Error::Unreachable { id: id.clone(), why: status.error }),
        Phase::Unspecified | Phase::Creating | Phase::Created | Phase::Exited | Phase::Removing => {
            Err(Error::NotRunning { verb: "attach", container: container.name.clone(), id: id.clone() })
        }
    }
}

fn shim_open(open: &AttachOpen, waits: bool) -> task::AttachOpen {
    let streams = open.streams.unwrap_or_default();
    let wanted = open.from.map(|from| task::AttachOffsets { stdout: from.stdout, stderr: from.stderr });
    task::AttachOpen {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        // A life that is yet to begin is wanted whole.
        from: if waits { Some(task::AttachOffsets::default()) } else { wanted },
        size: open.size,
        session: open.session.clone(),
        ..task::AttachOpen::default()
    }
}

fn said(request: AttachRequest) -> Said {
    match request.frame {
        Some(attach_request::Frame::Input(input)) => Said::Input(input),
        Some(attach_request::Frame::Resize(size)) => Said::Resize(size),
        Some(attach_request::Frame::Signal(signal)) => Said::Signal(signal.number),
        Some(attach_request::Frame::Open(_)) => Said::Open,
        None => Said::Nothing,
    }
}

fn tell(told: Told) -> AttachResponse {
    response_of(match told {
        Told::Output(output) => attach_response::Frame::Output(output),
        Told::Dropped(dropped) => attach_response::Frame::Dropped(dropped),
        Told::Exit(exit) => attach_response::Frame::Exit(exit),
    })
}

fn response_of(frame: attach_response::Frame) -> AttachResponse {
    AttachResponse { frame: Some(frame) }
}
