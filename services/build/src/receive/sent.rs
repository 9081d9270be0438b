//! What the client sends: entries and the content that is lacking, or an archive.

use std::sync::Arc;

use davit_proto::build::build_request::Frame;
use davit_proto::build::build_response::Event;
use davit_proto::build::{ArchivePiece, BuildRequest, Needed, StepState};
use davit_proto::pieces::Pieces;
use davit_proto::status::RemoteError;
use tonic::Streaming;

use super::Intake;
use crate::context::{self, Files};
use crate::error::Error;
use crate::progress::Progress;
use crate::stage::blocking;
use crate::unpack::{Watch, unpack};

/// Pieces of an archive that may wait.
const PIECES: usize = 16;
const STEP: &str = "[internal] load build context";
const PART: &str = "transferring context";

/// The next frame; none when the client says no more.
///
/// # Errors
/// The connection broke.
pub async fn next(frames: &mut Streaming<BuildRequest>) -> Result<Option<Frame>, Error> {
    let frame = frames.message().await.map_err(RemoteError::from)?;
    match frame {
        None => Ok(None),
        Some(BuildRequest { frame: Some(frame) }) => Ok(Some(frame)),
        Some(BuildRequest { frame: None }) => Err(Error::Invalid("a frame says nothing".to_owned())),
    }
}

/// Takes in contexts that are sent as entries: what there is in each, then what is lacking of each.
pub(super) async fn entries(
    frames: &mut Streaming<BuildRequest>,
    intake: &Intake<'_>,
    keys: Vec<String>,
) -> Result<Vec<Files>, Error> {
    let mut listed = Vec::new();
    for key in keys {
        let mut context = context::Intake::new(intake.store, Arc::clone(&intake.held), &key);
        loop {
            match next(frames).await? {
                Some(Frame::Entries(entries)) => context.entries(entries.entries)?,
                Some(Frame::EntriesEnd(_)) => break,
                Some(_) => return Err(Error::Invalid("entries of the context must follow".to_owned())),
                None => return Err(Error::Cancelled),
            }
        }
        listed.push(context);
    }
    let mut whole = Vec::new();
    for (number, context) in (0..).zip(listed) {
        whole.push(content(frames, intake.progress, context, number).await?);
    }
    Ok(whole)
}

/// Takes in what is lacking of a context.
async fn content(
    frames: &mut Streaming<BuildRequest>,
    progress: &Progress,
    mut context: context::Intake,
    number: u32,
) -> Result<Files, Error> {
    let needed;
    (context, needed) = blocking(move || {
        let needed = context.needed()?;
        Ok((context, needed))
    })
    .await?;
    let step = progress.begin(STEP).await?;
    progress.tell(Event::Needed(Needed { entries: needed, context: number })).await?;
    let mut moving = step.part(PART, context.lacking()).await?;
    while !context.is_whole() {
        match next(frames).await? {
            Some(Frame::Content(content)) if content.error.is_empty() => {
                context = blocking(move || {
                    context.content(content.entry, &content.chunk, content.last)?;
                    Ok(context)
                })
                .await?;
                moving.at(context.received()).await?;
            }
            Some(Frame::Content(content)) => return Err(Error::Invalid(content.error)),
            Some(_) => return Err(Error::Invalid("content of the context must follow".to_owned())),
            None => return Err(Error::Cancelled),
        }
    }
    moving.done().await?;
    let files = blocking(move || context.finish()).await?;
    step.tell(StepState::Done).await?;
    Ok(files)
}

/// Takes in a context that is sent as an archive, and unpacks it as it comes.
pub(super) async fn archive(
    frames: &mut Streaming<BuildRequest>,
    intake: &Intake<'_>,
) -> Result<Files, Error> {
    let step = intake.progress.begin(STEP).await?;
    let (pieces, coming) = Pieces::channel(PIECES);
    let (store, watch) = (intake.store.clone(), Watch::default());
    let watched = watch.watched();
    let unpacking = tokio::task::spawn_blocking(move || unpack(coming, &store, &watched));
    loop {
        match next(frames).await? {
            Some(Frame::Archive(ArchivePiece { chunk, last })) => {
                // Who reads no more says why below.
                if !chunk.is_empty() && pieces.send(Ok(Some(chunk))).await.is_err() {
                    break;
                }
                if last {
                    let _ = pieces.send(Ok(None)).await;
                    break;
                }
            }
            Some(_) => return Err(Error::Invalid("the archive that is the context must follow".to_owned())),
            None => return Err(Error::Cancelled),
        }
    }
    let nodes = unpacking.await.map_err(|_| Error::Lost)??;
    drop(watch);
    step.tell(StepState::Done).await?;
    Ok(intake.files(nodes))
}
