//! What registries have of steps.

use davit_proto::image::images_client::ImagesClient;
use davit_proto::image::{Credential, InspectManifestRequest, PullRequest};
use davit_proto::status::RemoteError;

use super::{Engine, Image, remote};
use crate::error::Error;
use crate::steps::Steps;

/// A document at a registry.
#[derive(Debug)]
pub struct Found {
    /// Its full reference.
    pub reference: String,
    /// Digest of its bytes.
    pub digest: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

impl Engine {
    /// The document that a reference names at its registry.
    pub async fn document(&self, reference: &str, credential: Option<Credential>) -> Result<Found, Error> {
        let reference = reference.to_owned();
        let request = InspectManifestRequest { reference, credential, ..InspectManifestRequest::default() };
        let mut images = ImagesClient::new(self.channel.clone());
        let mut parts = remote(images.inspect_manifest(request)).await?;
        let first = parts.message().await.map_err(RemoteError::from)?.ok_or(Error::Lost)?;
        Ok(Found { reference: first.reference, digest: first.digest, content: first.content.to_vec() })
    }

    /// Fetches a step; none where nobody has it. One that cannot be fetched is done instead.
    pub(super) async fn fetch_step(&self, steps: &Steps, name: &str) -> Result<Option<Image>, Error> {
        let Some(place) = steps.place(name) else { return Ok(None) };
        let request = PullRequest {
            reference: place.reference.clone(),
            credential: place.credential.clone(),
            step: name.to_owned(),
            ..PullRequest::default()
        };
        match self.take_in(request).await {
            Ok(()) => self.image_here(name).await,
            Err(error) => steps.warn(&place, &error).await.map(|()| None),
        }
    }

    async fn take_in(&self, request: PullRequest) -> Result<(), Error> {
        let mut images = ImagesClient::new(self.channel.clone());
        let mut events = remote(images.pull(request)).await?;
        while events.message().await.map_err(RemoteError::from)?.is_some() {}
        Ok(())
    }
}
