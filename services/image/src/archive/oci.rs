//! An OCI image layout in a tar: `index.json` lists images by digest, and every byte of theirs is a blob.

use std::collections::BTreeSet;

use davit_proto::id::Digest;

use super::docker::{reference, take_in};
use super::error::{ArchiveError, EntryProblem, shown};
use super::spool::Spool;
use super::{LoadedImage, OCI_INDEX_FILE};
use crate::content::Content;
use crate::document::{Config, Descriptor, Document, DocumentError, Manifest, OCI_INDEX};
use crate::reference::ImageRef;

/// The full name, as containerd and docker write it.
pub(super) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// A name, or only a tag.
pub(super) const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// Indexes within indexes.
const DEPTH_MAX: usize = 4;
/// Images, and manifests of one image with all its platforms.
const IMAGES_MAX: usize = 1000;
const MANIFESTS_MAX: usize = 4096;

/// An image with the digests of its configurations, by which `manifest.json` would name it.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) image: LoadedImage,
    pub(super) configs: BTreeSet<Digest>,
}

/// Blobs that an image needs and the archive has.
#[derive(Debug, Default)]
struct Walk {
    blobs: Vec<Descriptor>,
    configs: BTreeSet<Digest>,
    manifests: usize,
    complete: usize,
}

/// Takes every image of the archive in. Platforms that the archive does not hold are passed over; one must be whole.
pub(super) fn load(spool: &Spool, content: &Content) -> Result<Vec<Image>, ArchiveError> {
    let index = spool.document(OCI_INDEX_FILE)?;
    let listed = match parse(&index, OCI_INDEX, OCI_INDEX_FILE)? {
        Document::Index(index) => index.manifests,
        Document::Manifest(_) => Vec::new(),
    };
    if listed.is_empty() {
        return Err(ArchiveError::Empty);
    }
    if listed.len() > IMAGES_MAX {
        return Err(ArchiveError::Limit("number of images", IMAGES_MAX as u64));
    }
    let mut images: Vec<Image> = Vec::new();
    let mut blobs = Vec::new();
    for root in listed {
        let named = name_of(&root)?;
        // An image with two names is listed twice.
        if let Some(known) = images.iter_mut().find(|known| known.image.root.digest == root.digest) {
            known.image.references.extend(named);
            continue;
        }
        let mut walk = Walk::default();
        descend(spool, &root, 0, &mut walk)?;
        if walk.complete == 0 {
            return Err(ArchiveError::Incomplete(root.digest));
        }
        blobs.append(&mut walk.blobs);
        let root = Descriptor::new(root.media_type, root.digest, root.size);
        let image = LoadedImage { root, references: named.into_iter().collect() };
        images.push(Image { image, configs: walk.configs });
    }
    for blob in &blobs {
        take_in(spool, content, spool.find(&path(&blob.digest))?, blob)?;
    }
    Ok(images)
}

/// Collects what is reachable from a descriptor.
fn descend(spool: &Spool, from: &Descriptor, depth: usize, walk: &mut Walk) -> Result<(), ArchiveError> {
    walk.manifests += 1;
    if walk.manifests > MANIFESTS_MAX {
        return Err(ArchiveError::Limit("number of manifests", MANIFESTS_MAX as u64));
    }
    if depth > DEPTH_MAX {
        return Err(ArchiveError::Limit("depth of indexes", DEPTH_MAX as u64));
    }
    let bytes = read(spool, from)?;
    match parse(&bytes, &from.media_type, &path(&from.digest))? {
        Document::Index(index) => {
            walk.blobs.push(from.clone());
            for child in index.manifests.iter().filter(|child| spool.has(&path(&child.digest))) {
                descend(spool, child, depth + 1, walk)?;
            }
        }
        Document::Manifest(manifest) => {
            // A platform that is only listed may be incomplete; an image that is named may not.
            let missing = image(spool, from, manifest, walk)?;
            if let Some(missing) = missing.filter(|_| depth == 0) {
                return Err(ArchiveError::entry(&missing, EntryProblem::Missing));
            }
        }
    }
    Ok(())
}

/// One platform's image; answers with the name of an entry that the archive lacks.
fn image(
    spool: &Spool,
    from: &Descriptor,
    manifest: Manifest,
    walk: &mut Walk,
) -> Result<Option<String>, ArchiveError> {
    let parts: Vec<Descriptor> = manifest.layers.iter().chain([&manifest.config]).cloned().collect();
    let missing = parts.iter().map(|part| path(&part.digest)).find(|name| !spool.has(name));
    if missing.is_some() {
        return Ok(missing);
    }
    for part in &parts {
        let size = spool.find(&path(&part.digest))?.size;
        if size != part.size {
            return Err(wrong_size(part, size));
        }
    }
    // Signatures and the like have the form of an image without being one.
    let config = read(spool, &manifest.config)?;
    if Config::parse(&config).is_ok_and(|config| config.diff_ids(&manifest).is_ok()) {
        walk.complete += 1;
        walk.configs.insert(manifest.config.digest.clone());
    }
    walk.blobs.extend(parts);
    walk.blobs.push(from.clone());
    Ok(None)
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
