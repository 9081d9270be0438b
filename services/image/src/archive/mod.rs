//! Image archives: what `docker save` and OCI tools write, in and out.
//!
//! ```text
//! load   stream → (inflate) → Spool, a nameless file with a table of its entries
//!          ├ index.json + oci-layout → oci::load     blobs by digest
//!          └ manifest.json           → docker::load  layers by path; an OCI manifest is written for them
//!          → Content, images with their names
//! save   images → which blobs → tar: oci-layout, index.json, (manifest.json), blobs/sha256/…
//! ```
//!
//! An archive is read to its end before anything of it is used, so what may come in any order does, and an archive
//! that is refused leaves nothing: the spool has no name. Only blobs that an image needs reach the content store.

mod docker;
mod error;
mod oci;
mod save;
mod spool;

use std::collections::BTreeSet;
use std::io::Read;

use davit_proto::id::Digest;

pub use self::error::{ArchiveError, EntryProblem};
pub use self::save::{Format, SavedImage, save};
pub use self::spool::Limits;

use self::spool::Spool;
use crate::content::Content;
use crate::document::Descriptor;
use crate::reference::ImageRef;

const DOCKER_MANIFEST: &str = "manifest.json";
const OCI_INDEX_FILE: &str = "index.json";
const OCI_LAYOUT_FILE: &str = "oci-layout";

/// An image that an archive held, with its blobs now in the content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its manifest, or the index of its manifests.
    pub root: Descriptor,
    /// The names that the archive gives it; none is fine.
    pub references: Vec<ImageRef>,
}

/// Reads an archive of either kind, also compressed with gzip or zstd, to its end and takes its images into the
/// content store. Blocks. When this fails after blobs were taken in, they belong to no image and are for the caller to
/// collect.
pub fn load(source: impl Read, content: &Content) -> Result<Vec<LoadedImage>, ArchiveError> {
    let spool = Spool::read(source, &content.ingest_path(), &Limits::default())?;
    load_spool(&spool, content)
}

fn load_spool(spool: &Spool, content: &Content) -> Result<Vec<LoadedImage>, ArchiveError> {
    let is_oci = spool.has(OCI_INDEX_FILE) && spool.has(OCI_LAYOUT_FILE);
    let is_docker = spool.has(DOCKER_MANIFEST);
    match (is_oci, is_docker) {
        (true, false) => Ok(oci::load(spool, content)?.into_iter().map(|image| image.image).collect()),
        (false, true) => docker::load(spool, content),
        (true, true) => both(spool, content),
        (false, false) => Err(ArchiveError::Unknown),
    }
}

/// Newer dockers write both forms into one archive: the OCI one is taken, for it keeps the digests, and the docker one
/// must not say anything else.
fn both(spool: &Spool, content: &Content) -> Result<Vec<LoadedImage>, ArchiveError> {
    let plain = docker::read(spool)?;
    let mut loaded = oci::load(spool, content)?;
    let known: BTreeSet<&Digest> = loaded.iter().flat_map(|image| &image.configs).collect();
    if plain.iter().any(|entry| !known.contains(&entry.config_digest)) {
        return Err(ArchiveError::Ambiguous);
    }
    for entry in plain {
        let image = loaded.iter_mut().find(|image| image.configs.contains(&entry.config_digest));
        let named = loaded_names(image.as_deref());
        if let Some(image) = image.filter(|_| named == 0) {
            image.image.references = entry.references;
        }
    }
    Ok(loaded.into_iter().map(|image| image.image).collect())
}

fn loaded_names(image: Option<&oci::Image>) -> usize {
    image.map_or(0, |image| image.image.references.len())
}

#[cfg(test)]
mod tests;
