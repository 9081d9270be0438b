//! A container becomes an image: what it changed on top of the image it was made from, with the settings it runs with.
//!
//! ```text
//! settings ─▶ freeze ─▶ helper ══ layer ══▶ image service ─▶ thaw ─▶ image, named
//! ```
//!
//! The container is frozen for no longer than its files are read.

pub(super) mod config;

use std::sync::Arc;

use davit_proto::container::{CommitRequest, CommitResponse};
use davit_proto::copy::Action;
use davit_proto::id::ContainerId;
use davit_proto::image::{self, CommitOpen, commit_request};
use davit_proto::status::RemoteError;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::copy;
use super::freeze::Frozen;
use crate::actor::Actor;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{LONG, within};
use crate::{events, failpoint};

/// Frames of the layer that wait for the image service.
const WAITING: usize = 4;

/// Makes an image from a container.
///
/// # Errors
/// When there is no such container, its files cannot be read, or the image cannot be made.
pub async fn commit(
    engine: &Arc<Engine>,
    request: CommitRequest,
    actor: &Actor,
) -> Result<CommitResponse, Error> {
    let id = engine.find(&request.container)?;
    let open = opened(engine, &id, &request).await?;
    let frozen = if request.no_pause { None } else { Frozen::begin(engine, &id, actor).await? };
    let not_after = request.not_after.map(|time| time.seconds);
    let read = Reading { engine, id: &id, container: &request.container, frozen, not_after };
    let made = read.into_image(open).await?;
    failpoint::pass(failpoint::COMMIT_MADE).await?;
    let container = engine.container(&id)?;
    let facts = [
        ("comment", request.comment),
        ("imageID", made.image_id.clone()),
        ("imageRef", made.reference.clone()),
    ];
    engine.store.note(events::of_container(&container, "commit", facts));
    Ok(CommitResponse { image_id: made.image_id, digest: made.digest, reference: made.reference })
}

/// What the image is to be.
async fn opened(
    engine: &Arc<Engine>,
    id: &ContainerId,
    request: &CommitRequest,
) -> Result<CommitOpen, Error> {
    let container = engine.container(id)?;
    // Answers the same as ever for a container that has its image, whatever became of the image's names.
    let (container_id, image) = (id.to_string(), container.image_id.clone());
    let wanted = image::PrepareRequest { container_id, image, ..image::PrepareRequest::default() };
    let prepared = within(LONG, "ask for the image", engine.images().prepare(wanted)).await?;
    let config = if request.config.is_empty() {
        config::merged(&container, &prepared.config)?
    } else {
        request.config.clone()
    };
    let created_by = match request.created_by.as_str() {
        "" => container.args.join(" "),
        said => said.to_owned(),
    };
    Ok(CommitOpen {
        base: prepared.image_id,
        config: config.into(),
        changes: request.changes.clone(),
        author: request.author.clone(),
        comment: request.comment.clone(),
        created_by,
        earlier: request.earlier.clone(),
        created_at: request.created_at,
        reference: request.reference.clone(),
        ..CommitOpen::default()
    })
}

/// A container whose layer goes to the image service.
struct Reading<'a> {
    engine: &'a Arc<Engine>,
    id: &'a ContainerId,
    container: &'a str,
    frozen: Option<Frozen>,
    /// No file's time is told later than this, in seconds since 1970.
    not_after: Option<i64>,
}

impl Reading<'_> {
    async fn into_image(mut self, open: CommitOpen) -> Result<image::CommitResponse, Error> {
        failpoint::pass(failpoint::COMMIT_FROZEN).await?;
        let (frames, stream) = mpsc::channel(WAITING);
        let (whole, ended) = oneshot::channel::<()>();
        // Without that word the service must not take what came for the whole layer, however the stream ends.
        let ending = async move { ended.await.ok().map(|()| end()) };
        let ending = futures_util::stream::once(ending).filter_map(std::future::ready);
        let first = image::CommitRequest { frame: Some(commit_request::Frame::Open(open)) };
        let first = futures_util::stream::iter([first]);
        let request = Request::new(first.chain(ReceiverStream::new(stream)).chain(ending));
        let mut images = self.engine.images();
        let mut call = std::pin::pin!(images.commit(request));
        let made = tokio::select! {
            // It refuses what it was told, or the layer.
            made = &mut call => made,
            fed = self.feed(frames) => {
                fed?;
                // Nobody needs the answer to it when the service has gone.
                let _ = whole.send(());
                call.await
            }
        };
        Ok(made.map_err(RemoteError::from)?.into_inner())
    }

    /// Sends the layer, and lets the container run on.
    async fn feed(&mut self, frames: mpsc::Sender<image::CommitRequest>) -> Result<(), Error> {
        let action = Action::Layer { not_after: self.not_after };
        let mut helper = copy::layer(self.engine, self.id, self.container, action).await?;
        let mut output = helper.output()?;
        loop {
            let chunk = copy::next(&mut output).await?;
            if chunk.is_empty() {
                break;
            }
            let frame = image::CommitRequest { frame: Some(commit_request::Frame::Chunk(chunk)) };
            if frames.send(frame).await.is_err() {
                // The service says why it takes no more.
                return std::future::pending().await;
            }
        }
        helper.done().await?;
        failpoint::pass(failpoint::COMMIT_READ).await?;
        match self.frozen.take() {
            Some(frozen) => frozen.thaw().await,
            None => Ok(()),
        }
    }
}

/// The frame that says that a layer is whole.
fn end() -> image::CommitRequest {
    image::CommitRequest { frame: Some(commit_request::Frame::End(image::CommitEnd {})) }
}

/// The frame that says that no more of a layer comes, and why.
#[must_use]
pub fn abort(why: &str) -> image::CommitRequest {
    image::CommitRequest { frame: Some(commit_request::Frame::Abort(why.to_owned())) }
}
