//! What clients type, on its way to the container.
//!
//! Each client types in a session with offsets of its own. Bytes count as taken when they are queued for the one task
//! that writes; from then on only the end of the shim loses them. A client that attaches again under the same session
//! is told how many were taken, and what it sends once more is skipped. When the container does not read, the queue
//! fills and the clients that type wait, and nobody else.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::watched::watch;

/// Frames of at most 32 KiB that wait for the container.
const QUEUE: usize = 2;
/// Sessions whose offsets are remembered.
const SESSIONS: usize = 16;
/// How long a client that was cut off may stay away before its input counts as ended: longer than a client waits for
/// an engine to come back. One that goes on purpose says so, and is not waited for.
const GRACE: Duration = Duration::from_secs(75);

/// What happens to a container's input when clients go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// It is closed when the first client that typed has gone.
    pub once: bool,
    /// It is a terminal, which is never closed.
    pub terminal: bool,
}

/// How much a session has typed.
#[derive(Debug, Default)]
struct Progress {
    taken: u64,
    /// Counts the attachments of the session; only the youngest may type.
    attachment: u64,
}

/// The writing end of a container's input, and who types.
#[derive(Debug)]
pub struct Input {
    rules: Rules,
    sessions: VecDeque<(String, Arc<Mutex<Progress>>)>,
    typists: Arc<AtomicUsize>,
    writer: Writer,
}

#[derive(Debug)]
enum Writer {
    /// Nobody has typed yet, so there is no task.
    Idle(OwnedFd),
    Running(mpsc::Sender<Typed>, mpsc::UnboundedSender<AsyncFd<File>>, AbortHandle),
    /// The descriptor could not be waited for.
    Broken,
}

/// What a typist hands to the task.
#[derive(Debug)]
enum Typed {
    Bytes(Bytes),
    End,
    Left { clean: bool },
}

impl Input {
    /// The input behind a pipe or terminal.
    pub fn new(end: OwnedFd, rules: Rules) -> Self {
        Self { rules, sessions: VecDeque::new(), typists: Arc::default(), writer: Writer::Idle(end) }
    }

    /// A client begins to type, or goes on; the typist knows how much was taken before.
    pub fn attach(&mut self, session: &str) -> io::Result<Typist> {
        let queue = self.queue()?;
        let progress = self.session(session);
        let (taken, attachment) = {
            let mut progress = lock(&progress);
            progress.attachment += 1;
            (progress.taken, progress.attachment)
        };
        self.typists.fetch_add(1, Ordering::Relaxed);
        Ok(Typist { next: taken, attachment, progress, typists: Arc::clone(&self.typists), queue })
    }

    /// Goes on with the input of the next life. What was being written to the one before is lost with it; an input that
    /// was closed for good stays closed.
    pub fn renew(&mut self, end: OwnedFd) -> io::Result<()> {
        match &mut self.writer {
            Writer::Idle(idle) => *idle = end,
            Writer::Running(_, renewed, _) => {
                // Without a task nobody would write.
                let _ = renewed.send(watch(File::from(end), Interest::WRITABLE)?);
            }
            Writer::Broken => return Err(io::Error::other("standard input cannot be written to")),
        }
        Ok(())
    }

    fn queue(&mut self) -> io::Result<mpsc::Sender<Typed>> {
        if let Writer::Running(queue, ..) = &self.writer {
            return Ok(queue.clone());
        }
        let Writer::Idle(end) = std::mem::replace(&mut self.writer, Writer::Broken) else {
            return Err(io::Error::other("standard input cannot be written to"));
        };
        let end = watch(File::from(end), Interest::WRITABLE)?;
        let (queue, typed) = mpsc::channel(QUEUE);
        let typists = Arc::clone(&self.typists);
        let (renew, renewed) = mpsc::unbounded_channel();
        let task = tokio::spawn(write_all(Some(end), (typed, renewed), self.rules, typists));
        self.writer = Writer::Running(queue.clone(), renew, task.abort_handle());
        Ok(queue)
    }

    fn session(&mut self, name: &str) -> Arc<Mutex<Progress>> {
        if name.is_empty() {
            return Arc::default();
        }
        if let Some((_, known)) = self.sessions.iter().find(|(known, _)| known == name) {
            return Arc::clone(known);
        }
        if self.sessions.len() == SESSIONS {
            self.sessions.pop_front();
        }
        let fresh = Arc::<Mutex<Progress>>::default();
        self.sessions.push_back((name.to_owned(), Arc::clone(&fresh)));
        fresh
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Writer::Running(_, _, task) = &self.writer {
            task.abort();
        }
    }
}

/// A client that types.
#[derive(Debug)]
pub struct Typist {
    next: u64,
    attachment: u64,
    progress: Arc<Mutex<Progress>>,
    typists: Arc<AtomicUsize>,
    queue: mpsc::Sender<Typed>,
}

/// A frame that begins behind the next byte: some bytes were never sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("input begins at offset {offset} but only {next} bytes came before it")]
pub struct Gap {
    /// Where the frame begins.
    pub offset: u64,
    /// Where it should have begun at the latest.
    pub next: u64,
}

impl Typist {
    /// Bytes of this session that were taken so far.
    pub fn taken(&self) -> u64 {
        self.next
    }

    /// Queues bytes; waits as long as the container does not read. Bytes that were taken before are skipped.
    pub async fn put(&mut self, offset: u64, data: Bytes, end: bool) -> Result<(), Gap> {
        let Some(repeated) = self.next.checked_sub(offset) else {
            return Err(Gap { offset, next: self.next });
        };
        let repeated = usize::try_from(repeated).unwrap_or(usize::MAX).min(data.len());
        let fresh = data.slice(repeated..);
        if !fresh.is_empty() {
            self.next += fresh.len() as u64;
            self.send(Typed::Bytes(fresh)).await;
        }
        if end {
            self.send(Typed::End).await;
        }
        Ok(())
    }

    /// The client has gone; `clean` when it said so and was not cut off.
    pub async fn leave(self, clean: bool) {
        let queue = self.queue.clone();
        let current = lock(&self.progress).attachment == self.attachment;
        // No longer counted before the task looks at the count.
        drop(self);
        if current {
            // Without a task there is no input left to close.
            let _ = queue.send(Typed::Left { clean }).await;
        }
    }

    async fn send(&self, typed: Typed) {
        // Without a task the container has closed its input: what is typed is lost, as in any pipeline.
        let Ok(place) = self.queue.reserve().await else { return };
        {
            let mut progress = lock(&self.progress);
            if progress.attachment != self.attachment {
                return;
            }
            if let Typed::Bytes(bytes) = &typed {
                progress.taken += bytes.len() as u64;
            }
        }
        place.send(typed);
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        self.typists.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task: writes what comes, in the order in which it comes, to the input of the present life.
async fn write_all(
    mut end: Option<AsyncFd<File>>,
    (mut typed, mut renewed): (mpsc::Receiver<Typed>, mpsc::UnboundedReceiver<AsyncFd<File>>),
    rules: Rules,
    typists: Arc<AtomicUsize>,
) {
    let closes = rules.once && !rules.terminal;
    let mut close_at: Option<Instant> = None;
    // By those who type, not by the container.
    let mut closed = false;
    loop {
        let next = tokio::select! {
            biased;
            Some(next) = renewed.recv() => {
                end = (!closed).then_some(next);
                continue;
            }
            next = typed.recv() => next,
            () = sleep_until(close_at.unwrap_or_else(Instant::now)), if close_at.is_some() => {
                close_at = None;
                closed |= typists.load(Ordering::Relaxed) == 0;
                end = end.filter(|_| !closed);
                continue;
            }
        };
        match next {
            None => return,
            Some(Typed::Bytes(bytes)) => {
                let Some(open) = &end else { continue };
                tokio::select! {
                    biased;
                    // The one before does not read any more.
                    Some(next) = renewed.recv() => end = Some(next),
                    written = write(open, &bytes) => end = end.filter(|_| written.is_ok()),
                }
            }
            Some(Typed::End) if !rules.terminal => {
                closed = closes;
                end = None;
            }
            Some(Typed::Left { clean: true }) if closes => {
                closed = true;
                end = None;
            }
            Some(Typed::Left { clean: false }) if closes => close_at = Some(Instant::now() + GRACE),
            Some(Typed::End | Typed::Left { .. }) => {}
        }
    }
}

async fn write(end: &AsyncFd<File>, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match end.async_io(Interest::WRITABLE, |mut file| file.write(rest)).await {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
