//! What a container uses: its layers as one mount, its configuration, and the record that it does.

use std::sync::Arc;

use davit_proto::id::ContainerId;

use crate::document::Descriptor;
use crate::failpoint::{self, pass};
use crate::holder::Holder;
use crate::image::Image;
use crate::snapshot::Mount;
use crate::store::{Store, StoreError};

/// What a container gets of its image.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The image.
    pub image: Arc<Image>,
    /// The reference that it was found by; empty when it was found by id.
    pub reference: String,
    /// Its layers.
    pub rootfs: Mount,
}

impl Store {
    /// Records that a container uses an image. Asked again for the same container, it answers the same, whatever the
    /// reference means by then.
    pub fn prepare(&self, container_id: &ContainerId, image: &str) -> Result<Prepared, StoreError> {
        let holder = match self.holders().get(container_id) {
            Some(holder) => holder,
            None => self.hold(container_id, image)?,
        };
        self.touch(&holder.manifest);
        let image = self.load(&holder.manifest)?;
        self.restore_layers(&image)?;
        let rootfs = self.snapshots().mount(image.diff_ids())?;
        Ok(Prepared { image, reference: holder.reference, rootfs })
    }

    /// Ends a container's use; ending it twice is no error. An image that was removed meanwhile goes with its last
    /// container.
    pub fn release(&self, container_id: &ContainerId) -> Result<(), StoreError> {
        let _gate = self.gate();
        let Some(holder) = self.holders().remove(container_id)? else { return Ok(()) };
        pass(failpoint::LET_GO)?;
        let entries = self.references().entries()?;
        for manifest in holder.manifests() {
            self.touch(&manifest);
            if !entries.iter().any(|entry| entry.descriptor().digest == manifest.digest) {
                self.collect(&manifest)?;
            }
        }
        Ok(())
    }

    /// Notes that an image was used now. Whether it is remembered decides nothing that cannot be undone by a pull.
    pub(crate) fn touch(&self, manifest: &Descriptor) {
        if let Err(error) = self.content().touch(&manifest.digest) {
            tracing::warn!(%error, "the time of an image's last use is not kept");
        }
    }

    /// Under the gate, so that a removal sees either no record and no image, or both.
    fn hold(&self, container_id: &ContainerId, image: &str) -> Result<Holder, StoreError> {
        let _gate = self.gate();
        let found = self.find(image)?;
        let holder = Holder {
            manifest: found.image.descriptor.clone(),
            image_id: found.image.id().clone(),
            reference: found.reference.map(|reference| reference.to_string()).unwrap_or_default(),
            mounted: Vec::new(),
        };
        self.holders().add(container_id, holder.clone())?;
        pass(failpoint::HELD)?;
        Ok(holder)
    }

    /// A reference is written after its layers, so this mostly only looks; what somebody deleted is unpacked again.
    pub(crate) fn restore_layers(&self, image: &Image) -> Result<(), StoreError> {
        for (blob, diff_id) in image.manifest.layers.iter().zip(image.diff_ids()) {
            if self.snapshots().layer(diff_id)?.is_none() {
                tracing::warn!(%diff_id, "a layer is gone, unpacking it again");
                self.add_layer(blob, diff_id)?;
            }
        }
        Ok(())
    }
}
