//! `logs`: reads a container's log from its files, whether it runs or not and whoever else is dead. The
//! shim is never asked.

mod entry;
mod file;
mod reader;
mod tail;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::{LogsRequest, LogsResponse};
use davit_proto::id::ContainerId;
use davit_proto::time::now;
use futures_util::stream::{Stream, unfold};

use super::live;
use crate::engine::Engine;
use crate::error::Error;
use crate::store::{Seen, Watched, phase};

use entry::{Moment, moment};
use reader::{Reader, Wanted};

/// How soon the files are looked at again after something was read.
const SOON: Duration = Duration::from_millis(10);
/// How soon at the latest.
const LATE: Duration = Duration::from_millis(160);
/// Frames that are read ahead, because handing a thread something to do costs as much as reading one.
const AHEAD: usize = 4;

/// A log on its way to a client.
struct Following {
    container_id: ContainerId,
    reader: Reader,
    follow: bool,
    until: Option<Moment>,
    record: Option<Watched>,
    pause: Duration,
    /// Frames that were read and not yet sent.
    ahead: VecDeque<LogsResponse>,
}

/// Reads a log, and with `follow` goes on as it grows until the container ends.
///
/// # Errors
/// When there is no such container, no stream is wanted, or a file cannot be opened.
pub async fn logs(
    engine: &Arc<Engine>,
    request: LogsRequest,
) -> Result<impl Stream<Item = Result<LogsResponse, Error>> + Send + 'static + use<>, Error> {
    let container_id = engine.find(&request.container)?;
    if !request.stdout && !request.stderr {
        return Err(Error::Invalid {
            what: "streams",
            value: "none".to_owned(),
            rule: "at least one of stdout and stderr must be wanted".to_owned(),
        });
    }
    let wanted = Wanted {
        stdout: request.stdout,
        stderr: request.stderr,
        since: request.since.as_ref().map(moment),
        until: request.until.as_ref().map(moment),
        joined: request.joined,
    };
    let until = wanted.until;
    let record = engine.store.watch(&container_id);
    // What does not run now will not write: there is nothing to follow.
    let follow = request.follow && record.as_ref().is_some_and(|record| may_write(&record.borrow()));
    let folder = engine.config.bundle(&container_id).join("log");
    let reader = blocking(move || Reader::open(folder, wanted, request.tail, follow))
        .await
        .map_err(Error::io(format!("open the log of {container_id}")))?;
    let state =
        Following { container_id, reader, follow, until, record, pause: SOON, ahead: VecDeque::new() };
    Ok(unfold(Some(state), |state| async move { next(state?).await }))
}

type Step = Option<(Result<LogsResponse, Error>, Option<Following>)>;

/// The next frame.
async fn next(mut state: Following) -> Step {
    loop {
        if let Some(frame) = state.ahead.pop_front() {
            return Some((Ok(frame), Some(state)));
        }
        // Looked at before reading: what an ended container wrote is all there by then.
        let over = !state.follow || state.is_over();
        let Following { mut reader, .. } = state;
        let read = blocking(move || Ok((ahead(&mut reader)?, reader))).await;
        let (frames, reader) = match read {
            Ok(read) => read,
            Err(error) => return failed(&state.container_id, error),
        };
        state.reader = reader;
        state.ahead = frames;
        match state.ahead.is_empty() {
            false => state.pause = SOON,
            true if over => return None,
            true => state.wait().await,
        }
    }
}

/// Some more frames; none when all that there is was read.
fn ahead(reader: &mut Reader) -> io::Result<VecDeque<LogsResponse>> {
    let mut frames = VecDeque::with_capacity(AHEAD);
    while frames.len() < AHEAD {
        match reader.read() {
            Ok(lines) if lines.is_empty() => break,
            Ok(lines) => frames.push_back(LogsResponse { lines }),
            Err(error) if frames.is_empty() => return Err(error),
            // What was read comes first; the next read fails the same way.
            Err(_) => break,
        }
    }
    Ok(frames)
}

fn failed(container_id: &ContainerId, error: io::Error) -> Step {
    Some((Err(Error::io(format!("read the log of {container_id}"))(error)), None))
}

impl Following {
    /// Whether nothing more can come.
    fn is_over(&self) -> bool {
        let ended = self.record.as_ref().is_none_or(|record| !may_write(&record.borrow()));
        ended || self.until.is_some_and(|until| moment(&now()) >= until)
    }

    /// Waits until there may be more: for a while, or until the container's state changes.
    async fn wait(&mut self) {
        let pause = self.pause;
        self.pause = (pause * 2).min(LATE);
        match &mut self.record {
            Some(record) => {
                // Late or gone, the next look at the record tells.
                let _ = tokio::time::timeout(pause, record.changed()).await;
            }
            None => tokio::time::sleep(pause).await,
        }
    }
}

/// Whether a container may still write to its log.
fn may_write(seen: &Seen) -> bool {
    !seen.removed && live::is_live(phase(&seen.record))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
