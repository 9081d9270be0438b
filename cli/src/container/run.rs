//! `davit run`: make, attach, start and wait, in one stream.

use davit_proto::container::{
    CreateRequest, CreateResponse, RunOpen, RunRequest, StartRequest, Streams, run_request,
};
use davit_proto::status::RemoteError;
use futures_util::StreamExt as _;

use super::create::{self, with_image};
use super::note::{CidFile, PidFile};
use super::session::{self, Line, Session, check_terminal};
use crate::args::run::RunArgs;
use crate::client::Engine;
use crate::detach::DetachKeys;
use crate::error::Error;
use crate::stream::{self, Down, Downlink, Manner, Seat, frame};
use crate::{exit, output, spec, terminal};

/// Runs a container.
pub async fn run(engine: Engine, args: RunArgs) -> Result<u8, Error> {
    let streams = spec::streams(&args.container, args.detach)?;
    let request = create::request(&args.container, streams)?;
    if args.detach {
        return background(&engine, &args, request).await;
    }
    let manner = Manner {
        stdin: streams.stdin,
        terminal: args.container.tty,
        detach: DetachKeys::chosen(args.detach_keys.as_deref())?,
        sig_proxy: args.sig_proxy,
    };
    check_terminal(&manner)?;
    let mut cidfile = CidFile::reserve(args.container.cidfile.as_deref())?;
    let pidfile = PidFile::open(args.pidfile.as_deref())?;
    let name = session::name()?;
    let (line, created) =
        with_image(&engine, &args.container, async || open(&engine, request.clone(), streams, &name).await)
            .await?;
    create::warn(&created);
    cidfile.write(&created.container_id)?;
    let line = Line { down: noted(line.down, pidfile), ..line };
    if !streams.stdout && !streams.stderr {
        output::line(&created.container_id)?;
    }
    let seat = Seat::take(manner)?;
    let session = Session {
        engine: &engine,
        container_id: created.container_id,
        streams,
        owner: true,
        revision: created.revision,
        session: name,
    };
    session.carry(seat, line).await
}

/// Opens the stream and waits until the container is made.
async fn open(
    engine: &Engine,
    create: CreateRequest,
    streams: Streams,
    session: &str,
) -> Result<(Line, CreateResponse), Error> {
    // The size travels ahead of the process, so its first line is laid out right.
    let size = create.spec.as_ref().is_some_and(|spec| spec.terminal).then(terminal::size).flatten();
    let open = RunOpen { create: Some(create), streams: Some(streams), size, session: session.to_owned() };
    let (up, frames) = stream::uplink(RunRequest { frame: Some(run_request::Frame::Open(open)) });
    let answer = engine.containers().await?.run(frames).await.map_err(RemoteError::from)?.into_inner();
    let mut down: Downlink = Box::pin(answer.map(|frame| frame.map(Down::from).map_err(RemoteError::from)));
    match down.next().await {
        Some(Ok(Down::Created(created))) => Ok((Line { up, down, taken: 0 }, created)),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(_)) | None => Err(frame::cut_off().into()),
    }
}

/// The frames, with the process id written down as it passes. It can be complained of only: the container runs.
fn noted(down: Downlink, pidfile: PidFile) -> Downlink {
    Box::pin(down.inspect(move |frame| {
        if let Ok(Down::Started(pid)) = frame
            && let Err(error) = pidfile.write(*pid)
        {
            output::error(&error);
        }
    }))
}

/// Makes and starts it, prints its id, and leaves.
async fn background(engine: &Engine, args: &RunArgs, request: CreateRequest) -> Result<u8, Error> {
    if args.detach_keys.is_some() {
        return Err(Error::Usage("--detach-keys and --detach exclude each other".into()));
    }
    let mut cidfile = CidFile::reserve(args.container.cidfile.as_deref())?;
    let pidfile = PidFile::open(args.pidfile.as_deref())?;
    let created =
        with_image(engine, &args.container, async || create::call(engine, request.clone()).await).await?;
    create::warn(&created);
    cidfile.write(&created.container_id)?;
    let size = args.container.tty.then(terminal::size).flatten();
    let start = StartRequest { container: created.container_id.clone(), size };
    let started = engine.containers().await?.start(start).await.map_err(RemoteError::from)?;
    pidfile.write(started.into_inner().pid)?;
    output::line(&created.container_id)?;
    Ok(exit::SUCCESS)
}
