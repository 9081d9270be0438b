//! Removal: references first, then the images that have none left, then the content that nothing uses.
//!
//! What stays is marked from every reference and every holder; if one of them cannot be read, nothing is collected.
//! Content on its way in is held by leases. Content that nothing uses and that was not part of what is removed stays
//! for a day: it may be what a pull that was killed had fetched already.
//!
//! All this is decided and done under the gate, where it is renames and unlinks only. That the space is back is waited
//! for after it: whoever is told that an image is gone finds the room that it took.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use davit_proto::id::{ContainerId, Digest};

use crate::document::{DOCKER_INDEX, Descriptor, Document, MANIFEST_BYTES, OCI_INDEX};
use crate::image::{Image, ImageError};
use crate::index::Entry;
use crate::reference::ImageRef;
use crate::snapshot::Removal;
use crate::store::{Found, Store, StoreError};

/// How long content stays that nothing uses and nobody removed.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// How long whoever removes waits for the space at most; what is not deleted by then is on its way.
const PATIENCE: Duration = Duration::from_secs(60);

/// One line of what a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A reference is gone.
    Untagged(String),
    /// An image or a layer is gone.
    Deleted(Digest),
}

/// How to remove one image.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// Take all references of an id, and leave what stopped containers use to them alone.
    pub force: bool,
    /// Containers that run: what they use goes by no force.
    pub running: BTreeSet<ContainerId>,
}

/// Which images go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those without a tag.
    Dangling,
    /// All that no container uses, and everything that was begun and nobody goes on with.
    Unused,
}

/// Space that comes back.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    bytes: u64,
    trees: Removal,
}

impl Freed {
    /// Waits until it is back, and tells how much.
    pub fn wait(self) -> u64 {
        self.bytes.saturating_add(self.trees.wait(Instant::now() + PATIENCE))
    }

    fn join(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.trees.join(other.trees);
    }
}

/// What was collected.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// Layers that went.
    pub layers: BTreeSet<Digest>,
    /// How many blobs went.
    pub blobs: u64,
    /// How many partial downloads went.
    pub partial: u64,
    /// Their space.
    pub freed: Freed,
}

/// Which content goes of what nothing uses.
#[derive(Debug, Default)]
struct Loose {
    /// This in any case.
    parts: Used,
    /// Everything that is older.
    older: Option<SystemTime>,
}

/// An image with all its entries.
type Owned = (Arc<Image>, Vec<Entry>);

impl Store {
    /// Removes what a text names, in docker's order and with docker's refusals. A reference of several is only taken
    /// off; the last one takes the image with it.
    pub fn remove(&self, text: &str, how: &How) -> Result<Vec<Removed>, StoreError> {
        let (removed, freed) = {
            let _gate = self.gate();
            let found = self.find(text)?;
            let entries = self.entries_of(found.image.id())?;
            let all = visible(&found, &entries);
            let taken = select(&found, &all);
            let last = taken.len() == all.len();
            let whole = self.check(&found, text, (&all, last), how)?;
            self.take_off(vec![(Arc::clone(&found.image), taken)], &all, last && whole)?
        };
        freed.wait();
        Ok(removed)
    }

    /// Removes images that no container uses. `wanted` has the last word. Tells the bytes of disk that came free.
    pub fn prune(
        &self,
        scope: Scope,
        wanted: impl Fn(&Image) -> bool,
    ) -> Result<(Vec<Removed>, u64), StoreError> {
        let (removed, mut freed) = {
            let _gate = self.gate();
            let goes = |image: &Image, entries: &[Entry]| {
                (scope == Scope::Unused || !entries.iter().any(has_tag)) && wanted(image)
            };
            let seen = |entry: &Entry| !entry.is_step();
            self.remove_unused(seen, goes)?
        };
        if scope == Scope::Unused {
            let now = SystemTime::now();
            freed.join(self.collect_loose(now, now)?.freed);
        }
        Ok((removed, freed.wait()))
    }

    /// Removes, under the gate that the caller holds, the images that no container uses and that shall go, by those of
    /// their entries that are meant.
    fn remove_unused(
        &self,
        meant: impl Fn(&Entry) -> bool,
        goes: impl Fn(&Image, &[Entry]) -> bool,
    ) -> Result<(Vec<Removed>, Freed), StoreError> {
        let used: BTreeSet<Digest> =
            self.holders().all().into_values().map(|holder| holder.image_id).collect();
        let going: Vec<Owned> = self
            .owned()?
            .into_iter()
            .map(|(image, mut entries)| {
                entries.retain(&meant);
                (image, entries)
            })
            .filter(|(_, entries)| !entries.is_empty())
            .filter(|(image, entries)| !used.contains(image.id()) && goes(image, entries))
            .collect();
        if going.is_empty() {
            return Ok(Default::default());
        }
        self.take_off(going, &[], true)
    }

    /// Removes one image with all its references unless a container uses it or `goes` says otherwise by now.
    pub(crate) fn remove_idle(
        &self,
        image_id: &Digest,
        goes: impl Fn(&[Entry]) -> bool,
    ) -> Result<Option<(Vec<Removed>, u64)>, StoreError> {
        let (removed, freed) = {
            let _gate = self.gate();
            self.remove_unused(|_| true, |image, entries| image.id() == image_id && goes(entries))?
        };
        Ok((!removed.is_empty()).then(|| (removed, freed.wait())))
    }

    /// Removes the name of a step, with what nothing else needs, unless a container uses it or it was needed after a
    /// moment. Tells the bytes that came free.
    pub(crate) fn remove_step(&self, step: &str, before: SystemTime) -> Result<Option<u64>, StoreError> {
        let named = |entry: &Entry| entry.reference().is_some_and(|reference| reference.to_string() == step);
        let idle = |entry: &Entry| {
            let at = self.content().used_at(&entry.descriptor().digest);
            at.is_ok_and(|at| at.is_some_and(|at| at < before))
        };
        let (removed, freed) = {
            let _gate = self.gate();
            self.remove_unused(named, |_, entries| entries.iter().all(idle))?
        };
        Ok((!removed.is_empty()).then(|| freed.wait()))
    }

    /// All images, each with its entries.
    pub(crate) fn owned(&self) -> Result<Vec<Owned>, StoreError> {
        let mut by_id: BTreeMap<Digest, Owned> = BTreeMap::new();
        for (entry, image) in self.images()? {
            by_id.entry(image.id().clone()).or_insert_with(|| (image, Vec::new())).1.push(entry);
        }
        Ok(by_id.into_values().collect())
    }

    fn entries_of(&self, image_id: &Digest) -> Result<Vec<Entry>, StoreError> {
        let images = self.images()?;
        Ok(images.into_iter().filter(|(_, image)| image.id() == image_id).map(|(entry, _)| entry).collect())
    }

    /// Whether an image may go, in docker's words. With force the name of an image that a running container uses goes
    /// alone: then this answers false.
    fn check(
        &self,
        found: &Found,
        text: &str,
        (all, last): (&[Entry], bool),
        how: &How,
    ) -> Result<bool, StoreError> {
        let image = &found.image;
        if found.reference.is_none() && !how.force && repositories(all) > 1 {
            let references = all.iter().filter_map(|entry| entry.reference().map(ToString::to_string));
            return Err(StoreError::SeveralReferences {
                image: image.id().hex().to_owned(),
                references: references.collect(),
            });
        }
        let holders = self.holders().all();
        let users = holders.iter().filter(|(_, holder)| holder.image_id == *image.id()).map(|(id, _)| id);
        let (running, stopped): (Vec<&ContainerId>, Vec<&ContainerId>) =
            users.partition(|id| how.running.contains(*id));
        let Some(first) = running.first().or(stopped.first()).filter(|_| last) else { return Ok(true) };
        let runs = !running.is_empty();
        let (first, short) = (short(first.as_str()), short(image.id().hex()));
        let conflict = match (&found.reference, how.force) {
            (_, true) if !runs => return Ok(true),
            (Some(_), true) => return Ok(false),
            (Some(_), false) => format!(
                "unable to remove repository reference {text:?} (must force) - container {first} is using its \
                 referenced image {short}"
            ),
            (None, _) if runs => format!(
                "unable to delete {short} (cannot be forced) - image is being used by running container {first}"
            ),
            (None, _) => format!(
                "unable to delete {short} (must be forced) - image is being used by stopped container {first}"
            ),
        };
        let container_ids = running.into_iter().chain(stopped).map(ToString::to_string).collect();
        Err(StoreError::InUse { image: text.to_owned(), container_ids, conflict })
    }

    /// Takes entries off, and when they are the last ones the images with them. `all` are the entries of the one image
    /// of which not all are taken.
    fn take_off(
        &self,
        images: Vec<Owned>,
        all: &[Entry],
        whole: bool,
    ) -> Result<(Vec<Removed>, Freed), StoreError> {
        let taken: Vec<&Entry> = images.iter().flat_map(|(_, entries)| entries).collect();
        let stay: Vec<&Entry> = all.iter().filter(|entry| !taken.contains(entry)).collect();
        self.references().change(|entries| {
            entries.retain(|entry| !taken.contains(&entry));
            entries.iter_mut().for_each(|entry| inherit(entry, &taken));
        })?;
        let kept = |name: &str| stay.iter().any(|entry| has_tag(entry) && is_of(entry, name));
        let mut untagged: Vec<Vec<Removed>> = Vec::new();
        for (_, entries) in &images {
            untagged.push(names(entries, kept));
        }
        let mut loose = Loose::default();
        if whole {
            for entry in &taken {
                loose.parts.blobs.insert(entry.descriptor().digest.clone());
            }
            images.iter().for_each(|(image, _)| loose.parts.add(image));
            loose.older = SystemTime::now().checked_sub(GRACE);
        }
        let mut collected = if whole { self.collect_content(&loose)? } else { Collected::default() };
        let mut removed = Vec::new();
        for ((image, _), untagged) in images.iter().zip(untagged) {
            removed.extend(untagged);
            if whole {
                removed.push(Removed::Deleted(image.id().clone()));
                let own = image.diff_ids().iter().rev();
                let gone: Vec<Digest> =
                    own.filter(|diff_id| collected.layers.remove(diff_id)).cloned().collect();
                removed.extend(gone.into_iter().map(Removed::Deleted));
            }
        }
        Ok((removed, collected.freed))
    }

    /// Removes, under the gate, the content of a manifest that lost its last use, and old content of nobody.
    pub(crate) fn collect(&self, manifest: &Descriptor) -> Result<Collected, StoreError> {
        let mut loose = Loose { parts: Used::default(), older: SystemTime::now().checked_sub(GRACE) };
        loose.parts.blobs.insert(manifest.digest.clone());
        if let Ok(image) = self.load(manifest) {
            loose.parts.add(&image);
        }
        self.collect_content(&loose)
    }

    /// Removes content that was taken in for an image that did not come to be.
    pub(crate) fn abandon(&self, digests: &[Digest]) -> Result<(), StoreError> {
        let _gate = self.gate();
        let all: BTreeSet<Digest> = digests.iter().cloned().collect();
        let older = SystemTime::now().checked_sub(GRACE);
        self.collect_content(&Loose { parts: Used { blobs: all.clone(), layers: all }, older }).map(|_| ())
    }

    /// Removes all content that nothing uses and that is older than this, and partial downloads that nobody goes on
    /// with. Takes the gate only when there is something to do.
    pub(crate) fn collect_loose(
        &self,
        older: SystemTime,
        partial: SystemTime,
    ) -> Result<Collected, StoreError> {
        let loose = Loose { parts: Used::default(), older: Some(older) };
        let mut collected = Collected::default();
        if self.used()?.is_some_and(|used| self.is_any_loose(&used, &loose).unwrap_or(true)) {
            let _gate = self.gate();
            collected = self.collect_content(&loose)?;
        }
        let (partial, bytes) = self.content().sweep_partial(partial)?;
        collected.partial = partial;
        collected.freed.bytes = collected.freed.bytes.saturating_add(bytes);
        Ok(collected)
    }

    fn is_any_loose(&self, used: &Used, loose: &Loose) -> Result<bool, StoreError> {
        let blobs = self.content().list()?;
        let layers = self.snapshots().list()?;
        Ok(blobs.iter().any(|(digest, since)| loose.has(&used.blobs, &loose.parts.blobs, digest, *since))
            || layers
                .iter()
                .any(|(diff_id, since)| loose.has(&used.layers, &loose.parts.layers, diff_id, *since)))
    }

    fn collect_content(&self, loose: &Loose) -> Result<Collected, StoreError> {
        let Some(used) = self.used()? else {
            tracing::warn!("something that uses images cannot be read, keeping all content");
            return Ok(Collected::default());
        };
        let mut collected = Collected::default();
        for (digest, since) in self.content().list()? {
            if !loose.has(&used.blobs, &loose.parts.blobs, &digest, since) {
                continue;
            }
            self.forget(&digest);
            if let Some(bytes) =
                self.leases().unless_held(&digest, || self.content().free(&digest)).transpose()?
            {
                collected.blobs += 1;
                collected.freed.bytes = collected.freed.bytes.saturating_add(bytes);
            }
        }
        for (diff_id, since) in self.snapshots().list()? {
            if !loose.has(&used.layers, &loose.parts.layers, &diff_id, since) {
                continue;
            }
            if let Some(tree) =
                self.leases().unless_held(&diff_id, || self.snapshots().remove(&diff_id)).transpose()?
            {
                collected.freed.trees.join(tree);
                collected.layers.insert(diff_id);
            }
        }
        Ok(collected)
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

impl Loose {
    /// Whether a part goes, unless somebody is about to use it.
    fn has(
        &self,
        used: &BTreeSet<Digest>,
        parts: &BTreeSet<Digest>,
        digest: &Digest,
        since: SystemTime,
    ) -> bool {
        !used.contains(digest) && (parts.contains(digest) || self.older.is_some_and(|older| since < older))
    }
}

/// The entries that a removal is about: those that people see, unless there are none, or a step is named. What steps keep
/// of an image that goes stays with them.
fn visible(found: &Found, all: &[Entry]) -> Vec<Entry> {
    let step = found.reference.as_ref().is_some_and(|name| davit_proto::step::is_step(&name.to_string()));
    let steps = step || all.iter().all(Entry::is_step);
    all.iter().filter(|entry| steps || !entry.is_step()).cloned().collect()
}

/// The entries that a removal takes off.
fn select(found: &Found, all: &[Entry]) -> Vec<Entry> {
    let Some(reference) = &found.reference else { return all.to_vec() };
    let tagged: Vec<Entry> =
        all.iter().filter(|entry| entry.reference() == Some(reference)).cloned().collect();
    if tagged.iter().any(Entry::is_step) {
        return tagged;
    }
    // Entries without a name only keep an image listed that a name moved away from.
    let rest_is_nameless = all.iter().all(|entry| entry.reference().is_none() || tagged.contains(entry));
    if !tagged.is_empty() {
        return if rest_is_nameless { all.to_vec() } else { tagged };
    }
    // By its digest in a repository: everything that the image is called there.
    let name = reference.name();
    let there =
        |entry: &&Entry| entry.reference().or(entry.source()).is_none_or(|known| known.name() == name);
    all.iter().filter(there).cloned().collect()
}

/// Docker's lines for entries: names first, and then by digest each repository that has no other name left.
fn names(entries: &[Entry], kept: impl Fn(&str) -> bool) -> Vec<Removed> {
    let tags = entries.iter().filter_map(Entry::reference).filter(|reference| reference.digest().is_none());
    let mut lines: Vec<String> = tags.map(ToString::to_string).collect();
    let digests = entries.iter().flat_map(|entry| [entry.reference(), entry.source()]).flatten();
    for by_digest in digests.filter(|reference| reference.digest().is_some() && !kept(&reference.name())) {
        let line = by_digest.to_string();
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.into_iter().map(Removed::Untagged).collect()
}

/// A name goes; another one of the same repository keeps what the registry called the image.
fn inherit(entry: &mut Entry, taken: &[&Entry]) {
    let Some(name) = entry.reference().filter(|_| entry.source().is_none()).map(ImageRef::name) else {
        return;
    };
    let same = |gone: &&&Entry| gone.descriptor().digest == entry.descriptor().digest && is_of(gone, &name);
    if let Some(source) = taken.iter().find(same).and_then(|gone| gone.source()) {
        *entry = Entry::new(entry.descriptor(), entry.reference().cloned(), Some(source.clone()));
    }
}

fn is_of(entry: &Entry, name: &str) -> bool {
    entry.reference().is_some_and(|reference| reference.name() == name)
}

/// Names that count as several: tags, and repositories that call it by digest.
fn repositories(entries: &[Entry]) -> usize {
    let tags = entries.iter().filter(|entry| has_tag(entry)).count();
    let named: BTreeSet<String> = entries.iter().filter_map(Entry::reference).map(ImageRef::name).collect();
    tags.max(named.len())
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
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
