//! Pull: from a reference to an image that is whole and named.
//!
//! ```text
//! reference ─▶ index ─▶ manifest ─▶ config ─▶ layers, three at a time ─▶ index.json
//!                                             each: bytes ─▶ blob file
//!                                                       └──▶ unpacked while they come
//! ```
//!
//! Everything is verified by digest before it counts. Whatever ends a pull, what is whole stays, what is partial is
//! continued by the next, and the reference appears last.

mod layer;
mod progress;
mod tags;

use std::collections::HashSet;
use std::sync::Arc;

use davit_proto::id::Digest;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

pub use progress::{Board, LayerProgress, LayerState, Progress};
pub use tags::pull_all;

use crate::content::ContentError;
use crate::document::{
    CONFIG_BYTES, DOCKER_CONFIG, Descriptor, Document, DocumentError, Manifest, OCI_CONFIG, Platform,
};
use crate::failpoint::{self, pass};
use crate::image::{ImageError, check, no_platform};
use crate::lease::Lease;
use crate::platform::{choose, fits};
use crate::reference::ImageRef;
use crate::registry::{self, Credential, RegistryError, Repository};
use crate::snapshot::SnapshotError;
use crate::store::{Store, StoreError};

/// Layers that are fetched at once.
const PARALLEL: usize = 3;

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// This host's store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the reference names is something else than an image for containers.
    #[error("{reference} is no container image: its configuration is {media_type:?}")]
    NotAnImage {
        /// What was asked for.
        reference: String,
        /// What it is.
        media_type: String,
    },
    /// The disk is too small for what is to come.
    #[error("not enough disk space for {reference}: {needed} bytes are needed at least, {free} are free")]
    Space {
        /// What was asked for.
        reference: String,
        /// Bytes to fetch, and as many again unpacked.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// All tags and one of them.
    #[error("cannot pull all tags of {0}: it names one")]
    OneTag(String),
    /// The repository has no tags.
    #[error("{0} has no tags at its registry")]
    NoTags(String),
    /// A thread of the pull ended without a word.
    #[error("internal failure while fetching {0}")]
    Lost(Digest),
}

impl From<ContentError> for PullError {
    fn from(error: ContentError) -> Self {
        Self::Store(error.into())
    }
}

impl From<ImageError> for PullError {
    fn from(error: ImageError) -> Self {
        Self::Store(error.into())
    }
}

impl From<SnapshotError> for PullError {
    fn from(error: SnapshotError) -> Self {
        Self::Store(error.into())
    }
}

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Request {
    /// The reference.
    pub reference: ImageRef,
    /// The platform; `None` for this host's.
    pub platform: Option<Platform>,
    /// The credential that came with the request.
    pub credential: Option<Credential>,
    /// The step of a build that made it: its only name then.
    pub step: Option<ImageRef>,
}

/// What a pull came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The full reference.
    pub reference: String,
    /// Digest of what it names.
    pub digest: Digest,
    /// Image id.
    pub image_id: Digest,
    /// The image was here, under this reference.
    pub up_to_date: bool,
}

/// What a reference was resolved to.
struct Resolved {
    /// Digest of what it names: index or manifest.
    digest: Digest,
    /// The manifest for the platform.
    descriptor: Descriptor,
    bytes: bytes::Bytes,
    manifest: Manifest,
}

/// One pull under way.
struct Pull {
    store: Store,
    repository: Repository,
    request: Request,
    board: Arc<Board>,
}

/// Fetches an image; what it is at is told on the board. Dropping this ends the pull.
pub async fn pull(
    store: &Store,
    client: &registry::Client,
    request: Request,
    board: Arc<Board>,
) -> Result<Pulled, PullError> {
    let repository = client.repository(&request.reference, request.credential.clone());
    Pull { store: store.clone(), repository, request, board }.run().await
}

impl Pull {
    async fn run(self) -> Result<Pulled, PullError> {
        let mut lease = self.store.lease();
        let resolved = self.resolve().await?;
        let manifest = &resolved.manifest;
        self.check_kind(manifest)?;
        for digest in manifest.layers.iter().map(|layer| &layer.digest) {
            lease.add(digest);
        }
        lease.add(&resolved.descriptor.digest);
        lease.add(&manifest.config.digest);
        let (config, diff_ids) = self.config(manifest, &mut lease).await?;
        self.board.resolve(
            self.request.reference.to_string(),
            resolved.digest.clone(),
            manifest.layers.iter().map(|layer| layer.digest.clone()).collect(),
        );
        self.check_space(manifest)?;
        let fetched = self.layers(manifest, &diff_ids).await?;
        let named = self.name(&resolved, config).await?;
        drop(lease);
        Ok(Pulled {
            reference: self.request.reference.to_string(),
            digest: resolved.digest,
            image_id: resolved.manifest.config.digest,
            up_to_date: !fetched && !named,
        })
    }

    /// Follows the reference to the manifest for the platform.
    async fn resolve(&self) -> Result<Resolved, PullError> {
        let top = self.repository.manifest().await?;
        let digest = top.digest.clone();
        let parse = |document: &registry::Manifest| {
            Document::parse(&document.bytes, &document.media_type)
                .map_err(|e| PullError::from(ImageError::document(&document.digest)(e)))
        };
        let (document, manifest) = match parse(&top)? {
            Document::Manifest(manifest) => (top, manifest),
            Document::Index(index) => {
                let wanted = self.platform();
                let chosen =
                    choose(&index.manifests, wanted).ok_or_else(|| no_platform(&index.manifests, wanted))?;
                let document = self.repository.manifest_by_digest(&chosen.digest).await?;
                match parse(&document)? {
                    Document::Manifest(manifest) => (document, manifest),
                    Document::Index(_) => {
                        let nested = DocumentError::Unsupported("an index within an index".to_owned());
                        return Err(ImageError::document(&chosen.digest)(nested).into());
                    }
                }
            }
        };
        let size = document.bytes.len() as u64;
        let descriptor = Descriptor::new(document.media_type, document.digest, size);
        Ok(Resolved { digest, descriptor, bytes: document.bytes, manifest })
    }

    fn platform(&self) -> &Platform {
        self.request.platform.as_ref().unwrap_or(self.store.platform())
    }

    /// Registries hold other things than images: charts, signatures, policies.
    fn check_kind(&self, manifest: &Manifest) -> Result<(), PullError> {
        let media_type = &manifest.config.media_type;
        if [OCI_CONFIG, DOCKER_CONFIG, ""].contains(&media_type.as_str()) {
            return Ok(());
        }
        let reference = self.request.reference.to_string();
        Err(PullError::NotAnImage { reference, media_type: media_type.clone() })
    }

    /// Fetches and reads the configuration.
    async fn config(
        &self,
        manifest: &Manifest,
        lease: &mut Lease,
    ) -> Result<(Platform, Vec<Digest>), PullError> {
        let descriptor = &manifest.config;
        if descriptor.size > CONFIG_BYTES as u64 {
            let large = DocumentError::Large {
                what: "image configuration",
                size: descriptor.size,
                limit: CONFIG_BYTES,
            };
            return Err(ImageError::document(&descriptor.digest)(large).into());
        }
        if let Some(ingest) = self.store.content().ingest(&descriptor.digest, descriptor.size).await? {
            // It is small: what an earlier attempt left of it is not worth its own request.
            let mut writer = ingest.restart()?;
            let mut bytes = self.repository.blob(&descriptor.digest, descriptor.size, 0);
            while let Some(piece) = bytes.next().await? {
                writer.write(&piece)?;
            }
            writer.commit()?;
        }
        let bytes = self.store.content().read(&descriptor.digest, CONFIG_BYTES)?;
        let config = check(manifest, &bytes)?;
        for diff_id in &config.rootfs.diff_ids {
            lease.add(diff_id);
        }
        match &self.request.platform {
            // Asked for by name, another platform is no answer.
            Some(wanted) if !fits(&config.platform, wanted) => {
                Err(ImageError::Platform { wanted: wanted.name(), available: vec![config.platform.name()] }
                    .into())
            }
            _ => {
                let (own, host) = (&config.platform, self.platform());
                if !fits(own, host) {
                    tracing::warn!(reference = %self.request.reference, image = %own.name(), host = %host.name(),
                        "image is for another platform");
                }
                Ok((config.platform, config.rootfs.diff_ids))
            }
        }
    }

    /// Ends early what cannot end well: a layer unpacked is mostly no smaller than it came.
    fn check_space(&self, manifest: &Manifest) -> Result<(), PullError> {
        let mut needed = 0u64;
        for layer in &manifest.layers {
            if self.store.content().size(&layer.digest)?.is_none() {
                needed = needed.saturating_add(layer.size.saturating_mul(2));
            }
        }
        let folder = self.store.content().ingest_path();
        let free = rustix::fs::statvfs(&folder)
            .map(|space| space.f_bavail.saturating_mul(space.f_frsize))
            .map_err(|e| ContentError::io("ask for the free space of", folder.display())(e.into()))?;
        if needed <= free {
            return Ok(());
        }
        Err(PullError::Space { reference: self.request.reference.to_string(), needed, free })
    }

    /// Fetches and unpacks the layers. Tells whether anything was missing.
    async fn layers(&self, manifest: &Manifest, diff_ids: &[Digest]) -> Result<bool, PullError> {
        let mut seen = HashSet::new();
        let layers: Vec<(Descriptor, Digest)> = manifest
            .layers
            .iter()
            .zip(diff_ids)
            .filter(|(layer, diff_id)| seen.insert((&layer.digest, *diff_id)))
            .map(|(layer, diff_id)| (layer.clone(), diff_id.clone()))
            .collect();
        for (layer, _) in &layers {
            self.board.set(&layer.digest, LayerState::Waiting, 0, layer.size);
        }
        stream::iter(layers.into_iter().map(|(layer, diff_id)| self.layer(layer, diff_id)))
            .buffer_unordered(PARALLEL)
            .try_fold(false, |any, fetched| async move { Ok(any || fetched) })
            .await
    }

    /// Keeps the manifest and writes the reference. Tells whether that changed anything.
    async fn name(&self, resolved: &Resolved, platform: Platform) -> Result<bool, PullError> {
        let reference = match self.request.reference.digest() {
            Some(digest) => self.request.reference.with_digest(digest.clone()),
            None => self.request.reference.clone(),
        };
        let source = Some(self.request.reference.with_digest(resolved.digest.clone()));
        let (reference, source) = match &self.request.step {
            Some(step) => (step.clone(), None),
            None => (reference, source),
        };
        let mut descriptor = resolved.descriptor.clone();
        descriptor.platform = Some(platform);
        let (store, bytes, lost) = (self.store.clone(), resolved.bytes.clone(), descriptor.digest.clone());
        let keep = move || -> Result<bool, StoreError> {
            pass(failpoint::UNPACKED)?;
            store.content().write(&bytes)?;
            let named = store.name(&descriptor, Some(reference), source)?;
            pass(failpoint::NAMED)?;
            Ok(named)
        };
        Ok(tokio::task::spawn_blocking(keep).await.map_err(|_| PullError::Lost(lost))??)
    }
}

#[cfg(test)]
mod tests;
