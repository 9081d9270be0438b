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
    /// Names by which builds find it again as what a step made.
    pub steps: Vec<String>,
    /// It is an image for people too, if only without a name.
    pub listed: bool,
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
        let of_image = |entry: &Entry| self.id_of(entry.descriptor()).as_ref() == Some(found.image.id());
        let entries: Vec<Entry> =
            self.references().entries()?.iter().filter(|entry| of_image(entry)).cloned().collect();
        self.summary(found.image, &entries)
    }

    fn summary(&self, image: Arc<Image>, entries: &[Entry]) -> Result<Summary, StoreError> {
        let (mut references, mut digests) = (BTreeSet::new(), BTreeSet::new());
        let (steps, seen): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.is_step());
        for entry in &seen {
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
            steps: steps.iter().filter_map(|step| step.reference()).map(ToString::to_string).collect(),
            listed: !seen.is_empty(),
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

    /// Bytes of each of an image's layers, lowest first. One that it has twice adds nothing the second time.
    fn sizes(&self, image: &Image) -> Result<Vec<u64>, StoreError> {
        let mut seen = BTreeSet::new();
        let size = |diff_id| if seen.insert(diff_id) { self.size(diff_id) } else { Ok(0) };
        image.diff_ids().iter().map(size).collect()
    }

    fn size(&self, diff_id: &Digest) -> Result<u64, StoreError> {
        Ok(self.snapshots().layer(diff_id)?.map_or(0, |layer| layer.bytes))
    }
}

/// Pairs the steps of a configuration with the layers they made. Layers that no step tells of come as steps of their
/// own, so that the sizes always add up.
pub(crate) fn history(image: &Image, sizes: &[u64]) -> Vec<HistoryStep> {
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
