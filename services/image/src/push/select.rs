//! What a push sends, kept from being removed, and which repositories of the same registry have parts of it already.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use davit_proto::id::Digest;

use super::{PushError, Request};
use crate::image::Image;
use crate::index::Entry;
use crate::lease::Lease;
use crate::reference::{DEFAULT_TAG, ImageRef};
use crate::store::Store;

/// One image to be sent.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Where to.
    pub(super) reference: ImageRef,
    pub(super) image: Arc<Image>,
    /// The index it was pulled by, when that is something else than its manifest.
    pub(super) part_of: Option<Digest>,
}

/// What a push sends.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) chosen: Vec<Chosen>,
    /// Repositories of the same registry that have a blob, by the blob.
    neighbours: BTreeMap<Digest, BTreeSet<String>>,
    /// Held until the push is over.
    _lease: Lease,
}

impl Selection {
    /// Repositories of the same registry that have a blob.
    pub(super) fn neighbours(&self, blob: &Digest) -> impl Iterator<Item = &str> {
        self.neighbours.get(blob).into_iter().flatten().map(String::as_str)
    }
}

/// Finds what a request names. Blocks.
pub(super) fn select(store: &Store, request: &Request) -> Result<Selection, PushError> {
    let by_name = names(request)?;
    let wanted = |reference: &ImageRef| match request.steps.as_slice() {
        [] => by_name(reference),
        steps => steps.contains(reference),
    };
    let mut lease = store.lease();
    // Under the gate nobody removes what was found before the lease has it.
    let gate = store.gate();
    let images = store.images()?;
    let mut chosen = Vec::new();
    for (entry, image) in &images {
        let Some(reference) = entry.reference().filter(|reference| wanted(reference)) else { continue };
        for digest in image.blobs() {
            lease.add(digest);
        }
        let pulled = entry.source().and_then(ImageRef::digest);
        let part_of = pulled.filter(|digest| **digest != image.descriptor.digest).cloned();
        chosen.push(Chosen { reference: reference.clone(), image: Arc::clone(image), part_of });
    }
    drop(gate);
    if chosen.is_empty() {
        return Err(PushError::NoSuchTag(request.reference.familiar()));
    }
    chosen.sort_by(|a, b| a.reference.cmp(&b.reference));
    let neighbours = neighbours(&images, &request.reference);
    Ok(Selection { chosen, neighbours, _lease: lease })
}

/// Which references are meant.
fn names(request: &Request) -> Result<impl Fn(&ImageRef) -> bool, PushError> {
    let wanted = request.reference.clone();
    if wanted.digest().is_some() {
        return Err(PushError::Digest(wanted.familiar()));
    }
    if request.all_tags && wanted.tag().is_some() {
        return Err(PushError::OneTag(wanted.familiar()));
    }
    let (name, all) = (wanted.name(), request.all_tags);
    let tag = wanted.tag().unwrap_or(DEFAULT_TAG).to_owned();
    Ok(move |reference: &ImageRef| {
        reference.name() == name
            && reference.digest().is_none()
            && reference.tag().is_some_and(|own| all || own == tag)
    })
}

fn neighbours(images: &[(Entry, Arc<Image>)], target: &ImageRef) -> BTreeMap<Digest, BTreeSet<String>> {
    let mut neighbours: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    for (entry, image) in images {
        let Some(source) = entry.source().filter(|source| source.domain() == target.domain()) else {
            continue;
        };
        if source.repository() == target.repository() {
            continue;
        }
        for layer in &image.manifest.layers {
            neighbours.entry(layer.digest.clone()).or_default().insert(source.repository().to_owned());
        }
    }
    neighbours
}
