//! What images there are, and how one came to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use davit_proto::id::{ContainerId, Digest};

use crate::image::{Image, parse_time};
use crate::index::Entry;
use crate::store::{Store, StoreError};

/// An image as lists show it.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The image.
    pub image: Arc<Image>,
    /// Its references by tag.
    pub references: Vec<String>,
    /// Its references by digest.
    pub digests: Vec<String>,
    /// Bytes of its unpacked layers.
    pub size: u64,
    /// Containers that use it.
    pub container_ids: Vec<ContainerId>,
}

/// One step of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryStep {
    /// Image id; only the newest step has one.
    pub image_id: Option<Digest>,
    /// When.
    pub created: Option<SystemTime>,
    /// By which instruction.
    pub created_by: String,
    /// Bytes it added.
    pub size: u64,
    /// Comment.
    pub comment: String,
    /// References that name this step.
    pub references: Vec<String>,
}

/// Disk space of images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Number of images.
    pub images: u64,
    /// Images that a container uses.
    pub active: u64,
    /// Bytes of all layers, each counted once.
    pub layer_bytes: u64,
    /// Bytes that only unused images need.
    pub reclaimable_bytes: u64,
}

impl Store {
    /// All images, the newest first.
    pub fn list(&self) -> Result<Vec<Summary>, StoreError> {
        let mut by_id: BTreeMap<Digest, (Arc<Image>, Vec<Entry>)> = BTreeMap::new();
        for (entry, image) in self.images()? {
            by_id.entry(image.id().clone()).or_insert_with(|| (image, Vec::new())).1.push(entry);
        }
        let mut list: Vec<Summary> = Vec::with_capacity(by_id.len());
        for (image, entries) in by_id.into_values() {
            list.push(self.summary(image, &entries)?);
        }
        list.sort_by_key(|summary| std::cmp::Reverse(summary.image.created()));
        Ok(list)
    }

    /// One image as lists show it.
    pub fn inspect(&self, text: &str) -> Result<Summary, StoreError> {
        let found = self.find(text)?;
        let of_image =
            |entry: &Entry| self.load(entry.descriptor()).is_ok_and(|image| image.id() == found.image.id());
        let entries: Vec<Entry> =
            self.references().entries()?.iter().filter(|entry| of_image(entry)).cloned().collect();
        self.summary(found.image, &entries)
    }

    fn summary(&self, image: Arc<Image>, entries: &[Entry]) -> Result<Summary, StoreError> {
        let (mut references, mut digests) = (BTreeSet::new(), BTreeSet::new());
        for entry in entries {
            let by_tag = |reference: &&_| crate::reference::ImageRef::digest(reference).is_none();
            references.extend(entry.reference().filter(by_tag).map(ToString::to_string));
            digests.extend(entry.reference().filter(|reference| !by_tag(reference)).map(ToString::to_string));
            digests.extend(entry.source().map(ToString::to_string));
        }
        let size = self.sizes(&image)?.into_iter().sum();
        let holders = self.holders().all();
        let mine = holders.into_iter().filter(|(_, holder)| holder.image_id == *image.id());
        Ok(Summary {
            references: references.into_iter().collect(),
            digests: digests.into_iter().collect(),
            size,
            container_ids: mine.map(|(container_id, _)| container_id).collect(),
            image,
        })
    }

    /// How an image came to be, newest step first.
    pub fn history(&self, text: &str) -> Result<Vec<HistoryStep>, StoreError> {
        let summary = self.inspect(text)?;
        let mut steps = history(&summary.image, &self.sizes(&summary.image)?);
        if let Some(newest) = steps.first_mut() {
            newest.image_id = Some(summary.image.id().clone());
            newest.references = summary.references;
        }
        Ok(steps)
    }

    /// Disk space of all images.
    pub fn disk_usage(&self) -> Result<DiskUsage, StoreError> {
        let list = self.list()?;
        let (active, idle): (Vec<_>, Vec<_>) =
            list.iter().partition(|summary| !summary.container_ids.is_empty());
        let layers = |images: &[&Summary]| -> BTreeSet<Digest> {
            images.iter().flat_map(|summary| summary.image.diff_ids().iter().cloned()).collect()
        };
        let needed = layers(&active);
        let mut reclaimable_bytes = 0u64;
        for diff_id in layers(&idle).difference(&needed) {
            reclaimable_bytes = reclaimable_bytes.saturating_add(self.size(diff_id)?);
        }
        Ok(DiskUsage {
            images: list.len() as u64,
            active: active.len() as u64,
            layer_bytes: self.layer_bytes()?,
            reclaimable_bytes,
        })
    }

    /// Bytes of all layers, each counted once.
    pub(crate) fn layer_bytes(&self) -> Result<u64, StoreError> {
        let mut bytes = 0u64;
        for (diff_id, _) in self.snapshots().list()? {
            bytes = bytes.saturating_add(self.size(&diff_id)?);
        }
        Ok(bytes)
    }

    /// Bytes of each of an image's layers, lowest first.
    fn sizes(&self, image: &Image) -> Result<Vec<u64>, StoreError> {
        image.diff_ids().iter().map(|diff_id| self.size(diff_id)).collect()
    }

    fn size(&self, diff_id: &Digest) -> Result<u64, StoreError> {
        Ok(self.snapshots().layer(diff_id)?.map_or(0, |layer| layer.bytes))
    }
}

/// Pairs the steps of a configuration with the layers they made. Layers that no step tells of come as steps of their
/// own, so that the sizes always add up.
fn history(image: &Image, sizes: &[u64]) -> Vec<HistoryStep> {
    let mut sizes = sizes.iter().copied();
    let mut steps: Vec<HistoryStep> = image
        .config
        .history
        .iter()
        .map(|step| HistoryStep {
            created: parse_time(&step.created),
            created_by: step.created_by.clone(),
            size: if step.empty_layer { 0 } else { sizes.next().unwrap_or_default() },
            comment: step.comment.clone(),
            ..HistoryStep::default()
        })
        .collect();
    steps.extend(sizes.map(|size| HistoryStep { size, created: image.created(), ..HistoryStep::default() }));
    steps.reverse();
    steps
}
