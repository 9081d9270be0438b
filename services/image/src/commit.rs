//! Commit: a base, changed defaults and one more layer become an image.
//!
//! ```text
//! base ─▶ leased ─┐
//! layer ─▶ files and blob, leased ─▶ config ─▶ manifest ─▶ index.json
//! ```
//!
//! Killed at any line, what has a name is whole: the layer and its blob appear by one rename each, and the reference
//! comes last. What was taken in for an image that did not come to be goes again: at once, or at the next start.

mod document;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod gzip;
mod inflate;
mod layer;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::sync::Arc;

use davit_dockerfile::change;
use davit_proto::id::Digest;
use serde_json::{Map, Value};

use self::document::NewLayer;
pub use self::document::Words;
use crate::content::ContentError;
use crate::document::{CONFIG_BYTES, Descriptor, DocumentError, LAYERS, OCI_MANIFEST, Platform};
use crate::image::{Image, ImageError};
use crate::lease::Lease;
use crate::reference::ImageRef;
use crate::store::{Store, StoreError};

/// Why no image was made.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// This host's images failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The base has as many layers as there can be.
    #[error("image {image} has {LAYERS} layers, and no image can have more")]
    Layers {
        /// Which image.
        image: String,
    },
    /// The configuration would be larger than any that is read.
    #[error("the image's configuration would have {0} bytes, at most {CONFIG_BYTES} are allowed")]
    Large(usize),
    /// The defaults that came are no JSON object.
    #[error("invalid config: must be a JSON object as in an OCI image configuration")]
    Config(#[source] serde_json::Error),
    /// The history that came is none.
    #[error("invalid history: must be a JSON array as in an OCI image configuration")]
    History(#[source] serde_json::Error),
    /// The history that came tells of other layers.
    #[error("invalid history: it tells of {told} layers, and the image has {there}")]
    Told {
        /// How many steps made a layer.
        told: usize,
        /// How many layers there are.
        there: usize,
    },
    /// A change to the defaults is refused.
    #[error("invalid change: {0}")]
    Change(#[from] davit_dockerfile::Error),
}

impl From<ContentError> for CommitError {
    fn from(error: ContentError) -> Self {
        Self::Store(error.into())
    }
}

/// What is to be made.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The base, by id or reference; empty for nothing.
    pub base: String,
    /// The defaults of its containers, as JSON; empty for those of the base.
    pub config: Vec<u8>,
    /// Instructions that change them, one a line.
    pub changes: String,
    /// What is said of it.
    pub words: Words,
    /// All its steps, as JSON; empty for those of the base and what the words say.
    pub history: Vec<u8>,
    /// Its name.
    pub reference: Option<ImageRef>,
    /// The platform of an image from nothing.
    pub platform: Option<Platform>,
    /// No layer comes along.
    pub empty_layer: bool,
    /// The layer may be compressed.
    pub compressed: bool,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Image id.
    pub image_id: Digest,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its name.
    pub reference: Option<ImageRef>,
    /// Diff id of the new layer.
    pub diff_id: Option<Digest>,
}

/// Makes an image, whose layer's tar is read to its end. Blocks. Made again of the same, it is the same image.
///
/// # Errors
/// When there is no such base, the layer is refused or breaks off, or the disk fails; nothing has changed then.
pub fn commit(store: &Store, request: &Request, source: impl Read + Send) -> Result<Committed, CommitError> {
    let mut lease = store.lease();
    let result = make(store, request, source, &mut lease);
    if result.is_err() {
        let digests: Vec<Digest> = lease.digests().to_vec();
        drop(lease);
        if let Err(error) = store.abandon(&digests) {
            tracing::warn!(%error, "could not remove what a failed commit left");
        }
    }
    result
}

fn make(
    store: &Store,
    request: &Request,
    source: impl Read + Send,
    lease: &mut Lease,
) -> Result<Committed, CommitError> {
    let base = match request.base.as_str() {
        "" => None,
        text => Some(base(store, text, lease)?),
    };
    let base = base.as_deref();
    // What can be refused is refused before the layer comes.
    let defaults = defaults(base, request)?;
    let history = match request.history.as_slice() {
        [] => None,
        given => {
            Some(serde_json::from_slice::<Vec<Map<String, Value>>>(given).map_err(CommitError::History)?)
        }
    };
    let layer = if request.empty_layer {
        None
    } else {
        if let Some(base) = base.filter(|base| base.diff_ids().len() >= LAYERS) {
            return Err(CommitError::Layers { image: base.id().to_string() });
        }
        if request.compressed {
            inflate::inflated(source, store.limits(), |plain| layer::take_in(store, plain, lease))?
        } else {
            layer::take_in(store, source, lease)?
        }
    };
    let said = Said { request, defaults, history };
    let manifest = documents(store, base, said, layer.as_ref(), lease)?;
    store.name(&manifest.descriptor, request.reference.clone(), None)?;
    Ok(Committed {
        image_id: manifest.image_id,
        digest: manifest.descriptor.digest,
        reference: request.reference.clone(),
        diff_id: layer.map(|layer| layer.diff_id),
    })
}

/// Finds the base, and holds all of it. Under the gate, so that a removal at the same moment sees either this lease or
/// no base for us.
fn base(store: &Store, text: &str, lease: &mut Lease) -> Result<Arc<Image>, CommitError> {
    let _gate = store.gate();
    let image = match store.find(text) {
        Ok(found) => found.image,
        Err(StoreError::NotFound(missing)) => {
            // Its last name may be gone, while containers still use it.
            let held = store.holders().all().into_values().find(|holder| holder.image_id.as_str() == text);
            let held = held.ok_or(StoreError::NotFound(missing))?;
            store.load(&held.manifest).map_err(StoreError::from)?
        }
        Err(error) => return Err(error.into()),
    };
    for digest in image.blobs().chain(image.diff_ids()) {
        lease.add(digest);
    }
    for layer in &image.manifest.layers {
        if store.content().size(&layer.digest)?.is_none() {
            return Err(ContentError::Missing(layer.digest.clone()).into());
        }
    }
    Ok(image)
}

fn defaults(base: Option<&Image>, request: &Request) -> Result<Map<String, Value>, CommitError> {
    let mut defaults = match request.config.as_slice() {
        [] => document::defaults(base),
        given => serde_json::from_slice(given),
    }
    .map_err(CommitError::Config)?;
    change::apply(&change::parse(&request.changes)?, &mut defaults)?;
    Ok(defaults)
}

/// What is said of the image, read.
struct Said<'a> {
    request: &'a Request,
    defaults: Map<String, Value>,
    history: Option<Vec<Map<String, Value>>>,
}

struct Made {
    descriptor: Descriptor,
    image_id: Digest,
}

/// Writes configuration and manifest.
fn documents(
    store: &Store,
    base: Option<&Image>,
    said: Said<'_>,
    layer: Option<&NewLayer>,
    lease: &mut Lease,
) -> Result<Made, CommitError> {
    let Said { request, defaults, history } = said;
    let platform = request.platform.as_ref().unwrap_or(store.platform());
    if let Some(history) = &history {
        let told = history.iter().filter(|step| step.get("empty_layer") != Some(&Value::Bool(true))).count();
        let there = base.map_or(0, |base| base.diff_ids().len()) + usize::from(layer.is_some());
        if told != there {
            return Err(CommitError::Told { told, there });
        }
    }
    let config = document::config(base, platform, defaults, layer, (&request.words, history));
    let config = config.map_err(CommitError::Config)?;
    if config.len() > CONFIG_BYTES {
        return Err(CommitError::Large(config.len()));
    }
    let mut keep = |bytes: &[u8]| {
        lease.add(&crate::digest::digest(bytes));
        store.content().write(bytes)
    };
    let image_id = keep(&config)?;
    let config = document::config_descriptor(image_id.clone(), &config);
    let manifest = document::manifest(base, &config, layer);
    let manifest = manifest.map_err(|source| {
        let source = DocumentError::Json { what: "manifest", source };
        StoreError::from(ImageError::Document { digest: image_id.clone(), source })
    })?;
    let mut descriptor = Descriptor::new(OCI_MANIFEST, keep(&manifest)?, manifest.len() as u64);
    descriptor.platform = Some(base.map_or(platform, |base| &base.config.platform).clone());
    Ok(Made { descriptor, image_id })
}
