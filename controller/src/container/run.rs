//! `run`: create, attach, start and wait as one stream. The client is attached before the container starts,
//! so it gets every byte from the first on.

use std::sync::Arc;

use davit_proto::container::{CreateResponse, RunOpen, RunRequest, RunResponse, run_request, run_response};
use davit_proto::id::ContainerId;
use davit_proto::status::chain;
use davit_proto::task::{AttachOffsets, AttachOpen};
use futures_util::stream::Stream;
use tonic::Streaming;

use super::create::{self, Promise};
use super::remove;
use super::session::{self, Client, Ended, Link, Said, Told, Words};
use super::start;
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;

/// Runs a container for a client. Should the client go, the container goes on.
pub fn run(
    engine: Arc<Engine>,
    frames: Streaming<RunRequest>,
    actor: Actor,
) -> impl Stream<Item = Result<RunResponse, Error>> + Send + 'static {
    let (client, told) = Client::new(frames, actor);
    tokio::spawn(session(engine, client));
    told
}

type RunClient = Client<RunRequest, RunResponse>;

async fn session(engine: Arc<Engine>, mut client: RunClient) {
    if let Err(error) = whole(&engine, &mut client).await {
        // A client that has gone does not hear of it.
        let _ = client.out.send(Err(error)).await;
    }
}

async fn whole(engine: &Arc<Engine>, client: &mut RunClient) -> Result<(), Error> {
    let Some(run_request::Frame::Open(open)) = client.first().await?.and_then(|request| request.frame) else {
        return Err(session::not_open());
    };
    let create = open.create.clone().unwrap_or_default();
    let goes = create.spec.as_ref().is_some_and(|spec| spec.auto_remove);
    let created = create::create(engine, create, Promise::Cached, &client.actor).await?;
    let id = created.id;
    let response = CreateResponse {
        container_id: id.to_string(),
        warnings: created.warnings,
        revision: created.revision,
    };
    let told = client.tell(response_of(run_response::Frame::Created(response))).await;
    if told.is_err() {
        // Nobody waits for it any more, so it is not started.
        return abandon(engine, &id, goes, &client.actor).await;
    }
    let link = match attach(engine, &id, &open, &client.actor).await {
        Ok(link) => link,
        Err(error) => {
            abandon(engine, &id, goes, &client.actor).await?;
            return Err(error);
        }
    };
    let started = match goes {
        true => start::start(engine, &id, open.size, &client.actor).await?,
        // What is to outlive its end also outlives a power cut, once it is said to be started.
        false => {
            let (kept, started) =
                tokio::join!(create::keep(engine, &id), start::start(engine, &id, open.size, &client.actor));
            let started = started?;
            kept?;
            started
        }
    };
    let response = start::told(engine, &id, &started);
    // A client that has gone is noticed below.
    let _ = client.tell(response_of(run_response::Frame::Started(response))).await;
    match session::carry(engine, link, started.life, client, Words { said, told: tell }).await? {
        Ended::Left => {}
        Ended::Exit(exit) => {
            session::settle(engine, &id, &exit).await;
            let _ = client.tell(tell(Told::Exit(exit))).await;
        }
    }
    Ok(())
}

async fn attach(
    engine: &Arc<Engine>,
    id: &ContainerId,
    open: &RunOpen,
    actor: &Actor,
) -> Result<Link, Error> {
    // The gate may be another one when the request repeated an earlier one.
    start::ready(engine, id, open.size, actor).await?;
    let streams = open.streams.unwrap_or_default();
    let open = AttachOpen {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        from: Some(AttachOffsets::default()),
        size: open.size,
        session: open.session.clone(),
        ..AttachOpen::default()
    };
    Link::open(engine, id, open).await
}

/// A container that will not be started: it stays as it was made, unless it was to go with its end.
async fn abandon(engine: &Arc<Engine>, id: &ContainerId, goes: bool, actor: &Actor) -> Result<(), Error> {
    if !goes {
        return create::keep(engine, id).await;
    }
    let how = remove::How { force: true, volumes: true };
    if let Err(error) = remove::remove(engine, id, how, actor).await {
        tracing::error!(container_id = %id, error = %chain(&error), "failed to remove a container that nobody waits for");
    }
    Ok(())
}

fn said(request: RunRequest) -> Said {
    match request.frame {
        Some(run_request::Frame::Input(input)) => Said::Input(input),
        Some(run_request::Frame::Resize(size)) => Said::Resize(size),
        Some(run_request::Frame::Signal(signal)) => Said::Signal(signal.number),
        Some(run_request::Frame::Open(_)) => Said::Open,
        None => Said::Nothing,
    }
}

fn tell(told: Told) -> RunResponse {
    response_of(match told {
        Told::Output(output) => run_response::Frame::Output(output),
        Told::Dropped(dropped) => run_response::Frame::Dropped(dropped),
        Told::Exit(exit) => run_response::Frame::Exit(exit),
    })
}

fn response_of(frame: run_response::Frame) -> RunResponse {
    RunResponse { frame: Some(frame) }
}
