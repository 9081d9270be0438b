//! Images from an archive into the store.

use std::io::Read;

use davit_proto::id::Digest;

use crate::archive::{self, ArchiveError, Intake, LoadedImage};
use crate::document::Platform;
use crate::error::Error;
use crate::lease::Lease;
use crate::pull::{Board, LayerState};
use crate::store::{Store, not_reserved};

/// How to read an archive.
#[derive(Debug, Clone)]
pub struct How {
    /// The platform to take of an image for several.
    pub platform: Platform,
    /// Names of steps of builds are believed.
    pub steps: bool,
}

/// Reads an archive to its end, unpacks its images and names them. Blocks. Tells the references, and the ids of images
/// that have none. When this fails, what was taken in for the images that have no name yet goes again.
pub fn load(store: &Store, source: impl Read, how: &How, board: &Board) -> Result<Vec<String>, Error> {
    let mut lease = store.lease();
    let result = take_in(store, source, how, board, &mut lease);
    if result.is_err() {
        let digests: Vec<Digest> = lease.digests().to_vec();
        drop(lease);
        if let Err(error) = store.abandon(&digests) {
            tracing::warn!(%error, "could not remove what a failed load left");
        }
    }
    result
}

fn take_in(
    store: &Store,
    source: impl Read,
    How { platform, steps }: &How,
    board: &Board,
    lease: &mut Lease,
) -> Result<Vec<String>, Error> {
    let content = store.content();
    let images = archive::load(source, Intake { content, lease, platform })?;
    if !steps {
        images.iter().flat_map(|image| &image.references).try_for_each(not_reserved)?;
    }
    let mut loaded = Vec::new();
    for image in images {
        unpack(store, &image, board, lease)?;
        loaded.extend(name(store, image)?);
    }
    Ok(loaded)
}

fn unpack(store: &Store, loaded: &LoadedImage, board: &Board, lease: &mut Lease) -> Result<(), Error> {
    let image = store.load(&loaded.manifest).map_err(ArchiveError::from)?;
    for (layer, diff_id) in image.manifest.layers.iter().zip(image.diff_ids()) {
        lease.add(diff_id);
        let there = store.snapshots().layer(diff_id).map_err(crate::store::StoreError::from)?.is_some();
        if there {
            board.set(&layer.digest, LayerState::Exists, layer.size, layer.size);
            continue;
        }
        board.set(&layer.digest, LayerState::Unpacking, 0, layer.size);
        store.add_layer(layer, diff_id)?;
        board.set(&layer.digest, LayerState::Complete, layer.size, layer.size);
    }
    Ok(())
}

fn name(store: &Store, loaded: LoadedImage) -> Result<Vec<String>, Error> {
    let LoadedImage { manifest, references } = loaded;
    if references.is_empty() {
        store.name(&manifest, None, None)?;
        let image = store.load(&manifest).map_err(ArchiveError::from)?;
        return Ok(vec![image.id().to_string()]);
    }
    let mut names = Vec::new();
    for reference in references {
        names.push(reference.to_string());
        store.name(&manifest, Some(reference), None)?;
    }
    Ok(names)
}
