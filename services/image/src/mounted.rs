//! Further images of a container, which it mounts somewhere below its root: held and released with its own.

use std::sync::Arc;

use davit_proto::id::ContainerId;

use crate::holder::Mounted;
use crate::image::Image;
use crate::snapshot::Mount;
use crate::store::{Store, StoreError};

/// Further images of one container.
const MOST: usize = 64;

/// A further image that a container mounts.
#[derive(Debug, Clone)]
pub struct PreparedImage {
    /// The image.
    pub image: Arc<Image>,
    /// The reference that it was found by; empty when it was found by id.
    pub reference: String,
    /// Its layers.
    pub rootfs: Mount,
}

impl Store {
    /// Records further images of a container that was prepared. Asked again, it answers the same, whatever the
    /// references mean by then.
    pub fn prepare_further(
        &self,
        container_id: &ContainerId,
        asked: &[String],
    ) -> Result<Vec<PreparedImage>, StoreError> {
        let mut prepared = Vec::with_capacity(asked.len());
        for text in asked {
            let held = self.hold_further(container_id, text)?;
            self.touch(&held.manifest);
            let image = self.load(&held.manifest)?;
            self.restore_layers(&image)?;
            let rootfs = self.snapshots().mount(image.diff_ids())?;
            prepared.push(PreparedImage { image, reference: held.reference, rootfs });
        }
        Ok(prepared)
    }

    /// Under the gate, as the image that it runs from.
    fn hold_further(&self, container_id: &ContainerId, text: &str) -> Result<Mounted, StoreError> {
        let _gate = self.gate();
        let holder = self.holders().get(container_id);
        let mut holder = holder.ok_or_else(|| StoreError::NotPrepared(container_id.to_string()))?;
        // In later lives a container knows the id.
        let is_meant = |one: &&Mounted| one.asked == text || one.image_id.as_str() == text;
        if let Some(held) = holder.mounted.iter().find(is_meant) {
            return Ok(held.clone());
        }
        if holder.mounted.len() >= MOST {
            return Err(StoreError::TooMany(MOST));
        }
        let found = self.find(text)?;
        let held = Mounted {
            asked: text.to_owned(),
            manifest: found.image.descriptor.clone(),
            image_id: found.image.id().clone(),
            reference: found.reference.map(|reference| reference.to_string()).unwrap_or_default(),
        };
        holder.mounted.push(held.clone());
        self.holders().add(container_id, holder)?;
        Ok(held)
    }
}
