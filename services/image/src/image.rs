//! One image: its manifest and configuration, read from the content store.

use std::time::SystemTime;

use bytes::Bytes;
use davit_proto::id::Digest;

use crate::content::{Content, ContentError};
use crate::document::{
    CONFIG_BYTES, Config, Descriptor, Document, DocumentError, MANIFEST_BYTES, Manifest, Platform, is_layer,
};
use crate::platform::choose;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A part of it is not in the store.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A part of it is malformed.
    #[error("image {digest}")]
    Document {
        /// Which part.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// It is not for this platform.
    #[error("no image for platform {wanted}, only for {}", available.join(", "))]
    Platform {
        /// What was wanted.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
}

impl ImageError {
    pub(crate) fn document(digest: &Digest) -> impl FnOnce(DocumentError) -> Self {
        let digest = digest.clone();
        move |source| Self::Document { digest, source }
    }
}

/// An image, read whole.
#[derive(Debug, Clone)]
pub struct Image {
    /// Names its manifest.
    pub descriptor: Descriptor,
    /// Its manifest.
    pub manifest: Manifest,
    /// The bytes of its manifest.
    pub manifest_bytes: Bytes,
    /// Its configuration.
    pub config: Config,
    /// The bytes of its configuration.
    pub config_bytes: Bytes,
}

impl Image {
    /// Reads an image from what a reference points at: a manifest, or an index of which the one for `platform` is
    /// taken.
    pub fn load(content: &Content, descriptor: &Descriptor, platform: &Platform) -> Result<Self, ImageError> {
        let bytes = content.read(&descriptor.digest, MANIFEST_BYTES)?;
        let document = Document::parse(&bytes, &descriptor.media_type)
            .map_err(ImageError::document(&descriptor.digest))?;
        match document {
            Document::Manifest(manifest) => Self::with_config(content, descriptor, manifest, bytes),
            Document::Index(index) => {
                let chosen = choose(&index.manifests, platform)
                    .ok_or_else(|| no_platform(&index.manifests, platform))?;
                let bytes = content.read(&chosen.digest, MANIFEST_BYTES)?;
                let document = Document::parse(&bytes, &chosen.media_type)
                    .map_err(ImageError::document(&chosen.digest))?;
                match document {
                    Document::Manifest(manifest) => Self::with_config(content, chosen, manifest, bytes),
                    Document::Index(_) => Err(ImageError::document(&chosen.digest)(
                        DocumentError::Unsupported("an index within an index".to_owned()),
                    )),
                }
            }
        }
    }

    fn with_config(
        content: &Content,
        descriptor: &Descriptor,
        manifest: Manifest,
        manifest_bytes: Vec<u8>,
    ) -> Result<Self, ImageError> {
        let config_bytes = content.read(&manifest.config.digest, CONFIG_BYTES)?;
        let config = check(&manifest, &config_bytes)?;
        Ok(Self {
            descriptor: descriptor.clone(),
            manifest,
            manifest_bytes: manifest_bytes.into(),
            config,
            config_bytes: config_bytes.into(),
        })
    }

    /// Image id: the digest of its configuration.
    #[must_use]
    pub fn id(&self) -> &Digest {
        &self.manifest.config.digest
    }

    /// Diff ids of its layers, lowest first.
    #[must_use]
    pub fn diff_ids(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }

    /// Everything in the content store that it is made of.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let layers = self.manifest.layers.iter().map(|layer| &layer.digest);
        [&self.descriptor.digest, self.id()].into_iter().chain(layers)
    }

    /// When it was made, if it says so.
    #[must_use]
    pub fn created(&self) -> Option<SystemTime> {
        parse_time(&self.config.created)
    }
}

/// Reads a configuration and checks that it fits its manifest.
pub fn check(manifest: &Manifest, config_bytes: &[u8]) -> Result<Config, ImageError> {
    let read = || {
        let config = Config::parse(config_bytes)?;
        config.diff_ids(manifest)?;
        match manifest.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            Some(layer) => Err(DocumentError::Unsupported(layer.media_type.clone())),
            None => Ok(config),
        }
    };
    read().map_err(ImageError::document(&manifest.config.digest))
}

/// A time as configurations write it.
#[must_use]
pub fn parse_time(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// The error for an index that has nothing to run here.
#[must_use]
pub fn no_platform(manifests: &[Descriptor], wanted: &Platform) -> ImageError {
    let named = manifests.iter().filter_map(|manifest| manifest.platform.as_ref());
    let mut available: Vec<String> = named.filter(|p| p.os != "unknown").map(Platform::name).collect();
    available.dedup();
    available.truncate(32);
    ImageError::Platform { wanted: wanted.name(), available }
}
