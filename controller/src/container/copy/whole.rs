//! What a helper reads of a container as a whole: its changes, its writable layer, all its files.

use std::sync::Arc;

use bytes::Bytes;
use davit_proto::container::{
    DiffEntry, DiffKind, DiffRequest, DiffResponse, ExportRequest, ExportResponse, Phase,
};
use davit_proto::copy::{self, Action, Answer, Order};
use davit_proto::id::ContainerId;
use futures_util::Stream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::helper::{Helper, out_of_turn};
use super::{WAITING, begin, read_frame};
use crate::container::live::status_of;
use crate::engine::Engine;
use crate::error::Error;
use crate::events;

/// Entries of one frame.
const PAGE: usize = 1000;
/// Longest path of a change, far more than the kernel lets anybody open at once.
const PATH: usize = 1 << 20;

/// What a container changed in its image's files.
///
/// # Errors
/// When there is no such container, or its layer cannot be read.
pub async fn diff(
    engine: &Arc<Engine>,
    request: DiffRequest,
) -> Result<impl Stream<Item = Result<DiffResponse, Error>> + Send + 'static + use<>, Error> {
    let id = engine.find(&request.container)?;
    let helper = layer(engine, &id, &request.container, Action::Diff).await?;
    Ok(streamed(|frames| pages(helper, frames)))
}

/// All files of a container, without what is mounted on them.
///
/// # Errors
/// When there is no such container, or its files cannot be read.
pub async fn export(
    engine: &Arc<Engine>,
    request: ExportRequest,
) -> Result<impl Stream<Item = Result<ExportResponse, Error>> + Send + 'static + use<>, Error> {
    let helper = begin(engine, &request.container, b"/", Action::Export).await?;
    let container = engine.container(&engine.find(&request.container)?)?;
    engine.store.note(events::of_container(&container, "export", []));
    Ok(streamed(|frames| pieces(helper, frames)))
}

async fn pieces(
    mut helper: Helper,
    frames: mpsc::Sender<Result<ExportResponse, Error>>,
) -> Result<(), Error> {
    let mut output = helper.output()?;
    loop {
        let data = read_frame(&mut output).await?;
        if data.is_empty() {
            return helper.done().await.map(drop);
        }
        if frames.send(Ok(ExportResponse { data })).await.is_err() {
            return Ok(());
        }
    }
}

/// A helper with a container's writable layer before it.
///
/// # Errors
/// When the container is not made yet or is being removed, or the layer cannot be found.
pub async fn layer(
    engine: &Arc<Engine>,
    id: &ContainerId,
    container: &str,
    action: Action,
) -> Result<Helper, Error> {
    let record = engine.container(id)?;
    let refused = |phase| Error::Phase { verb: "read the files of", container: record.name.clone(), phase };
    match status_of(&record).phase() {
        Phase::Creating | Phase::Unspecified => return Err(refused("not made yet")),
        Phase::Removing => return Err(refused("being removed")),
        _ => {}
    }
    let place = copy::Place::Layer(engine.config.bundle(id));
    let order = Order { container: container.to_owned(), place, ids: None, path: Vec::new(), action };
    let mut helper = Helper::launch(engine, id, &order, Vec::new()).await?;
    match helper.answer().await? {
        Answer::Ready => Ok(helper),
        Answer::Stat(_) | Answer::Done { .. } | Answer::Failed { .. } => Err(out_of_turn()),
    }
}

/// Some bytes of the layer; none at its end.
///
/// # Errors
/// When the helper has gone.
pub async fn next(output: &mut pipe::Receiver) -> Result<Bytes, Error> {
    read_frame(output).await
}

/// Lets somebody fill frames until he is done or the client has gone. The helper ends with it.
fn streamed<T, F>(
    work: impl FnOnce(mpsc::Sender<Result<T, Error>>) -> F,
) -> impl Stream<Item = Result<T, Error>> + Send + 'static
where
    T: Send + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (frames, stream) = mpsc::channel(WAITING);
    let work = work(frames.clone());
    tokio::spawn(async move {
        let done = tokio::select! {
            () = frames.closed() => return,
            done = work => done,
        };
        if let Err(error) = done {
            // Whoever has gone needs no reason.
            let _ = frames.send(Err(error)).await;
        }
    });
    ReceiverStream::new(stream)
}

/// A letter, a path and a NUL byte for each change.
async fn pages(mut helper: Helper, frames: mpsc::Sender<Result<DiffResponse, Error>>) -> Result<(), Error> {
    let mut output = helper.output()?;
    let (mut page, mut rest) = (DiffResponse::default(), Vec::new());
    loop {
        let data = read_frame(&mut output).await?;
        if data.is_empty() {
            break;
        }
        rest.extend_from_slice(&data);
        let mut at = 0;
        while let Some(length) = rest.get(at..).and_then(|left| left.iter().position(|byte| *byte == 0)) {
            page.entries.push(entry(rest.get(at..at + length).unwrap_or_default())?);
            at += length + 1;
            if page.entries.len() == PAGE && frames.send(Ok(std::mem::take(&mut page))).await.is_err() {
                return Ok(());
            }
        }
        rest.drain(..at);
        if rest.len() > PATH {
            return Err(out_of_turn());
        }
    }
    helper.done().await?;
    if !page.entries.is_empty() {
        // A client that has gone needs no more.
        let _ = frames.send(Ok(page)).await;
    }
    Ok(())
}

fn entry(line: &[u8]) -> Result<DiffEntry, Error> {
    let kind = match line.first() {
        Some(b'A') => DiffKind::Added,
        Some(b'C') => DiffKind::Changed,
        Some(b'D') => DiffKind::Deleted,
        _ => return Err(out_of_turn()),
    };
    Ok(DiffEntry { path: Bytes::copy_from_slice(line.get(1..).unwrap_or_default()), kind: kind.into() })
}
