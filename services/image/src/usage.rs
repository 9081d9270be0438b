//! Disk space: what is on the disk, each thing once, and what of it which image needs.
//!
//! Sums are blocks, as du(1) counts them: of unpacked layers, of content as it came, and of the folders and records
//! around them. Nothing here holds the gate: a start never waits for a walk. What is removed meanwhile counts nothing.

mod steps;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use davit_proto::id::Digest;
use davit_sys::file::{self, Usage};

use crate::content::ContentError;
use crate::image::Image;
use crate::list::Summary;
use crate::store::{Store, StoreError};

/// How long the walks through layers may take together; after the first one they are known.
const PATIENCE: Duration = Duration::from_secs(60);

/// Disk space of all images.
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// Images that a container uses.
    pub active: u64,
    /// Bytes of all unpacked layers.
    pub layer_bytes: u64,
    /// Bytes of all content as it came.
    pub blob_bytes: u64,
    /// Bytes of folders, records and what is on its way in or out.
    pub other_bytes: u64,
    /// Bytes that only unused images need, and what nothing needs.
    pub reclaimable_bytes: u64,
    /// Not all could be counted.
    pub partial: bool,
    /// Each image.
    pub images: Vec<ImageUsage>,
    /// Each step of builds, the one that goes first at the front.
    pub steps: Vec<StepUsage>,
    /// Bytes that only steps need.
    pub step_bytes: u64,
    /// Those of them that no container uses.
    pub step_reclaimable_bytes: u64,
}

/// Disk space of what one step of a build made.
#[derive(Debug, Clone)]
pub struct StepUsage {
    /// The name by which builds find it.
    pub reference: String,
    /// Its image.
    pub image: Arc<Image>,
    /// Bytes that it added to what it was done upon.
    pub bytes: u64,
    /// Those of them that an image needs too.
    pub shared_bytes: u64,
    /// A container uses it.
    pub in_use: bool,
    /// When it, or a step upon it, was needed last.
    pub used_at: SystemTime,
}

/// Disk space of one image.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// The image.
    pub summary: Summary,
    /// Bytes of its layers and its content.
    pub bytes: u64,
    /// Those of them that another image has too.
    pub shared_bytes: u64,
}

/// A thing of the store: both kinds are named by digests, and a layer that was never compressed is both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// Content as it came.
    Blob(Digest),
    /// An unpacked layer.
    Layer(Digest),
}

/// The parts of an image, each once.
pub(crate) fn parts(image: &Image) -> BTreeSet<Part> {
    let blobs = image.blobs().cloned().map(Part::Blob);
    blobs.chain(image.diff_ids().iter().cloned().map(Part::Layer)).collect()
}

impl Store {
    /// Disk space of all images.
    pub fn disk_usage(&self) -> Result<DiskUsage, StoreError> {
        let until = Instant::now() + PATIENCE;
        let mut usage = DiskUsage::default();
        let sizes = self.measure(until, &mut usage)?;
        let size = |part: &Part| sizes.get(part).copied().unwrap_or(0);
        let (list, only_steps): (Vec<Summary>, Vec<Summary>) =
            self.list()?.into_iter().partition(|summary| summary.listed);
        let held = self.held_parts();
        steps::count(self, (&list, &only_steps), (&sizes, &held), &mut usage)?;
        let of_steps = steps::own(&list, &only_steps);
        let mut owners: HashMap<Part, usize> = HashMap::new();
        for part in list.iter().flat_map(|summary| parts(&summary.image)) {
            *owners.entry(part).or_default() += 1;
        }
        for summary in list {
            let all = parts(&summary.image);
            let shared = all.iter().filter(|part| owners.get(part).is_some_and(|owners| *owners > 1));
            let shared_bytes = shared.map(size).fold(0, u64::saturating_add);
            let bytes = all.iter().map(size).fold(0, u64::saturating_add);
            usage.active += u64::from(!summary.container_ids.is_empty());
            usage.images.push(ImageUsage { summary, bytes, shared_bytes });
        }
        let idle = sizes.iter().filter(|(part, _)| !held.contains(*part) && !of_steps.contains(*part));
        usage.reclaimable_bytes = idle.map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
        Ok(usage)
    }

    /// What containers and those who are about to need it hold. An image that cannot be read is told of elsewhere.
    fn held_parts(&self) -> BTreeSet<Part> {
        let holders = self.holders().all();
        let images = holders.values().filter_map(|holder| self.load(&holder.manifest).ok());
        let mut held: BTreeSet<Part> = images.flat_map(|image| parts(&image)).collect();
        for digest in self.leases().held() {
            held.extend([Part::Blob(digest.clone()), Part::Layer(digest)]);
        }
        held
    }

    /// Bytes of disk of every part, and of what is around them.
    fn measure(&self, until: Instant, usage: &mut DiskUsage) -> Result<BTreeMap<Part, u64>, StoreError> {
        let mut sizes = BTreeMap::new();
        for (digest, _) in self.content().list()? {
            let bytes = self.content().disk(&digest)?;
            usage.blob_bytes = usage.blob_bytes.saturating_add(bytes);
            sizes.insert(Part::Blob(digest), bytes);
        }
        for (diff_id, _) in self.snapshots().list()? {
            let layer = self.snapshots().disk(&diff_id, until)?;
            usage.layer_bytes = usage.layer_bytes.saturating_add(layer.disk);
            usage.partial |= layer.partial;
            sizes.insert(Part::Layer(diff_id), layer.disk);
        }
        let root = self.content().root();
        let around = around(root, until).map_err(ContentError::io("measure", root.display()))?;
        usage.other_bytes = around.disk;
        usage.partial |= around.partial;
        Ok(sizes)
    }
}

/// Everything below the store's folder that is no blob and no layer, folders included.
fn around(root: &Path, until: Instant) -> std::io::Result<Usage> {
    let mut all = Usage::default();
    for (folder, below) in [("", true), ("blobs", true), ("blobs/sha256", false), ("layers", false)] {
        let path = root.join(folder);
        let dir = file::open_dir(&path)?;
        all.disk = all.disk.saturating_add(file::disk_of(&file::stat(&dir)?));
        for entry in std::fs::read_dir(&path)? {
            let name = entry?.file_name();
            let text = name.to_str().unwrap_or_default();
            let own_turn = below && matches!(text, "blobs" | "sha256" | "layers");
            let part = !below && format!("sha256:{text}").parse::<Digest>().is_ok();
            if !own_turn && !part {
                all = all.plus(file::usage(&dir, &name, until)?);
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::fixture::Made;
    use davit_archive::fixture::Archive;

    fn du(path: &Path) -> u64 {
        let about = std::fs::symlink_metadata(path).unwrap();
        let below = if about.is_dir() {
            std::fs::read_dir(path).unwrap().map(|entry| du(&entry.unwrap().path())).sum()
        } else {
            0
        };
        about.blocks() * 512 + below
    }

    #[test]
    fn what_images_share_counts_once_and_the_sums_are_those_of_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let base = || Archive::default().dir("etc", 0o755).file("etc/base", &[7; 300_000]);
        let a = Made::of([base(), Archive::default().file("a", &[1; 100_000])]);
        let b = Made::of([base(), Archive::default().file("b", &[2; 200_000])]);
        a.put(&store, &["a:1", "a:2"]);
        b.put(&store, &["b:1"]);
        let container = "ab".repeat(32).parse().unwrap();
        store.prepare(&container, "a:1").unwrap();
        let usage = store.disk_usage().unwrap();
        assert_eq!((usage.images.len(), usage.active, usage.partial), (2, 1, false));
        let all = usage.layer_bytes + usage.blob_bytes + usage.other_bytes;
        assert_eq!(all, du(&dir.path().join("image")));
        let of = |name: &str| {
            let named = |usage: &&ImageUsage| usage.summary.references.iter().any(|r| r.contains(name));
            usage.images.iter().find(named).unwrap()
        };
        let (a, b) = (of("/a:"), of("/b:"));
        assert!(a.shared_bytes >= 300_000 && a.shared_bytes == b.shared_bytes, "{usage:?}");
        assert_eq!(a.bytes + b.bytes - b.shared_bytes, usage.layer_bytes + usage.blob_bytes);
        assert_eq!(usage.reclaimable_bytes, b.bytes - b.shared_bytes, "the container needs the rest");
    }
}
