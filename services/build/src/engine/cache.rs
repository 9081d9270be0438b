//! What the engine keeps of builds: images of steps.

use davit_proto::build::CacheRecord;
use davit_proto::image::{
    DiskUsageRequest, DiskUsageResponse, RemoveRequest as RemoveImage, StepUsage, images_client::ImagesClient,
};
use davit_proto::reason;
use davit_proto::status::RemoteError;
use davit_proto::step::REPOSITORY;

use super::{Engine, remote};
use crate::cache::{Record, STEP};
use crate::error::Error;

impl Engine {
    /// What steps made, the one that goes first at the front.
    pub async fn steps(&self) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        let mut take = |frame: DiskUsageResponse| records.extend(frame.step_usages.into_iter().map(step));
        self.images_usage(true, &mut take).await?;
        Ok(records)
    }

    /// Bytes that only steps need.
    pub async fn step_bytes(&self) -> Result<u64, Error> {
        let mut bytes = 0_u64;
        self.images_usage(false, &mut |frame| bytes = bytes.saturating_add(frame.step_bytes)).await?;
        Ok(bytes)
    }

    async fn images_usage(
        &self,
        verbose: bool,
        take: &mut impl FnMut(DiskUsageResponse),
    ) -> Result<(), Error> {
        let mut images = ImagesClient::new(self.channel.clone());
        let mut frames = remote(images.disk_usage(DiskUsageRequest { verbose })).await?;
        while let Some(frame) = frames.message().await.map_err(RemoteError::from)? {
            take(frame);
        }
        Ok(())
    }

    /// Forgets a step; false when somebody uses it.
    pub async fn forget_step(&self, reference: &str) -> Result<bool, Error> {
        let request = RemoveImage { image: reference.to_owned(), ..RemoveImage::default() };
        let mut images = ImagesClient::new(self.channel.clone());
        match remote(images.remove(request)).await {
            Ok(_) => Ok(true),
            Err(Error::Engine(error)) if error.is(reason::IMAGE_NOT_FOUND) => Ok(true),
            Err(Error::Engine(error)) if error.is(reason::IMAGE_IN_USE) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn step(usage: StepUsage) -> Record {
    let id = usage.reference.strip_prefix(REPOSITORY).unwrap_or(&usage.reference);
    let told = CacheRecord {
        id: id.trim_start_matches(':').to_owned(),
        r#type: STEP.to_owned(),
        description: usage.description,
        bytes: usage.bytes,
        shared_bytes: usage.shared_bytes,
        in_use: usage.in_use,
        mutable: false,
        created_at: usage.created_at,
        used_at: usage.used_at,
    };
    Record { told, name: usage.reference }
}
