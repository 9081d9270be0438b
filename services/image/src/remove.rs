//! Removal: references first, then the images that have none left, then the content that nothing uses.
//!
//! What stays is marked from every reference and every holder; if one of them cannot be read, nothing is collected.
//! Content on its way in is held by leases. Content that nothing uses and that was not part of what is removed stays
//! for a day: it may be what a pull that was killed had fetched already.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use davit_proto::id::Digest;

use crate::document::{DOCKER_INDEX, Descriptor, Document, MANIFEST_BYTES, OCI_INDEX};
use crate::image::{Image, ImageError};
use crate::index::Entry;
use crate::store::{Found, Store, StoreError};

/// How long content stays that nothing uses and nobody removed.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// One line of what a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A reference is gone.
    Untagged(String),
    /// An image or a layer is gone.
    Deleted(Digest),
}

impl Store {
    /// Removes what a text names. A reference of several is only taken off; the last one takes the image with it, unless
    /// a container uses it. With `force` an id takes all its references along, and what containers use stays just as
    /// long as they do.
    pub fn remove(&self, text: &str, force: bool) -> Result<Vec<Removed>, StoreError> {
        let _gate = self.gate();
        let found = self.find(text)?;
        let taken = self.select(&found, force)?;
        let (image, all) = (&found.image, self.entries_of(found.image.id())?);
        let last = taken.len() == all.len();
        if last && !force {
            self.check_unused(image, text)?;
        }
        self.take_off(&taken, last, image)
    }

    /// Removes images that no container uses: those without a tag, or with `all` also the others. `wanted` has the last
    /// word.
    pub fn prune(
        &self,
        all: bool,
        wanted: impl Fn(&Image) -> bool,
    ) -> Result<(Vec<Removed>, u64), StoreError> {
        let _gate = self.gate();
        let before = self.layer_bytes()?;
        let used: BTreeSet<Digest> =
            self.holders().all().into_values().map(|holder| holder.image_id).collect();
        let mut removed = Vec::new();
        let mut done = BTreeSet::new();
        for (_, image) in self.images()? {
            let entries = self.entries_of(image.id())?;
            let named = entries.iter().any(has_tag);
            if used.contains(image.id())
                || (named && !all)
                || !wanted(&image)
                || !done.insert(image.id().clone())
            {
                continue;
            }
            removed.extend(self.take_off(&entries, true, &image)?);
        }
        Ok((removed, before.saturating_sub(self.layer_bytes()?)))
    }

    /// The entries that a removal takes off.
    fn select(&self, found: &Found, force: bool) -> Result<Vec<Entry>, StoreError> {
        let all = self.entries_of(found.image.id())?;
        let Some(reference) = &found.reference else {
            let names: Vec<String> =
                all.iter().filter_map(|entry| entry.reference().map(ToString::to_string)).collect();
            if names.len() > 1 && !force {
                return Err(StoreError::SeveralReferences {
                    image: found.image.id().to_string(),
                    references: names,
                });
            }
            return Ok(all);
        };
        let tagged: Vec<Entry> =
            all.iter().filter(|entry| entry.reference() == Some(reference)).cloned().collect();
        // Entries without a name only keep an image listed that a name moved away from.
        let rest_is_nameless = all.iter().all(|entry| entry.reference().is_none() || tagged.contains(entry));
        if !tagged.is_empty() {
            return Ok(if rest_is_nameless { all } else { tagged });
        }
        // By its digest in a repository: everything that the image is called there.
        let name = reference.name();
        let there =
            |entry: &&Entry| entry.reference().or(entry.source()).is_none_or(|known| known.name() == name);
        Ok(all.iter().filter(there).cloned().collect())
    }

    fn take_off(&self, taken: &[Entry], last: bool, image: &Image) -> Result<Vec<Removed>, StoreError> {
        self.references().change(|entries| entries.retain(|entry| !taken.contains(entry)))?;
        let mut removed = Vec::new();
        for entry in taken {
            removed.extend(entry.reference().map(|reference| Removed::Untagged(reference.to_string())));
            let by_digest = entry.source().filter(|source| last && entry.reference() != Some(source));
            removed.extend(by_digest.map(|source| Removed::Untagged(source.to_string())));
        }
        if last {
            removed.push(Removed::Deleted(image.id().clone()));
            let manifests: Vec<Descriptor> = taken.iter().map(|entry| entry.descriptor().clone()).collect();
            removed.extend(self.collect(&manifests)?.into_iter().map(Removed::Deleted));
        }
        Ok(removed)
    }

    fn entries_of(&self, image_id: &Digest) -> Result<Vec<Entry>, StoreError> {
        let images = self.images()?;
        Ok(images.into_iter().filter(|(_, image)| image.id() == image_id).map(|(entry, _)| entry).collect())
    }

    fn check_unused(&self, image: &Image, text: &str) -> Result<(), StoreError> {
        let holders = self.holders().all();
        let container_ids: Vec<String> = holders
            .iter()
            .filter(|(_, holder)| holder.image_id == *image.id())
            .map(|(container_id, _)| container_id.to_string())
            .collect();
        if container_ids.is_empty() {
            return Ok(());
        }
        Err(StoreError::InUse { image: text.to_owned(), container_ids })
    }

    /// Removes the content of these manifests, and old content of nobody, as far as nothing uses it. Tells the layers
    /// that went.
    pub(crate) fn collect(&self, manifests: &[Descriptor]) -> Result<Vec<Digest>, StoreError> {
        let mut removed = Used::default();
        for manifest in manifests {
            removed.blobs.insert(manifest.digest.clone());
            if let Ok(image) = self.load(manifest) {
                removed.add(&image);
            }
        }
        self.collect_content(&removed)
    }

    /// Removes content that was taken in for an image that did not come to be.
    pub(crate) fn abandon(&self, digests: &[Digest]) -> Result<(), StoreError> {
        let _gate = self.gate();
        let all: BTreeSet<Digest> = digests.iter().cloned().collect();
        self.collect_content(&Used { blobs: all.clone(), layers: all }).map(|_| ())
    }

    fn collect_content(&self, removed: &Used) -> Result<Vec<Digest>, StoreError> {
        let Some(used) = self.used()? else {
            tracing::warn!("something that uses images cannot be read, keeping all content");
            return Ok(Vec::new());
        };
        let old = SystemTime::now().checked_sub(GRACE).unwrap_or(SystemTime::UNIX_EPOCH);
        for (digest, since) in self.content().list()? {
            if !used.blobs.contains(&digest) && (removed.blobs.contains(&digest) || since < old) {
                self.forget(&digest);
                self.leases().unless_held(&digest, || self.content().remove(&digest)).transpose()?;
            }
        }
        let mut layers = Vec::new();
        for (diff_id, since) in self.snapshots().list()? {
            if used.layers.contains(&diff_id) || !(removed.layers.contains(&diff_id) || since < old) {
                continue;
            }
            if self
                .leases()
                .unless_held(&diff_id, || self.snapshots().remove(&diff_id))
                .transpose()?
                .is_some()
            {
                layers.push(diff_id);
            }
        }
        Ok(layers)
    }

    /// Everything that references and holders need; `None` when that cannot be told.
    fn used(&self) -> Result<Option<Used>, StoreError> {
        let mut used = Used::default();
        let entries = self.references().entries()?;
        let holders = self.holders().all();
        let held = holders.values().map(|holder| &holder.manifest);
        for descriptor in entries.iter().map(Entry::descriptor).chain(held) {
            if let Err(error) = self.mark(descriptor, &mut used) {
                tracing::warn!(digest = %descriptor.digest, %error, "an image cannot be read");
                return Ok(None);
            }
        }
        Ok(self.holders().complete().then_some(used))
    }

    /// Marks what an image needs, or every image of an index that another tool put here.
    fn mark(&self, descriptor: &Descriptor, used: &mut Used) -> Result<(), ImageError> {
        if ![OCI_INDEX, DOCKER_INDEX].contains(&descriptor.media_type.as_str()) {
            used.add(&*self.load(descriptor)?);
            return Ok(());
        }
        used.blobs.insert(descriptor.digest.clone());
        let bytes = self.content().read(&descriptor.digest, MANIFEST_BYTES)?;
        let document = Document::parse(&bytes, &descriptor.media_type)
            .map_err(ImageError::document(&descriptor.digest))?;
        let Document::Index(index) = document else { return Ok(()) };
        for manifest in &index.manifests {
            // An index names all platforms, and mostly only one of them is here.
            if self.content().size(&manifest.digest)?.is_some() {
                used.add(&*self.load(manifest)?);
            }
        }
        Ok(())
    }
}

fn has_tag(entry: &Entry) -> bool {
    entry.reference().is_some_and(|reference| reference.tag().is_some())
}

/// Content that something needs.
#[derive(Debug, Default)]
struct Used {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
}

impl Used {
    fn add(&mut self, image: &Image) {
        self.blobs.extend(image.blobs().cloned());
        self.layers.extend(image.diff_ids().iter().cloned());
    }
}

/// "container abc and 2 more", for an error.
pub(crate) fn containers(ids: &[String]) -> String {
    let short = |id: &String| id.get(..12).unwrap_or(id).to_owned();
    match ids {
        [] => "no container".to_owned(),
        [only] => format!("container {}", short(only)),
        [first, rest @ ..] => format!("container {} and {} more", short(first), rest.len()),
    }
}
