//! Layers: a compressed tar stream becomes a directory that an overlay can use as a lower one.
//!
//! ```text
//! source ─▶ inflate ─┬─▶ hash      (diff id)
//!           thread   └─▶ apply     (this thread: headers, names, files)
//! ```
//!
//! Nothing a layer says is trusted: names are judged in [`path`], the stream is read strictly by [`tar`], every path is
//! resolved inside the layer's root in [`apply`](apply()), and [`Limits`] bound what it may cost.

mod apply;
mod limit;
mod path;
mod stream;

use std::io;

use davit_archive::tar;
use davit_proto::id::Digest;

pub use apply::apply;
pub use limit::Limits;
pub use path::{LayerPath, PathProblem};
pub use stream::{unpack, unpack_plain};

/// What a layer turned out to hold.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of its regular files, each counted once.
    pub bytes: u64,
    /// The layer hides everything below it.
    pub opaque: bool,
    /// Directories that the archive has no entry for, each after its parent.
    pub implied: Vec<LayerPath>,
}

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// One entry is to blame.
    #[error("unpack entry \"{entry}\"")]
    Entry {
        /// Its name, escaped and cut.
        entry: String,
        /// What is wrong.
        #[source]
        problem: Problem,
    },
    /// The archive as a whole is to blame, or its source.
    #[error("unpack layer")]
    Layer(#[source] Problem),
    /// The layer is not the one that the configuration names.
    #[error("layer has diff id {actual}, wanted {expected}")]
    DiffId {
        /// What the image's configuration says.
        expected: Digest,
        /// What the bytes are.
        actual: Digest,
    },
}

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The archive is malformed or ambiguous.
    #[error(transparent)]
    Archive(#[from] tar::Problem),
    /// The entry's name is refused.
    #[error(transparent)]
    Path(#[from] PathProblem),
    /// The target of a link is refused.
    #[error("link target: {0}")]
    Target(#[source] PathProblem),
    /// A limit was reached.
    #[error("limit reached: {0} is more than {1}")]
    Limit(&'static str, u64),
    /// The compressed stream is broken.
    #[error("decompress")]
    Decompress(#[source] io::Error),
    /// The compression is not known.
    #[error("unsupported compression {0}")]
    Compression(&'static str),
    /// The source of the bytes failed.
    #[error("read the layer")]
    Source(#[source] io::Error),
    /// The file system refused.
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
}

impl UnpackError {
    fn new(entry: &[u8], problem: Problem) -> Self {
        if entry.is_empty() {
            return Self::Layer(problem);
        }
        let shown = String::from_utf8_lossy(entry.get(..200).unwrap_or(entry));
        Self::Entry { entry: shown.escape_debug().collect(), problem }
    }

    /// Whether the layer itself is at fault: the same bytes will never unpack.
    #[must_use]
    pub fn is_content(&self) -> bool {
        let problem = match self {
            Self::DiffId { .. } => return true,
            Self::Entry { problem, .. } | Self::Layer(problem) => problem,
        };
        match problem {
            Problem::Archive(tar::Problem::Read(_)) | Problem::Source(_) | Problem::Io(..) => false,
            Problem::Archive(_)
            | Problem::Path(_)
            | Problem::Target(_)
            | Problem::Limit(..)
            | Problem::Decompress(_)
            | Problem::Compression(_) => true,
        }
    }

    /// The file system's error, if it was that.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Entry { problem: Problem::Io(_, error), .. } | Self::Layer(Problem::Io(_, error)) => {
                Some(error)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
