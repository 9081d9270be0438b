//! What a registry has under a reference, without fetching the image.

use davit_proto::id::Digest;

use crate::document::{CONFIG_BYTES, Config, Descriptor, Document, Platform};
use crate::error::Error;
use crate::image::ImageError;
use crate::pull::PullError;
use crate::reference::ImageRef;
use crate::registry::{Client, Credential, Manifest, Repository};

/// Most manifests of an index that are looked at.
const PARTS: usize = 200;

/// One document of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is called: by tag what was asked for, by digest its parts.
    pub reference: String,
    /// The document.
    pub manifest: Manifest,
    /// What it is for, where that is known.
    pub platform: Option<Platform>,
}

/// Reads what a reference names; with `whole` also each manifest of an index, and what a single one is for.
pub async fn inspect(
    client: &Client,
    reference: &ImageRef,
    credential: Option<Credential>,
    whole: bool,
) -> Result<Vec<Part>, Error> {
    let repository = client.repository(reference, credential);
    let manifest = repository.manifest().await?;
    let mut top = Part { reference: reference.to_string(), manifest, platform: None };
    if !whole {
        return Ok(vec![top]);
    }
    match parse(&top.manifest)? {
        Document::Manifest(manifest) => {
            top.platform = platform(&repository, &manifest.config).await?;
            Ok(vec![top])
        }
        Document::Index(index) => {
            let mut parts = vec![top];
            for descriptor in index.manifests.into_iter().take(PARTS) {
                parts.push(Part {
                    reference: reference.with_digest(descriptor.digest.clone()).to_string(),
                    manifest: repository.manifest_by_digest(&descriptor.digest).await?,
                    platform: descriptor.platform,
                });
            }
            Ok(parts)
        }
    }
}

fn parse(manifest: &Manifest) -> Result<Document, Error> {
    Document::parse(&manifest.bytes, &manifest.media_type)
        .map_err(|error| PullError::from(ImageError::document(&manifest.digest)(error)).into())
}

/// The platform that a configuration names; `None` for what is no configuration of an image.
async fn platform(repository: &Repository, config: &Descriptor) -> Result<Option<Platform>, Error> {
    if config.size > CONFIG_BYTES as u64 {
        return Ok(None);
    }
    let mut stream = repository.blob(&config.digest, config.size, 0);
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await? {
        bytes.extend_from_slice(&piece);
    }
    let actual: Digest = crate::digest::digest(&bytes);
    if actual != config.digest {
        return Ok(None);
    }
    Ok(Config::parse(&bytes).ok().map(|config| config.platform))
}
