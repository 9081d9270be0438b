//! A client at a container's streams: frames from the client go down to the shim, output comes back, until
//! the container ends or the client goes. What `run` and `attach` have in common.
//!
//! The shim hardly waits for a client, and drops what it is late for. So what it sends is taken at once, and
//! waits in a [`Backlog`] for a client that is slow. A client that goes leaves the container as it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use davit_proto::id::ContainerId;
use davit_proto::status::{Classify as _, ErrorKind, RemoteError};
use davit_proto::task::attach_request::Frame as ToShim;
use davit_proto::task::attach_response::Frame as FromShim;
use davit_proto::task::{
    AttachOpen, AttachRequest, AttachResponse, Attached, ResizeRequest, StateRequest, TaskState,
};
use davit_proto::types::{Dropped, Exit, Input, Output, TerminalSize};
use futures_util::stream::Stream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::backlog::Backlog;
use super::release::early;
use super::{journal, kill, live};
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{LONG, SHORT, Shim, within};
use crate::store::Unresolved;

/// How long a client may take to say what it wants.
const OPEN: Duration = Duration::from_secs(10);
/// How long the end of a container may take to be known after its shim broke off; a shim that answers meanwhile only
/// lost the connection.
const NEWS: Duration = Duration::from_secs(10);
/// How often it is looked whether the shim answers.
const LOOK: Duration = Duration::from_millis(500);
/// How long a stream stays open after its client has gone, for the shim to see how it ended.
const LEAVE: Duration = Duration::from_secs(1);
/// How long a client waits for a container to be gone that is to be removed at its end.
const REMOVAL: Duration = Duration::from_secs(15);
/// Frames on their way to a client; what is more waits in its backlog.
const WAITING: usize = 4;
/// Frames of input that wait for the shim.
const TYPED: usize = 2;
/// Most bytes of one frame of input that the shim takes.
const PIECE: usize = 32 << 10;

/// What a client says after its first frame.
#[derive(Debug)]
pub enum Said {
    /// It typed.
    Input(Input),
    /// Its terminal has another size.
    Resize(TerminalSize),
    /// It wants a signal sent.
    Signal(u32),
    /// It opens a second time.
    Open,
    /// A frame that this version does not know.
    Nothing,
}

/// What a client is told.
#[derive(Debug)]
pub enum Told {
    /// The container wrote.
    Output(Output),
    /// The client was too slow for what the container wrote.
    Dropped(Dropped),
    /// It ended.
    Exit(Exit),
}

/// The client's end of a session.
#[derive(Debug)]
pub struct Client<Request, Response> {
    /// What it sends.
    pub frames: Streaming<Request>,
    /// What it is sent.
    pub out: mpsc::Sender<Result<Response, Error>>,
    /// Who it is.
    pub actor: Actor,
}

/// The client has gone; nobody is left to be told.
#[derive(Debug, Clone, Copy)]
pub struct Gone;

impl<Request, Response> Client<Request, Response> {
    /// A client of these frames, and the stream of what it is sent.
    pub fn new(
        frames: Streaming<Request>,
        actor: Actor,
    ) -> (Self, impl Stream<Item = Result<Response, Error>> + Send + 'static + use<Request, Response>)
    where
        Response: Send + 'static,
    {
        let (out, told) = mpsc::channel(WAITING);
        (Self { frames, out, actor }, ReceiverStream::new(told))
    }

    /// Its first frame.
    ///
    /// # Errors
    /// When it says nothing in time, or leaves.
    pub async fn first(&mut self) -> Result<Option<Request>, Error> {
        match timeout(OPEN, self.frames.message()).await {
            Ok(frame) => frame.map_err(|status| RemoteError::from(status).into()),
            Err(_) => Err(Error::TimedOut {
                doing: "waiting for the first frame".to_owned(),
                seconds: OPEN.as_secs(),
            }),
        }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn tell(&self, response: Response) -> Result<(), Gone> {
        self.out.send(Ok(response)).await.map_err(|_| Gone)
    }
}

/// A first frame that is none.
#[must_use]
pub fn not_open() -> Error {
    Error::Invalid {
        what: "frame",
        value: String::new(),
        rule: "the first frame of a stream must be open, and only the first".to_owned(),
    }
}

/// A connection to a container's streams.
#[derive(Debug)]
pub struct Link {
    /// Where the streams begin.
    pub attached: Attached,
    shim: Shim,
    output: Streaming<AttachResponse>,
    input: mpsc::Sender<AttachRequest>,
}

impl Link {
    /// Joins the streams.
    ///
    /// # Errors
    /// When the shim refuses, or does not answer.
    pub async fn open(engine: &Engine, id: &ContainerId, open: AttachOpen) -> Result<Self, Error> {
        let shim = engine.shim_heard(id).await?;
        // Input that the container does not read fills the window of its connection, and calls would stand behind it.
        let own = match open.stdin {
            true => Shim::dial(id, &engine.config.shim_dir(id)).await?,
            false => shim.clone(),
        };
        let (input, typed) = mpsc::channel(TYPED);
        let first = AttachRequest { frame: Some(ToShim::Open(open)) };
        // There is room, and the other end is in our hands.
        let _ = input.try_send(first);
        let call = async {
            let mut output = own.tasks().attach(ReceiverStream::new(typed)).await?.into_inner();
            let first = output.message().await?;
            Ok::<_, RemoteError>(tonic::Response::new((output, first)))
        };
        let (output, first) = within(LONG, "attach to the container", call).await?;
        match first.and_then(|response| response.frame) {
            Some(FromShim::Attached(attached)) => Ok(Self { attached, shim, output, input }),
            _ => Err(Error::Unreachable {
                id: shim.id().clone(),
                why: "it did not begin with where its streams are".to_owned(),
            }),
        }
    }
}

impl Link {
    /// The shim, by a connection that nobody's input fills.
    pub(super) fn shim(&self) -> Shim {
        self.shim.clone()
    }

    /// What comes from the shim, and the way to it.
    pub(super) fn split(self) -> (Streaming<AttachResponse>, mpsc::Sender<AttachRequest>) {
        (self.output, self.input)
    }
}

/// How a session came to an end.
#[derive(Debug)]
pub enum Ended {
    /// The client went, and the container goes on.
    Left,
    /// The container ended.
    Exit(Exit),
}

/// Carries frames both ways until the container ends or the client goes.
///
/// # Errors
/// When the client says what cannot be, or it cannot be known any more how the container goes on.
pub async fn carry<Request, Response>(
    engine: &Arc<Engine>,
    link: Link,
    life: u64,
    client: &mut Client<Request, Response>,
    words: Words<Request, Response>,
) -> Result<Ended, Error> {
    let Link { shim, mut output, input, .. } = link;
    let Client { frames, out, actor } = client;
    let id = shim.id().clone();
    let down = deliver(&mut output, Backlog::new(engine.config.root.clone()), out, words.told);
    let up = async {
        loop {
            match frames.message().await {
                Ok(Some(frame)) => obey(engine, (&shim, &input), (words.said)(frame), actor).await?,
                // It has no more to say, and still listens.
                Ok(None) => std::future::pending().await,
                Err(_) => return Ok::<Ended, Error>(Ended::Left),
            }
        }
    };
    let last = tokio::select! {
        last = down => last?,
        ended = up => match ended? {
            Ended::Left => Last::Left,
            ended @ Ended::Exit(_) => return Ok(ended),
        },
        () = out.closed() => Last::Left,
    };
    match last {
        Last::Exit(exit) => Ok(Ended::Exit(exit)),
        Last::Left => {
            take_leave(output, input);
            Ok(Ended::Left)
        }
        // The shim broke off: its end, and the container's, is on record or soon will be.
        Last::Broken => exit_on_record(engine, &id, life).await.map(Ended::Exit),
    }
}

/// The client has gone, which the shim is told by the end of its input: a connection that is only cut off may come from
/// an engine that dies, and its client from coming back.
pub(super) fn take_leave(mut output: Streaming<AttachResponse>, input: mpsc::Sender<AttachRequest>) {
    drop(input);
    tokio::spawn(async move {
        let rest = async { while let Ok(Some(_)) = output.message().await {} };
        // The end of the input is on its way long before.
        let _ = timeout(LEAVE, rest).await;
    });
}

/// How the shim's frames came to an end.
#[derive(Debug)]
pub(super) enum Last {
    /// With the process's exit.
    Exit(Exit),
    /// The client went.
    Left,
    /// Without a word.
    Broken,
}

/// Takes the shim's frames as they come and hands them to the client as it takes them, to the last one.
pub(super) async fn deliver<Response>(
    output: &mut Streaming<AttachResponse>,
    mut backlog: Backlog,
    out: &mpsc::Sender<Result<Response, Error>>,
    told: fn(Told) -> Response,
) -> Result<Last, Error> {
    let mut last = None;
    let mut next = None;
    loop {
        if next.is_none() {
            next = backlog.pop().await.map_err(Error::io("read back output that waited for a client"))?;
        }
        tokio::select! {
            room = out.reserve(), if next.is_some() => {
                let Ok(room) = room else { return Ok(Last::Left) };
                match next.take() {
                    Some(FromShim::Output(output)) => room.send(Ok(told(Told::Output(output)))),
                    Some(FromShim::Dropped(dropped)) => room.send(Ok(told(Told::Dropped(dropped)))),
                    Some(FromShim::Attached(_) | FromShim::Exit(_)) | None => {}
                }
            }
            response = output.message(), if last.is_none() && backlog.has_room() => match response {
                Ok(Some(AttachResponse { frame: Some(FromShim::Exit(exit)) })) => last = Some(Last::Exit(exit)),
                Ok(Some(AttachResponse { frame: Some(frame) })) => backlog.push(frame).await,
                // A newer shim's kind of frame.
                Ok(Some(AttachResponse { frame: None })) => {}
                Ok(None) | Err(_) => last = Some(Last::Broken),
            },
            else => return Ok(last.unwrap_or(Last::Broken)),
        }
    }
}

/// How a call words its frames.
#[derive(Debug)]
pub struct Words<Request, Response> {
    /// What a frame says.
    pub said: fn(Request) -> Said,
    /// The frame that tells something.
    pub told: fn(Told) -> Response,
}

impl<Request, Response> Clone for Words<Request, Response> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Request, Response> Copy for Words<Request, Response> {}

/// Does what a client says.
async fn obey(
    engine: &Arc<Engine>,
    (shim, input): (&Shim, &mpsc::Sender<AttachRequest>),
    said: Said,
    actor: &Actor,
) -> Result<(), Error> {
    match said {
        Said::Input(typed) => {
            for piece in pieces(typed) {
                // When the shim takes no more, its own stream tells why.
                let _ = input.send(AttachRequest { frame: Some(ToShim::Input(piece)) }).await;
            }
        }
        // By calls of their own: input that the container does not read would hold them up.
        Said::Resize(size) => {
            let request = ResizeRequest { size: Some(size), ..ResizeRequest::default() };
            match within(SHORT, "resize the terminal", shim.tasks().resize(request)).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::InvalidArgument => return Err(error),
                // It has no terminal, or has ended.
                Err(error) => tracing::debug!(container_id = %shim.id(), %error, "a size came to nothing"),
            }
        }
        Said::Signal(number @ 1..=64) => {
            if let Err(error) = kill::kill(engine, shim.id(), number, actor).await {
                // Too early or too late: the client sees the container's end for itself.
                tracing::debug!(container_id = %shim.id(), %error, number, "a signal came to nothing");
            }
        }
        Said::Signal(number) => {
            let (what, rule) = ("signal", "must be a number from 1 to 64".to_owned());
            return Err(Error::Invalid { what, value: number.to_string(), rule });
        }
        Said::Open => return Err(not_open()),
        Said::Nothing => {}
    }
    Ok(())
}

/// Input in frames that the shim takes.
pub(super) fn pieces(typed: Input) -> impl Iterator<Item = Input> {
    let Input { mut offset, mut data, eof } = typed;
    let mut first = true;
    std::iter::from_fn(move || {
        if data.is_empty() && !std::mem::take(&mut first) {
            return None;
        }
        first = false;
        let piece: Bytes = data.split_to(data.len().min(PIECE));
        let at = offset;
        offset = offset.saturating_add(piece.len() as u64);
        Some(Input { offset: at, data: piece, eof: eof && data.is_empty() })
    })
}

/// How a life ended, from the record, once it is there.
async fn exit_on_record(engine: &Arc<Engine>, id: &ContainerId, life: u64) -> Result<Exit, Error> {
    let mut record = engine.store.watch(id).ok_or_else(|| Unresolved::NotFound(id.to_string()))?;
    let known = async {
        loop {
            let seen = record.borrow_and_update().clone();
            let status = seen.record.container.as_ref().map(live::status_of).unwrap_or_default();
            if let Some(exit) = status.exit.filter(|exit| exit.life >= life) {
                return Ok(exit);
            }
            if seen.removed || record.changed().await.is_err() {
                return Err(Unresolved::NotFound(id.to_string()).into());
            }
        }
    };
    match timeout(NEWS, async {
        tokio::select! { known = known => known, lost = goes_on(engine, id) => Err(lost) }
    })
    .await
    {
        Ok(known) => known,
        Err(_) => Err(Error::Unreachable {
            id: id.clone(),
            why: "it broke off the connection and is not known to have ended".to_owned(),
        }),
    }
}

/// Resolves when a container's shim answers: then it is only its client that has to attach again.
async fn goes_on(engine: &Arc<Engine>, id: &ContainerId) -> Error {
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(shim) = engine.shim(id) else { continue };
        if let Ok(answer) = within(SHORT, "look at the container", shim.tasks().state(StateRequest {})).await
            && answer.snapshot.is_some_and(|snapshot| snapshot.state() != TaskState::Stopped)
        {
            return Error::Broken { id: id.clone() };
        }
    }
}

/// Makes the end of a container true for all before its client is told: it is on record, and a container
/// that goes with its end has gone.
pub async fn settle(engine: &Arc<Engine>, id: &ContainerId, exit: &Exit) {
    journal::catch_up(engine, id, 0);
    let record = engine.store.update(id, |record| live::ended(record, exit, ""));
    let goes = record.and_then(|record| record.container.clone()?.spec).is_some_and(|spec| spec.auto_remove);
    let Some(mut watched) = engine.store.watch(id).filter(|_| goes) else { return };
    early::begin(engine, id);
    // What takes longer goes on without the client.
    let _ = timeout(REMOVAL, watched.wait_for(|seen| seen.removed)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_the_whole_in_order(size in 0_usize..200_000, offset in 0_u64..1000, eof in any::<bool>()) {
            let data: Bytes = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>().into();
            let cut: Vec<Input> = pieces(Input { offset, data: data.clone(), eof }).collect();
            prop_assert!(!cut.is_empty() && cut.iter().all(|piece| piece.data.len() <= PIECE));
            prop_assert_eq!(cut.iter().flat_map(|piece| piece.data.to_vec()).collect::<Vec<_>>(), data.to_vec());
            let mut next = offset;
            for piece in &cut {
                prop_assert_eq!(piece.offset, next);
                next += piece.data.len() as u64;
            }
            prop_assert_eq!(cut.iter().filter(|piece| piece.eof).count(), usize::from(eof));
            prop_assert_eq!(cut.last().unwrap().eof, eof);
        }
    }
}
