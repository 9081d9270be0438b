//! Snapshots: unpacked layers, shared by every image that has them, and the mounts that show them.
//!
//! Nothing outside of this folder knows how a layer lies on the disk. A layer is named by its diff id, verified while
//! it was unpacked, and appears whole by one rename.

mod directory;
mod parents;
mod sweeper;

#[cfg(test)]
pub(crate) mod conformance;

use std::fmt::Debug;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use davit_proto::id::Digest;
use davit_sys::file::Usage;

pub use directory::Directory;
pub use sweeper::Removal;

use crate::unpack::{Limits, UnpackError};

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its diff id.
    pub diff_id: Digest,
    /// Bytes of its files.
    pub bytes: u64,
}

/// A mount as data; who mounts it is told by nobody here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Kind of file system.
    pub kind: &'static str,
    /// Source, in mount(8)'s sense.
    pub source: String,
    /// Options, in mount(8)'s words.
    pub options: Vec<String>,
}

/// Why a snapshot cannot be made or shown.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The layer cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The layer is not here.
    #[error("layer {0} is not unpacked")]
    Missing(Digest),
    /// The file system refused.
    #[error("{action} {subject}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        subject: String,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

impl SnapshotError {
    fn io(action: &'static str, subject: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let subject = subject.to_string();
        move |source| Self::Io { action, subject, source }
    }
}

/// Keeps unpacked layers.
pub trait Snapshotter: Debug + Send + Sync {
    /// A layer that is here, whole.
    fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>, SnapshotError>;

    /// Unpacks a layer from its compressed stream, which is read to its end. The layer is whole and durable when this
    /// returns; when it fails, nothing of it is to be seen. One that is here already is made anew and let go.
    fn unpack(
        &self,
        diff_id: &Digest,
        source: &mut (dyn BufRead + Send),
        limits: &Limits,
    ) -> Result<Layer, SnapshotError>;

    /// As [`Snapshotter::unpack`], for a stream that is not compressed and whose diff id only its bytes tell. `keep` is
    /// told it before the layer is to be seen, and whether the layer is kept is its answer.
    fn unpack_new(
        &self,
        source: &mut (dyn BufRead + Send),
        limits: &Limits,
        keep: &mut dyn FnMut(&Digest) -> bool,
    ) -> Result<Digest, SnapshotError>;

    /// What a layer takes on the disk. Found out once, by a walk that ends at the given moment; of a layer that is not
    /// here nothing.
    fn disk(&self, diff_id: &Digest, until: Instant) -> Result<Usage, SnapshotError>;

    /// The mount that shows layers, the lowest first, as one read-only tree.
    fn mount(&self, diff_ids: &[Digest]) -> Result<Mount, SnapshotError>;

    /// The folders of layers, the lowest first; those that another one hides whole are there too.
    fn paths(&self, diff_ids: &[Digest]) -> Vec<PathBuf>;

    /// Removes a layer; its space comes back when what this answers is over. One that is not here is no error.
    fn remove(&self, diff_id: &Digest) -> Result<Removal, SnapshotError>;

    /// All layers, with the time each became whole.
    fn list(&self) -> Result<Vec<(Digest, SystemTime)>, SnapshotError>;
}
