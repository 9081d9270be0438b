//! Push: an image, byte for byte as it is kept here, into its registry.
//!
//! ```text
//! reference ─▶ manifest ─┬▶ layers, five at a time ┬─▶ config ─▶ manifest ─▶ index.json: where it is now
//!                        │  there already?         │
//!                        │  another repository's?  │
//!                        └─ else sent in chunks ───┘
//! ```
//!
//! The manifest goes last, so that nobody ever sees an image at the registry that is not whole. Whatever ends a push,
//! the next one sends only what is still missing. A lease keeps what is being sent from being removed meanwhile.

mod select;
mod steps;

use std::collections::HashSet;
use std::sync::Arc;

use davit_proto::id::Digest;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::spawn_blocking;

use self::select::{Chosen, Selection};
use crate::content::ContentError;
use crate::document::{Descriptor, is_foreign};
use crate::pull::{Board, LayerState, Progress};
use crate::reference::ImageRef;
use crate::registry::{
    self, Credential, Failure, Manifest, ManifestKind, Outbound, RegistryError, Repository,
};
use crate::store::{Store, StoreError};

/// Layers that are sent at once.
const PARALLEL: usize = 5;
/// Other repositories that are asked for one blob.
const NEIGHBOURS: usize = 3;

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// This host's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No image here has that name.
    #[error("an image does not exist locally with the tag: {0}")]
    NoSuchTag(String),
    /// Images get their digest from their content.
    #[error("cannot push {0}: a digest reference names no tag")]
    Digest(String),
    /// All tags and one of them.
    #[error("cannot push all tags of {0}: it names one tag")]
    OneTag(String),
    /// A part of the image is gone.
    #[error("cannot push {reference}: {digest} is not in the content store any more, pull or build it again")]
    Missing {
        /// What was to be pushed.
        reference: String,
        /// Which part.
        digest: Digest,
    },
    /// A part of the image is no longer what it was.
    #[error(
        "cannot push {reference}: {digest} is damaged on this host, remove the image and pull or build it again"
    )]
    Damaged {
        /// What was to be pushed.
        reference: String,
        /// Which part.
        digest: Digest,
    },
    /// A thread of the push ended without a word.
    #[error("internal failure while pushing {0}")]
    Lost(String),
}

impl From<ContentError> for PushError {
    fn from(error: ContentError) -> Self {
        Self::Store(error.into())
    }
}

/// What to send.
#[derive(Debug, Clone)]
pub struct Request {
    /// The reference, as it was typed: without a tag, `latest` is meant, or all of them.
    pub reference: ImageRef,
    /// Every tag of the repository that is here.
    pub all_tags: bool,
    /// The credential that came with the request.
    pub credential: Option<Credential>,
    /// Steps of builds, to be sent with an index of them under the reference.
    pub steps: Vec<ImageRef>,
}

/// An image that is at its registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The full reference.
    pub reference: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Bytes of its manifest.
    pub size: u64,
    /// The index it was pulled by, of which only this image is here.
    pub part_of: Option<Digest>,
}

/// One push under way.
struct Push {
    store: Store,
    repository: Repository,
    selection: Selection,
    board: Arc<Board>,
    /// Where an index of steps goes, when it is steps that are sent.
    cache: Option<ImageRef>,
}

/// Sends an image, or all of a repository; what it is at is told on the board. Dropping this ends the push.
pub async fn push(
    store: &Store,
    client: &registry::Client,
    request: Request,
    board: Arc<Board>,
) -> Result<(), PushError> {
    let repository = client.repository_to_push(&request.reference, request.credential.clone());
    let (of, name) = (store.clone(), request.reference.to_string());
    let cache = (!request.steps.is_empty()).then(|| request.reference.clone());
    let selection = spawn_blocking(move || select::select(&of, &request)).await;
    let selection = selection.map_err(|_| PushError::Lost(name))??;
    Push { store: store.clone(), repository, selection, board, cache }.run().await
}

impl Push {
    async fn run(self) -> Result<(), PushError> {
        let mut seen = HashSet::new();
        let layers: Vec<(&Chosen, &Descriptor)> = self
            .selection
            .chosen
            .iter()
            .flat_map(|chosen| chosen.image.manifest.layers.iter().map(move |layer| (chosen, layer)))
            .filter(|(_, layer)| seen.insert(&layer.digest))
            .collect();
        let Some(first) = self.selection.chosen.first() else { return Ok(()) };
        self.board.resolve(
            self.cache.as_ref().unwrap_or(&first.reference).name(),
            first.image.descriptor.digest.clone(),
            layers.iter().map(|(_, layer)| layer.digest.clone()).collect(),
        );
        for (_, layer) in &layers {
            self.board.set(&layer.digest, LayerState::Waiting, 0, layer.size);
        }
        for chosen in &self.selection.chosen {
            self.one(chosen).await?;
        }
        match &self.cache {
            Some(reference) => self.index(reference).await,
            None => Ok(()),
        }
    }

    /// Sends one image: layers, configuration, manifest.
    async fn one(&self, chosen: &Chosen) -> Result<(), PushError> {
        let manifest = &chosen.image.manifest;
        let mut layers = manifest.layers.clone();
        let mut seen = HashSet::new();
        layers.retain(|layer| seen.insert(layer.digest.clone()));
        stream::iter(layers.into_iter().map(|layer| self.layer(chosen, layer)))
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        let quiet = Arc::new(|_| {});
        if !self.is_there(&manifest.config).await? {
            self.send(chosen, &manifest.config, quiet).await?;
        }
        match self.cache {
            Some(_) => self.put(chosen, chosen.image.descriptor.digest.as_str()).await,
            None => self.name(chosen).await,
        }
    }

    async fn layer(&self, chosen: &Chosen, layer: Descriptor) -> Result<(), PushError> {
        let layer = &layer;
        let set = |state, current| self.board.set(&layer.digest, state, current, layer.size);
        if is_foreign(&layer.media_type) {
            set(LayerState::Skipped, 0);
            return Ok(());
        }
        if self.is_there(layer).await? {
            set(LayerState::Exists, layer.size);
            return Ok(());
        }
        for from in self.selection.neighbours(&layer.digest).take(NEIGHBOURS) {
            if self.repository.mount_blob(&layer.digest, from).await? {
                self.board.mounted(&layer.digest, from, layer.size);
                return Ok(());
            }
        }
        set(LayerState::Pushing, 0);
        let (board, digest, size) = (Arc::clone(&self.board), layer.digest.clone(), layer.size);
        let meter = Arc::new(move |at| board.set(&digest, LayerState::Pushing, at, size));
        self.send(chosen, layer, meter).await?;
        set(LayerState::Pushed, layer.size);
        Ok(())
    }

    async fn is_there(&self, blob: &Descriptor) -> Result<bool, PushError> {
        Ok(self.repository.has_blob(&blob.digest, blob.size).await?)
    }

    async fn send(
        &self,
        chosen: &Chosen,
        blob: &Descriptor,
        meter: registry::Meter,
    ) -> Result<(), PushError> {
        let file = match self.store.content().open_blob(&blob.digest) {
            Ok(file) => Arc::new(file),
            Err(ContentError::Missing(digest)) => {
                return Err(PushError::Missing { reference: chosen.reference.to_string(), digest });
            }
            Err(error) => return Err(error.into()),
        };
        let outbound = Outbound { digest: blob.digest.clone(), size: blob.size, file, meter };
        match self.repository.send_blob(&outbound).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(chosen, blob, error).await?),
        }
    }

    /// A registry that refuses a whole blob may well be right: then it is this host's copy that is at fault.
    async fn explain(
        &self,
        chosen: &Chosen,
        blob: &Descriptor,
        error: RegistryError,
    ) -> Result<PushError, PushError> {
        if !matches!(error.failure, Failure::Server { status: 400, .. } | Failure::Unreachable(_)) {
            return Ok(error.into());
        }
        let (content, digest) = (self.store.content().clone(), blob.digest.clone());
        let damaged = spawn_blocking(move || content.is_damaged(&digest)).await;
        if damaged.map_err(|_| PushError::Lost(chosen.reference.to_string()))?? {
            let reference = chosen.reference.to_string();
            return Ok(PushError::Damaged { reference, digest: blob.digest.clone() });
        }
        Ok(error.into())
    }

    /// Sends the manifest under a tag or its digest, unless it is there.
    async fn put(&self, chosen: &Chosen, name: &str) -> Result<(), PushError> {
        let descriptor = &chosen.image.descriptor;
        if self.repository.tagged(name).await?.as_ref() == Some(&descriptor.digest) {
            return Ok(());
        }
        let manifest = Manifest {
            bytes: chosen.image.manifest_bytes.clone(),
            media_type: descriptor.media_type.clone(),
            kind: ManifestKind::Image,
            digest: descriptor.digest.clone(),
        };
        Ok(self.repository.send_manifest(&manifest, name).await?)
    }

    /// Sends the manifest under its tag, unless it is there, and notes where the image is now.
    async fn name(&self, chosen: &Chosen) -> Result<(), PushError> {
        let descriptor = &chosen.image.descriptor;
        let tag = chosen.reference.tag().unwrap_or(crate::reference::DEFAULT_TAG);
        self.put(chosen, tag).await?;
        let (store, reference, manifest) = (self.store.clone(), chosen.reference.clone(), descriptor.clone());
        let note = spawn_blocking(move || store.pushed(&reference, &manifest)).await;
        note.map_err(|_| PushError::Lost(chosen.reference.to_string()))??;
        self.board.tell(Progress::Pushed(Pushed {
            reference: chosen.reference.to_string(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            part_of: chosen.part_of.clone(),
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
