//! `logs`: reads a container's log from its files, whether it runs or not and whoever else is dead. The
//! shim is never asked.

mod entry;
mod file;
mod reader;
mod tail;

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

use entry::nanoseconds;
use reader::{Reader, Wanted};

/// How soon the files are looked at again after something was read.
const SOON: Duration = Duration::from_millis(10);
/// How soon at the latest.
const LATE: Duration = Duration::from_millis(160);

/// A log on its way to a client.
struct Following {
    container_id: ContainerId,
    reader: Reader,
    follow: bool,
    until: Option<i128>,
    record: Option<Watched>,
    pause: Duration,
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
        since: request.since.as_ref().map(nanoseconds),
        until: request.until.as_ref().map(nanoseconds),
    };
    let until = wanted.until;
    let record = engine.store.watch(&container_id);
    // What does not run now will not write: there is nothing to follow.
    let follow = request.follow && record.as_ref().is_some_and(|record| may_write(&record.borrow()));
    let folder = engine.config.bundle(&container_id).join("log");
    let reader = blocking(move || Reader::open(folder, wanted, request.tail, follow))
        .await
        .map_err(Error::io(format!("open the log of {container_id}")))?;
    let state = Following { container_id, reader, follow, until, record, pause: SOON };
    Ok(unfold(Some(state), |state| async move { next(state?).await }))
}

type Step = Option<(Result<LogsResponse, Error>, Option<Following>)>;

/// The next frame.
async fn next(mut state: Following) -> Step {
    loop {
        // Looked at before reading: what an ended container wrote is all there by then.
        let over = !state.follow || state.is_over();
        let Following { mut reader, .. } = state;
        let read = blocking(move || {
            let lines = reader.read();
            Ok((lines, reader))
        });
        let (lines, reader) = match read.await {
            Ok(read) => read,
            Err(error) => return failed(&state.container_id, error),
        };
        state.reader = reader;
        match lines {
            Err(error) => return failed(&state.container_id, error),
            Ok(lines) if !lines.is_empty() => {
                state.pause = SOON;
                return Some((Ok(LogsResponse { lines }), Some(state)));
            }
            Ok(_) if over => return None,
            Ok(_) => state.wait().await,
        }
    }
}

fn failed(container_id: &ContainerId, error: io::Error) -> Step {
    Some((Err(Error::io(format!("read the log of {container_id}"))(error)), None))
}

impl Following {
    /// Whether nothing more can come.
    fn is_over(&self) -> bool {
        let ended = self.record.as_ref().is_none_or(|record| !may_write(&record.borrow()));
        ended || self.until.is_some_and(|until| nanoseconds(&now()) >= until)
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
