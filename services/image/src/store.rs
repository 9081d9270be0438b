//! The images of this host: content, references, layers and holders together, and how an image is found.
//!
//! ```text
//! reference ─▶ index.json ─▶ manifest ─▶ config ─▶ diff ids ─▶ layers
//!                               └─▶ layer blobs
//! container ─▶ use/<id>.json ─▶ manifest
//! ```
//!
//! Order is what keeps it whole: content before layers before references, and the other way round on removal. What is
//! decided from several of these at once ("nobody uses this") is decided and done under [`Store::gate`].

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use davit_proto::id::Digest;
use davit_sys::file::Flock;
use tokio::sync::watch;

use crate::content::{Content, ContentError, Turns, make_dirs};
use crate::document::{Descriptor, Platform};
use crate::holder::{HolderError, Holders};
use crate::image::{Image, ImageError};
use crate::index::{Entry, IndexError, References};
use crate::lease::{Lease, Leases};
use crate::reference::{ImageRef, ReferenceError};
use crate::snapshot::{Directory, SnapshotError, Snapshotter};
use crate::unpack::Limits;

/// Partial downloads that nobody continued for so long are removed at start.
pub(crate) const PARTIAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Parsed images that are kept in memory.
const CACHED: usize = 256;

/// Why something with images failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be used.
    #[error("open image store {}", path.display())]
    Open {
        /// Which folder.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("image store {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// There is no such image.
    #[error("no such image: {0}")]
    NotFound(String),
    /// Several ids begin so.
    #[error("several images have ids that begin with {0:?}")]
    Ambiguous(String),
    /// It is neither a reference nor an id.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Containers use the image.
    #[error("conflict: {conflict}")]
    InUse {
        /// Which image.
        image: String,
        /// Their ids.
        container_ids: Vec<String>,
        /// What that keeps from being done, in docker's words.
        conflict: String,
    },
    /// A container that has no image of its own wants further ones.
    #[error("container {0} was not prepared")]
    NotPrepared(String),
    /// A container wants more further images than there may be.
    #[error("mount another image: a container may have {0} of them")]
    TooMany(usize),
    /// Removing by id would take several names.
    #[error(
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories: {}",
        image.get(..12).unwrap_or(image),
        references.join(", ")
    )]
    SeveralReferences {
        /// Hex digits of the image's id.
        image: String,
        /// Its references.
        references: Vec<String>,
    },
    /// Names with a digest are given by the content alone.
    #[error("cannot tag with {0}: a new reference has no digest")]
    TagDigest(String),
    /// The name is one of those that say what a build did; from elsewhere it would be believed.
    #[error("the name {0} is for the steps of builds alone")]
    Reserved(ImageRef),
    /// A filter makes no sense.
    #[error("invalid filter {key}={value}: {rule}")]
    Filter {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// What it would have to be.
        rule: &'static str,
    },
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The references cannot be read or changed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The content store failed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A layer failed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A record of use failed.
    #[error(transparent)]
    Holder(#[from] HolderError),
}

/// What a text named.
#[derive(Debug, Clone)]
pub struct Found {
    /// The image.
    pub image: Arc<Image>,
    /// The reference that it was found by; `None` when it was found by id.
    pub reference: Option<ImageRef>,
}

/// The images of this host. Clones share everything.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    content: Content,
    references: References,
    holders: Holders,
    leases: Leases,
    snapshots: Box<dyn Snapshotter>,
    unpacking: Turns,
    limits: Limits,
    platform: Platform,
    gate: Mutex<()>,
    images: Mutex<HashMap<Digest, Arc<Image>>>,
    /// Image ids by what entries point at: of more images than are kept whole.
    ids: Mutex<HashMap<Digest, Digest>>,
    /// Tells that an image was named.
    changes: watch::Sender<()>,
    /// One process at a time.
    _lock: Flock,
}

impl Store {
    /// Opens the store in the folder `image` of `root`, making what is missing and sweeping what was left half.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let root = root.join("image");
        let failed = |source| StoreError::Open { path: root.clone(), source };
        make_dirs(&root).map_err(failed)?;
        let lock = Flock::try_lock(&root.join("lock")).map_err(failed)?;
        let lock = lock.ok_or_else(|| StoreError::Locked(root.clone()))?;
        let content = Content::open(&root)?;
        content.sweep(SystemTime::now().checked_sub(PARTIAL_AGE).unwrap_or(SystemTime::UNIX_EPOCH))?;
        let inner = Inner {
            references: References::open(&root)?,
            holders: Holders::open(&root).map_err(failed)?,
            snapshots: Box::new(Directory::open(&root)?),
            content,
            leases: Leases::default(),
            unpacking: Turns::default(),
            limits: Limits::default(),
            platform: Platform::host(),
            gate: Mutex::default(),
            images: Mutex::default(),
            ids: Mutex::default(),
            changes: watch::Sender::new(()),
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The bytes by digest.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.inner.content
    }

    /// The unpacked layers.
    #[must_use]
    pub fn snapshots(&self) -> &dyn Snapshotter {
        &*self.inner.snapshots
    }

    /// The references.
    #[must_use]
    pub fn references(&self) -> &References {
        &self.inner.references
    }

    /// The containers that use images.
    #[must_use]
    pub fn holders(&self) -> &Holders {
        &self.inner.holders
    }

    /// The platform of this host.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.inner.platform
    }

    /// What unpacking may cost.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Turns of those who unpack, by diff id.
    #[must_use]
    pub fn unpacking(&self) -> &Turns {
        &self.inner.unpacking
    }

    /// A lease on content that no reference points at yet.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.inner.leases.take()
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.inner.leases
    }

    /// Tells of every image that is named from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.inner.changes.subscribe()
    }

    /// Held while something is decided from several parts of the store, and done.
    pub(crate) fn gate(&self) -> MutexGuard<'_, ()> {
        self.inner.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the image that an entry or a holder points at.
    pub fn load(&self, descriptor: &Descriptor) -> Result<Arc<Image>, ImageError> {
        let lock = || self.inner.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = lock().get(&descriptor.digest) {
            return Ok(Arc::clone(image));
        }
        let image = Arc::new(Image::load(self.content(), descriptor, self.platform())?);
        let mut images = lock();
        if images.len() >= CACHED {
            images.clear();
        }
        images.insert(descriptor.digest.clone(), Arc::clone(&image));
        drop(images);
        self.ids().insert(descriptor.digest.clone(), image.id().clone());
        Ok(image)
    }

    fn ids(&self) -> MutexGuard<'_, HashMap<Digest, Digest>> {
        self.inner.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the image that an entry points at; none of one that cannot be read, which is reported.
    pub(crate) fn id_of(&self, descriptor: &Descriptor) -> Option<Digest> {
        if let Some(id) = self.ids().get(&descriptor.digest) {
            return Some(id.clone());
        }
        match self.load(descriptor) {
            Ok(image) => Some(image.id().clone()),
            Err(error) => {
                tracing::warn!(digest = %descriptor.digest, %error, "an image cannot be read");
                None
            }
        }
    }

    /// Forgets what is in memory of an image that was removed.
    pub(crate) fn forget(&self, digest: &Digest) {
        self.inner.images.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
        self.ids().remove(digest);
    }

    /// All entries whose images can be read, each with its image. One that cannot is reported and passed over.
    pub fn images(&self) -> Result<Vec<(Entry, Arc<Image>)>, StoreError> {
        let mut images = Vec::new();
        for entry in self.references().entries()?.iter() {
            match self.load(entry.descriptor()) {
                Ok(image) => images.push((entry.clone(), image)),
                Err(error) => {
                    let digest = &entry.descriptor().digest;
                    tracing::warn!(%digest, %error, "an image cannot be read");
                }
            }
        }
        Ok(images)
    }

    /// Finds an image by reference, by id, or by a prefix of an id that no other has.
    pub fn find(&self, text: &str) -> Result<Found, StoreError> {
        let entries = self.references().entries()?;
        if let Ok(reference) = text.parse::<ImageRef>()
            && let Some(entry) = entries.iter().find(|entry| is_named(entry, &reference))
        {
            return Ok(Found { image: self.load(entry.descriptor())?, reference: Some(reference) });
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            // The reason why it is no reference, if it is none, says more.
            text.parse::<ImageRef>()?;
            return Err(StoreError::NotFound(text.to_owned()));
        }
        let mut found: Option<(Digest, &Entry)> = None;
        for entry in entries.iter() {
            let Some(id) = self.id_of(entry.descriptor()) else { continue };
            if !id.hex().starts_with(hex) && entry.descriptor().digest.hex() != hex {
                continue;
            }
            if found.as_ref().is_some_and(|(known, _)| *known != id) {
                return Err(StoreError::Ambiguous(text.to_owned()));
            }
            found = Some((id, entry));
        }
        let (_, entry) = found.ok_or_else(|| StoreError::NotFound(text.to_owned()))?;
        Ok(Found { image: self.load(entry.descriptor())?, reference: None })
    }

    /// Unpacks a layer whose blob is in the content store, unless it is unpacked already.
    pub fn add_layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<(), StoreError> {
        let _turn = self.unpacking().take_blocking(diff_id);
        if self.snapshots().layer(diff_id)?.is_some() {
            return Ok(());
        }
        let file = self.content().open_blob(&blob.digest)?;
        let mut source = io::BufReader::with_capacity(128 << 10, file);
        self.snapshots().unpack(diff_id, &mut source, self.limits())?;
        Ok(())
    }

    /// Gives a manifest, whose content and layers must all be here, a reference. What had the reference before stays as an
    /// image without a name. `source` is what a registry named it by. Tells whether that changed anything.
    pub fn name(
        &self,
        manifest: &Descriptor,
        reference: Option<ImageRef>,
        source: Option<ImageRef>,
    ) -> Result<bool, StoreError> {
        let image = self.load(manifest)?;
        // Tells that a layer is missing, and prepares what the first container would wait for.
        self.snapshots().mount(image.diff_ids())?;
        self.touch(manifest);
        let _gate = self.gate();
        let entry = Entry::new(manifest, reference, source);
        if self.references().entries()?.contains(&entry) {
            return Ok(false);
        }
        self.references().change(|entries| put(entries, entry))?;
        self.inner.changes.send_replace(());
        Ok(true)
    }

    /// Notes that an image is at its registry now, by the digest of its manifest, unless the name moved on meanwhile.
    pub fn pushed(&self, reference: &ImageRef, manifest: &Descriptor) -> Result<(), StoreError> {
        let source = reference.with_digest(manifest.digest.clone());
        let _gate = self.gate();
        let is_it = |entry: &Entry| {
            entry.reference() == Some(reference) && entry.descriptor().digest == manifest.digest
        };
        if !self.references().entries()?.iter().any(|entry| is_it(entry) && entry.source() != Some(&source)) {
            return Ok(());
        }
        self.references().change(|entries| {
            for entry in entries.iter_mut().filter(|entry| is_it(entry)) {
                *entry = Entry::new(entry.descriptor(), entry.reference().cloned(), Some(source.clone()));
            }
        })?;
        Ok(())
    }

    /// Has an image among those that people see, if only without a name.
    pub fn list_unnamed(&self, source: &str) -> Result<(), StoreError> {
        let (found, _lease) = self.find_held(source)?;
        self.name(&found.image.descriptor, None, None).map(|_| ())
    }

    /// Gives an image one more reference.
    pub fn tag(&self, source: &str, target: &str) -> Result<(), StoreError> {
        let target: ImageRef = target.parse()?;
        if target.digest().is_some() {
            return Err(StoreError::TagDigest(target.to_string()));
        }
        not_reserved(&target)?;
        let (found, _lease) = self.find_held(source)?;
        self.name(&found.image.descriptor, Some(target), None).map(|_| ())
    }

    /// As [`Store::find`], and keeps all that the image is made of from being collected until the lease is dropped,
    /// whatever becomes of its names meanwhile.
    pub fn find_held(&self, text: &str) -> Result<(Found, Lease), StoreError> {
        // Everything is collected under the gate, so between finding and holding nothing can go.
        let _gate = self.gate();
        let found = self.find(text)?;
        let mut lease = self.lease();
        for digest in found.image.blobs().chain(found.image.diff_ids()) {
            lease.add(digest);
        }
        Ok((found, lease))
    }
}

/// Refuses a name by which a build would take an image for what a step of its own made.
pub(crate) fn not_reserved(reference: &ImageRef) -> Result<(), StoreError> {
    if davit_proto::step::is_step(&reference.to_string()) {
        return Err(StoreError::Reserved(reference.clone()));
    }
    Ok(())
}

/// Whether an entry is what a reference names: by its tag, or by its digest in its repository.
fn is_named(entry: &Entry, reference: &ImageRef) -> bool {
    let Some(digest) = reference.digest() else { return entry.reference() == Some(reference) };
    let by_digest = reference.with_digest(digest.clone());
    let same_name = |other: &ImageRef| other.name() == reference.name();
    entry.source() == Some(&by_digest)
        || entry.reference() == Some(&by_digest)
        || (entry.descriptor().digest == *digest
            && entry.reference().or(entry.source()).is_some_and(same_name))
}

/// Puts an entry in, in place of one of the same name. The image that loses its last name goes on without one. Names of
/// steps are beside all this: they neither show an image nor hide it.
fn put(entries: &mut Vec<Entry>, mut entry: Entry) {
    let digest = entry.descriptor().digest.clone();
    let Some(reference) = entry.reference().cloned() else {
        if !entries.iter().any(|other| other.descriptor().digest == digest && !other.is_step()) {
            entries.push(entry);
        }
        return;
    };
    if entry.is_step() {
        entries.retain(|other| other.reference() != Some(&reference));
        entries.push(entry);
        return;
    }
    let old =
        entries.iter().position(|other| other.reference() == Some(&reference)).map(|at| entries.remove(at));
    // A name makes an entry without one needless, and takes over where that one came from.
    let unnamed = |other: &Entry| other.reference().is_none() && other.descriptor().digest == digest;
    let same = old.iter().chain(entries.iter().filter(|other| unnamed(other)));
    if entry.source().is_none() {
        let source =
            same.filter(|other| other.descriptor().digest == digest).find_map(Entry::source).cloned();
        entry = Entry::new(entry.descriptor(), entry.reference().cloned(), source);
    }
    entries.retain(|other| !unnamed(other));
    entries.push(entry);
    if let Some(old) = old
        && !entries
            .iter()
            .any(|other| other.descriptor().digest == old.descriptor().digest && !other.is_step())
    {
        entries.push(old.unnamed());
    }
}

#[cfg(test)]
mod tests;
