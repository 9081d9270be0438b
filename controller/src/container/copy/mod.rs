//! `cp`: files into a container and out of it, running or not.
//!
//! The work is a helper's, `davit-shim copy`, which is bounded in memory and dies with its client; here are only its
//! beginning, its end, and what goes between its pipes and the client.
//!
//! ```text
//! place::find ─▶ live: mount namespace of the shim, pidfd of init ─┐
//!             └▶ stopped: the bundle                               ├─▶ Helper ─▶ Ready ─▶ Stat, data, Done
//!             └▶ in between: looked at again ◀── Busy ─────────────┘
//! ```

mod helper;
mod mount;
mod place;
mod populate;
mod running;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use davit_proto::container::{
    CopyInOpen, CopyInRequest, CopyInResponse, CopyOutRequest, CopyOutResponse, CopyStatRequest,
    CopyStatResponse, FileStat, copy_in_request, copy_out_response,
};
use davit_proto::copy::{self, Action, Answer, FailureKind, Order};
use davit_proto::status::RemoteError;
use futures_util::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use self::helper::Helper;
pub use self::mount::{attach, detach};
pub use self::populate::{Candidate, populate};
pub use self::running::{Copies, Which};
pub use self::whole::{diff, export, layer, next};
use crate::container::content;
use crate::engine::Engine;
use crate::error::Error;

/// How long a container may be neither live nor stopped.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at it.
const TICK: Duration = Duration::from_millis(20);
/// Longest path, and a little.
const PATH: usize = 4096;
/// Most bytes of one frame.
const FRAME: usize = 256 << 10;
/// Frames that wait for a slow client.
const WAITING: usize = 4;

/// Tells what is at a path.
///
/// # Errors
/// When there is no such container or path, or it cannot be looked at.
pub async fn stat(engine: &Arc<Engine>, request: CopyStatRequest) -> Result<CopyStatResponse, Error> {
    let action = Action::Stat { follow: request.follow_link };
    let mut helper = begin(engine, &request.container, &request.path, action).await?;
    Ok(CopyStatResponse { stat: Some(told(helper.answer().await?)?) })
}

/// Reads a file or folder as an archive. The stream ends with an error when the archive is not whole.
///
/// # Errors
/// When there is no such container or path, or it cannot be read.
pub async fn out(
    engine: &Arc<Engine>,
    request: CopyOutRequest,
) -> Result<impl Stream<Item = Result<CopyOutResponse, Error>> + Send + 'static + use<>, Error> {
    check(&request.name)?;
    let action = Action::Out { follow: request.follow_link, name: request.name };
    let mut helper = begin(engine, &request.container, &request.path, action).await?;
    let stat = told(helper.answer().await?)?;
    let (frames, stream) = mpsc::channel(WAITING);
    // The channel is empty and takes one.
    let _ = frames.try_send(Ok(CopyOutResponse { frame: Some(copy_out_response::Frame::Stat(stat)) }));
    tokio::spawn(async move {
        let sent = tokio::select! {
            // The helper is killed with this task.
            () = frames.closed() => return,
            sent = send(&mut helper, &frames) => sent,
        };
        if let Err(error) = sent {
            // Whoever has gone needs no reason.
            let _ = frames.send(Err(error)).await;
        }
    });
    Ok(ReceiverStream::new(stream))
}

async fn send(
    helper: &mut Helper,
    frames: &mpsc::Sender<Result<CopyOutResponse, Error>>,
) -> Result<(), Error> {
    let mut output = helper.output()?;
    loop {
        let data = read_frame(&mut output).await?;
        if data.is_empty() {
            break;
        }
        let frame = CopyOutResponse { frame: Some(copy_out_response::Frame::Data(data)) };
        if frames.send(Ok(frame)).await.is_err() {
            return Ok(());
        }
    }
    helper.done().await.map(drop)
}

/// As much as there is at once; a pipe gives a page at a time to whoever is quick.
async fn read_frame(output: &mut tokio::net::unix::pipe::Receiver) -> Result<Bytes, Error> {
    let mut data = BytesMut::with_capacity(FRAME);
    while data.len() < FRAME / 2 {
        let read = output.read_buf(&mut data).await;
        if read.map_err(Error::io("read the archive of the helper"))? == 0 {
            break;
        }
    }
    Ok(data.freeze())
}

/// Extracts an archive into a folder. A caller who goes away stops it midway.
///
/// # Errors
/// When there is no such container or folder, the archive is refused, or the file system fails.
pub async fn take(
    engine: &Arc<Engine>,
    mut frames: Streaming<CopyInRequest>,
) -> Result<CopyInResponse, Error> {
    let first = frames.message().await.map_err(RemoteError::from)?.and_then(|frame| frame.frame);
    let Some(copy_in_request::Frame::Open(CopyInOpen { container, path, keep_owners })) = first else {
        return Err(invalid("frame", "", "the first must be open"));
    };
    let mut helper = begin(engine, &container, &path, Action::In { keep_owners }).await?;
    let mut input = helper.input()?;
    loop {
        let frame = tokio::select! {
            // It failed, or the archive ended before the client did.
            answer = helper.done() => return answer,
            frame = frames.message() => frame.map_err(RemoteError::from)?,
        };
        let data = match frame.map(|frame| frame.frame) {
            None => break,
            Some(Some(copy_in_request::Frame::Data(data))) => data,
            Some(_) => return Err(invalid("frame", "", "all but the first must be data")),
        };
        if input.write_all(&data).await.is_err() {
            // It says why it reads no more.
            return helper.done().await;
        }
    }
    drop(input);
    helper.done().await
}

/// A helper that has the container's files before it.
async fn begin(engine: &Arc<Engine>, container: &str, path: &[u8], action: Action) -> Result<Helper, Error> {
    check(path)?;
    let id = engine.find(container)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut busy = "it is being started or ended".to_owned();
        if let Some(found) = place::find(engine, &id).await? {
            if let copy::Place::Stopped(_) = found.place {
                content::remount(engine, &id).await?;
            }
            let order = Order {
                container: container.to_owned(),
                place: found.place,
                ids: found.ids,
                path: path.to_vec(),
                action: action.clone(),
            };
            let mut helper = Helper::launch(engine, &id, &order, found.fds).await?;
            match helper.first().await? {
                Some(Answer::Ready) => return Ok(helper),
                Some(Answer::Failed { kind: FailureKind::Busy, message }) => busy = message,
                Some(Answer::Failed { kind, message }) => return Err(Error::Copy { kind, message }),
                // The container ended under it.
                None => {}
                Some(Answer::Stat(_) | Answer::Done { .. }) => return Err(helper::out_of_turn()),
            }
        }
        if Instant::now() > deadline {
            let message = format!("copy files of container {container}: {busy}: try again");
            return Err(Error::Copy { kind: FailureKind::Busy, message });
        }
        tokio::time::sleep(TICK).await;
    }
}

fn told(answer: Answer) -> Result<FileStat, Error> {
    let Answer::Stat(copy::Stat { mode, size, modified: (seconds, nanos), link }) = answer else {
        return Err(helper::out_of_turn());
    };
    let nanos = i32::try_from(nanos).unwrap_or(0);
    let modified = Some(prost_types::Timestamp { seconds, nanos });
    Ok(FileStat { mode, size, modified, link_target: link })
}

fn check(path: &[u8]) -> Result<(), Error> {
    let shown = String::from_utf8_lossy(path.get(..100).unwrap_or(path));
    if path.len() >= PATH {
        return Err(invalid("path", &shown, "must be shorter than 4096 bytes"));
    }
    if path.contains(&0) {
        return Err(invalid("path", &shown, "must not hold a NUL byte"));
    }
    Ok(())
}

fn invalid(what: &'static str, value: &str, rule: &str) -> Error {
    Error::Invalid { what, value: value.to_owned(), rule: rule.to_owned() }
}
