//! What goes to the engine: the wish, entries of all contexts, the content that it lacks, and an archive as it is.

use std::io::Read;
use std::sync::Arc;

use davit_proto::build::build_request::Frame;
use davit_proto::build::{BuildOpen, BuildRequest, Entries, EntriesEnd, Needed};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::context::{Context, send_archive};

/// Entries of a frame.
const ENTRIES: usize = 500;

/// What is on its way. Dropped, it ends.
pub struct Sending {
    contexts: Vec<Arc<Context>>,
    archive: Option<Box<dyn Read + Send>>,
    frames: mpsc::Sender<BuildRequest>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sending {
    /// Sends what comes before any content.
    pub fn begin(
        open: BuildOpen,
        contexts: Vec<Context>,
        archive: Option<Box<dyn Read + Send>>,
        frames: mpsc::Sender<BuildRequest>,
    ) -> Self {
        let contexts: Vec<Arc<Context>> = contexts.into_iter().map(Arc::new).collect();
        let mut sending = Self { contexts, archive, frames, tasks: Vec::new() };
        let first = first(sending.frames.clone(), open, sending.contexts.clone());
        let archive = if sending.contexts.is_empty() { sending.archive.take() } else { None };
        let frames = sending.frames.clone();
        sending.tasks.push(tokio::spawn(async move {
            first.await;
            if let Some(archive) = archive {
                send_archive(archive, frames);
            }
        }));
        sending
    }

    /// The engine lacks content.
    pub fn needed(&mut self, needed: Needed) {
        let Some(context) = self.contexts.get(needed.context as usize).map(Arc::clone) else { return };
        let last = needed.context as usize + 1 == self.contexts.len();
        let (archive, frames) = (if last { self.archive.take() } else { None }, self.frames.clone());
        self.tasks.push(tokio::spawn(async move {
            context.send(needed.entries, frames.clone()).await;
            if let Some(archive) = archive {
                send_archive(archive, frames);
            }
        }));
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Sends the wish and all entries. Ends early when nobody reads any more.
async fn first(frames: mpsc::Sender<BuildRequest>, open: BuildOpen, contexts: Vec<Arc<Context>>) {
    let send = async |frame| frames.send(BuildRequest { frame: Some(frame) }).await.is_ok();
    if !send(Frame::Open(open)).await {
        return;
    }
    for context in contexts {
        for some in context.entries().chunks(ENTRIES) {
            if !send(Frame::Entries(Entries { entries: some.to_vec() })).await {
                return;
            }
        }
        if !send(Frame::EntriesEnd(EntriesEnd {})).await {
            return;
        }
    }
}
