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

use std::io::Read;

use davit_proto::id::Digest;

pub use self::error::{ArchiveError, EntryProblem};
pub use self::save::{Format, SavedImage, save};
pub use self::spool::Limits;

use self::spool::{Span, Spool};
use crate::content::Content;
use crate::document::{Descriptor, Platform};
use crate::lease::Lease;
use crate::reference::ImageRef;

const DOCKER_MANIFEST: &str = "manifest.json";
const OCI_INDEX_FILE: &str = "index.json";
const OCI_LAYOUT_FILE: &str = "oci-layout";

/// An image that an archive held, with its blobs now in the content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its manifest.
    pub manifest: Descriptor,
    /// The names that the archive gives it; none is fine.
    pub references: Vec<ImageRef>,
}

/// Where an archive goes.
#[derive(Debug)]
pub struct Intake<'a> {
    /// Keeps the blobs.
    pub content: &'a Content,
    /// Holds them until they have a reference.
    pub lease: &'a mut Lease,
    /// The platform to take of an image for several.
    pub platform: &'a Platform,
}

impl Intake<'_> {
    /// Copies a span of the archive into the content store, as the blob that it should be.
    fn blob(&mut self, spool: &Spool, span: Span, blob: &Descriptor) -> Result<(), ArchiveError> {
        self.lease.add(&blob.digest);
        let Some(ingest) = self.content.ingest_blocking(&blob.digest, blob.size)? else { return Ok(()) };
        let mut writer = ingest.restart()?;
        spool.each(span, |piece| Ok(writer.write(piece)?))?;
        Ok(writer.commit()?)
    }

    fn document(&mut self, bytes: &[u8]) -> Result<Digest, ArchiveError> {
        self.lease.add(&crate::digest::digest(bytes));
        Ok(self.content.write(bytes)?)
    }
}

/// Reads an archive of either kind, also compressed with gzip or zstd, to its end and takes its images into the
/// content store. Blocks. When this fails after blobs were taken in, they belong to no image and are for the caller to
/// collect.
pub fn load(source: impl Read, mut intake: Intake<'_>) -> Result<Vec<LoadedImage>, ArchiveError> {
    let spool = Spool::read(source, &intake.content.ingest_path(), &Limits::default())?;
    let is_oci = spool.has(OCI_INDEX_FILE) && spool.has(OCI_LAYOUT_FILE);
    let is_docker = spool.has(DOCKER_MANIFEST);
    if !is_oci {
        return if is_docker { docker::load(&spool, &mut intake) } else { Err(ArchiveError::Unknown) };
    }
    let mut images = oci::find(&spool, &intake)?;
    if is_docker {
        reconcile(&spool, &mut images)?;
    }
    oci::keep(&spool, &images, &mut intake)?;
    Ok(images.into_iter().map(|image| image.image).collect())
}

/// Newer dockers write both forms into one archive: the OCI one is taken, for it keeps the digests, and the docker one
/// must not say anything else. It may have names where the other has none.
fn reconcile(spool: &Spool, images: &mut [oci::Image]) -> Result<(), ArchiveError> {
    for entry in docker::read(spool)? {
        let image = images.iter_mut().find(|image| image.configs.contains(&entry.config_digest));
        let image = image.ok_or(ArchiveError::Ambiguous)?;
        if image.image.references.is_empty() {
            image.image.references = entry.references;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
