//! An OCI image layout in a tar: `index.json` lists images by digest, and every byte of theirs is a blob.

use std::collections::BTreeSet;

use davit_proto::id::Digest;

use super::docker::reference;
use super::error::{ArchiveError, shown};
use super::spool::Spool;
use super::{Intake, LoadedImage, OCI_INDEX_FILE};
use crate::document::{Descriptor, Document, DocumentError, Manifest, OCI_INDEX};
use crate::image::{check, no_platform};
use crate::platform::choose;
use crate::reference::ImageRef;

/// The full name, as containerd and docker write it.
pub(super) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// A name, or only a tag.
pub(super) const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// Images of an archive, and manifests of one image with all its platforms.
const IMAGES_MAX: usize = 1000;

/// An image with the digests of the configurations of all its platforms, by which `manifest.json` would name it.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) image: LoadedImage,
    pub(super) configs: BTreeSet<Digest>,
    parts: Vec<Descriptor>,
    /// What `index.json` lists it as.
    root: Digest,
}

/// Finds every image of the archive, for the platform wanted. Nothing is kept yet.
pub(super) fn find(spool: &Spool, intake: &Intake<'_>) -> Result<Vec<Image>, ArchiveError> {
    let listed = match parse(&spool.document(OCI_INDEX_FILE)?, OCI_INDEX, OCI_INDEX_FILE)? {
        Document::Index(index) => bounded(index.manifests)?,
        Document::Manifest(_) => Vec::new(),
    };
    if listed.is_empty() {
        return Err(ArchiveError::Empty);
    }
    let mut images: Vec<Image> = Vec::new();
    for root in &listed {
        let named = name_of(root)?;
        // An image with two names is listed twice.
        match images.iter_mut().find(|known| known.root == root.digest) {
            Some(known) => known.image.references.extend(named),
            None => images.push(image(spool, root, named, intake)?),
        }
    }
    Ok(images)
}

/// Takes the blobs of images in.
pub(super) fn keep(spool: &Spool, images: &[Image], intake: &mut Intake<'_>) -> Result<(), ArchiveError> {
    for part in images.iter().flat_map(|image| &image.parts) {
        intake.blob(spool, spool.find(&path(&part.digest))?, part)?;
    }
    Ok(())
}

fn image(
    spool: &Spool,
    root: &Descriptor,
    named: Option<ImageRef>,
    intake: &Intake<'_>,
) -> Result<Image, ArchiveError> {
    let mut configs = BTreeSet::new();
    let (chosen, manifest) = match document(spool, root)? {
        Document::Manifest(manifest) => (root.clone(), manifest),
        Document::Index(index) => {
            // An archive of one platform may keep the index of all.
            let mut present = bounded(index.manifests)?;
            present.retain(|child| spool.has(&path(&child.digest)));
            for child in &present {
                if let Document::Manifest(manifest) = document(spool, child)? {
                    configs.insert(manifest.config.digest);
                }
            }
            let chosen =
                choose(&present, intake.platform).ok_or_else(|| no_platform(&present, intake.platform))?;
            match document(spool, chosen)? {
                Document::Manifest(manifest) => (chosen.clone(), manifest),
                Document::Index(_) => {
                    let source = DocumentError::Unsupported("an index within an index".to_owned());
                    return Err(ArchiveError::Document { entry: path(&chosen.digest), source });
                }
            }
        }
    };
    configs.insert(manifest.config.digest.clone());
    let parts = parts(spool, &chosen, manifest)?;
    let manifest = Descriptor::new(chosen.media_type, chosen.digest, chosen.size);
    let image = LoadedImage { manifest, references: named.into_iter().collect() };
    Ok(Image { image, configs, parts, root: root.digest.clone() })
}

/// Everything that an image is made of: there, of the right size, and something that can be run.
fn parts(spool: &Spool, chosen: &Descriptor, manifest: Manifest) -> Result<Vec<Descriptor>, ArchiveError> {
    check(&manifest, &read(spool, &manifest.config)?)?;
    let parts: Vec<Descriptor> =
        manifest.layers.into_iter().chain([manifest.config, chosen.clone()]).collect();
    for part in &parts {
        let size = spool.find(&path(&part.digest))?.size;
        if size != part.size {
            return Err(wrong_size(part, size));
        }
    }
    Ok(parts)
}

fn bounded(descriptors: Vec<Descriptor>) -> Result<Vec<Descriptor>, ArchiveError> {
    if descriptors.len() > IMAGES_MAX {
        return Err(ArchiveError::Limit("number of images", IMAGES_MAX as u64));
    }
    Ok(descriptors)
}

fn document(spool: &Spool, wanted: &Descriptor) -> Result<Document, ArchiveError> {
    parse(&read(spool, wanted)?, &wanted.media_type, &path(&wanted.digest))
}

/// A document, verified.
fn read(spool: &Spool, wanted: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
    let name = path(&wanted.digest);
    let span = spool.find(&name)?;
    if span.size != wanted.size {
        return Err(wrong_size(wanted, span.size));
    }
    let bytes = spool.small(&name, span)?;
    let actual = crate::digest::digest(&bytes);
    if actual != wanted.digest {
        return Err(ArchiveError::Corrupt { entry: name, expected: wanted.digest.clone(), actual });
    }
    Ok(bytes)
}

fn wrong_size(wanted: &Descriptor, actual: u64) -> ArchiveError {
    let (digest, expected) = (wanted.digest.clone(), wanted.size);
    ArchiveError::Content(crate::content::ContentError::WrongSize { digest, expected, actual })
}

fn parse(bytes: &[u8], media_type: &str, name: &str) -> Result<Document, ArchiveError> {
    Document::parse(bytes, media_type)
        .map_err(|source: DocumentError| ArchiveError::Document { entry: shown(name), source })
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The name that an index gives an image. A `ref.name` that is only a tag names nothing.
fn name_of(root: &Descriptor) -> Result<Option<ImageRef>, ArchiveError> {
    if let Some(name) = root.annotations.get(NAME_ANNOTATION) {
        return reference(name).map(Some);
    }
    match root.annotations.get(REF_ANNOTATION) {
        Some(name) if name.contains([':', '/']) => reference(name).map(Some),
        _ => Ok(None),
    }
}
