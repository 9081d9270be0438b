//! The end of a build: what becomes of what the stages came to.
//!
//! ```text
//! state ─┬─▶ image ─▶ its names, or none, or only that of a step
//!        └─▶ its files, as an archive, to the client
//! ```
//!
//! What a client does with an image beyond that (an archive, a registry), it asks the engine for as for any image.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_archive::write::Writer;
use davit_proto::build::build_response::Event;
use davit_proto::build::{Built, Files, Outcome, StepState};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::build::Build;
use crate::error::Error;
use crate::layer::{self, Data, Item};
use crate::progress::Progress;
use crate::stage::{State, settle};
use crate::tree::{Kind, Tree};

/// Bytes of a frame, and how many may wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// Makes of a state what the client wants, and tells it.
///
/// # Errors
/// The engine refuses, a file cannot be read, or the client is gone.
pub async fn finish(build: &Build, state: State) -> Result<(), Error> {
    if build.options.send_files {
        send(build, &state).await?;
    }
    let diff_ids = state.image.as_ref().map(|image| image.told.diff_ids.clone()).unwrap_or_default();
    let mut built = match build.options.outcome() {
        Outcome::Files => Built::default(),
        outcome => image(build, state, outcome).await?,
    };
    (built.steps, built.result_steps) = build.steps.names(&diff_ids);
    build.progress.tell(Event::Built(built)).await
}

async fn image(build: &Build, state: State, outcome: Outcome) -> Result<Built, Error> {
    let step = build.progress.begin("exporting to image").await?;
    let image_id = settle(build, state).await?;
    step.say(&format!("writing image {image_id}")).await?;
    for tag in &build.options.tags {
        build.engine.tag(&image_id, tag).await?;
        step.say(&format!("naming to {tag}")).await?;
    }
    if build.options.tags.is_empty() && outcome != Outcome::Unlisted {
        build.engine.list_unnamed(&image_id).await?;
    }
    let made = build.engine.image(&image_id).await?.ok_or(Error::Lost)?;
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&made.told.manifest)));
    step.tell(StepState::Done).await?;
    Ok(Built { image_id, references: build.options.tags.clone(), digest, ..Built::default() })
}

/// Sends the files of a state as an archive.
async fn send(build: &Build, state: &State) -> Result<(), Error> {
    let step = build.progress.begin("exporting to client").await?;
    let (tree, limit) = (state.files()?, build.epoch.limit());
    let (chunks, mut waiting) = mpsc::channel(PIECES);
    let writing = tokio::task::spawn_blocking(move || match tree {
        Some(tree) => write(&tree, limit, Chunks { chunks, open: Vec::new() }),
        None => write_nothing(Chunks { chunks, open: Vec::new() }),
    });
    while let Some(chunk) = waiting.recv().await {
        tell(&build.progress, chunk).await?;
    }
    writing.await.map_err(|_| Error::Lost)??;
    tell(&build.progress, Vec::new()).await?;
    step.tell(StepState::Done).await
}

async fn tell(progress: &Progress, chunk: Vec<u8>) -> Result<(), Error> {
    progress.tell(Event::Files(Files { chunk: chunk.into() })).await
}

fn write_nothing(output: impl Write) -> Result<(), Error> {
    Writer::new(output).end().map_err(Error::io("write the files of the result"))
}

/// Writes all files of a tree, folders before what is in them.
fn write(tree: &Arc<dyn Tree>, not_after: Option<i64>, output: impl Write) -> Result<(), Error> {
    let mut writer = Writer::new(output).not_after(not_after);
    let mut seen = layer::Seen::default();
    // The first is taken last: names stand in the order of their bytes, each folder with all that is in it.
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let failed = || Error::io(format!("read /{} of the result", path.display()));
        let Some(node) = tree.stat(&path).map_err(failed())? else { continue };
        if node.is_dir() {
            let names = tree.list(&path).map_err(failed())?;
            open.extend(names.into_iter().rev().map(|name| path.join(name)));
        }
        let data = match node.kind {
            Kind::File { number: Some(number), .. } => {
                Data::Shared(Arc::clone(tree), path.clone(), (0, number))
            }
            Kind::File { .. } => Data::Tree(Arc::clone(tree), path.clone()),
            _ => Data::None,
        };
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        layer::write(&mut writer, &mut seen, name, &Item { node, data }).map_err(failed())?;
    }
    writer.end().map_err(Error::io("write the files of the result"))
}

/// Pieces of an archive on their way to the client.
struct Chunks {
    chunks: mpsc::Sender<Vec<u8>>,
    open: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = &bytes[..bytes.len().min(PIECE - self.open.len())];
        self.open.extend_from_slice(taken);
        if self.open.len() == PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        // A client that is gone is told of by whoever reads the pieces.
        let sent = self.chunks.blocking_send(std::mem::take(&mut self.open));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
