//! Why an archive is refused or cannot be written.

use std::io;

use davit_proto::id::Digest;

use crate::content::ContentError;
use crate::document::DocumentError;
use crate::image::ImageError;
use crate::reference::ReferenceError;
use davit_archive::tar;

/// Why an archive is refused or cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream that the archive comes from failed.
    #[error("read the archive")]
    Source(#[source] io::Error),
    /// The compressed stream is broken.
    #[error("decompress the archive")]
    Decompress(#[source] io::Error),
    /// The compression is not known.
    #[error("archive is compressed with {0}, only gzip and zstd are supported")]
    Compression(&'static str),
    /// The tar archive is malformed or can be read in two ways.
    #[error("archive entry \"{entry}\"")]
    Tar {
        /// The entry at fault, escaped.
        entry: String,
        /// What is wrong.
        #[source]
        problem: tar::Problem,
    },
    /// An entry is refused.
    #[error("archive entry \"{entry}\" {problem}")]
    Entry {
        /// Its name, escaped.
        entry: String,
        /// What is wrong.
        problem: EntryProblem,
    },
    /// A limit was reached.
    #[error("archive limit reached: {0} is more than {1}")]
    Limit(&'static str, u64),
    /// It is a tar archive of something else.
    #[error("neither a docker nor an OCI archive: it has no manifest.json and no index.json with oci-layout")]
    Unknown,
    /// A document in the archive is malformed.
    #[error("archive entry \"{entry}\"")]
    Document {
        /// Its name.
        entry: String,
        /// What is wrong.
        #[source]
        source: DocumentError,
    },
    /// A name in the archive is no reference.
    #[error("archive names an image {name:?}")]
    Reference {
        /// The name.
        name: String,
        /// What is wrong.
        #[source]
        source: ReferenceError,
    },
    /// Bytes are not those of their digest.
    #[error("archive entry \"{entry}\" is corrupt: its digest is {actual}, wanted {expected}")]
    Corrupt {
        /// The entry.
        entry: String,
        /// What the archive says.
        expected: Digest,
        /// What its bytes are.
        actual: Digest,
    },
    /// It is not for the platform wanted, or its parts do not fit together.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// `manifest.json` and `index.json` do not agree.
    #[error("archive's manifest.json and index.json name different images")]
    Ambiguous,
    /// The archive holds no image.
    #[error("archive holds no image")]
    Empty,
    /// The temporary file failed.
    #[error("spool the archive")]
    Spool(#[source] io::Error),
    /// The content store failed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Whoever takes the archive failed.
    #[error("write the archive")]
    Write(#[source] io::Error),
    /// A stored document that is to be saved is malformed.
    #[error("read {digest} to save it")]
    Stored {
        /// Which one.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: DocumentError,
    },
}

/// What is wrong with one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// It points outside.
    #[error("has a name that leads out of the archive")]
    Escapes,
    /// The name is no text.
    #[error("has a name that is not UTF-8 or too long")]
    Name,
    /// It is there twice.
    #[error("is in the archive twice")]
    Twice,
    /// It is a device, a pipe.
    #[error("is neither a file, a directory nor a link")]
    Kind,
    /// A document that is a link.
    #[error("is a link and must be a file")]
    Link,
    /// A link to nothing, or round and round.
    #[error("is a link that leads nowhere")]
    Dangling,
    /// It is named and not there.
    #[error("is missing")]
    Missing,
    /// It is larger than documents may be.
    #[error("is larger than 8 MiB")]
    Large,
}

impl ArchiveError {
    pub(super) fn entry(name: &str, problem: EntryProblem) -> Self {
        Self::Entry { entry: shown(name), problem }
    }

    /// Whether the archive itself is at fault: the same bytes will never load.
    #[must_use]
    pub fn is_content(&self) -> bool {
        match self {
            Self::Source(_) | Self::Spool(_) | Self::Write(_) | Self::Stored { .. } => false,
            Self::Tar { problem, .. } => !matches!(problem, tar::Problem::Read(_)),
            Self::Content(error) => {
                matches!(error, ContentError::WrongDigest { .. } | ContentError::WrongSize { .. })
            }
            _ => true,
        }
    }
}

/// A foreign name for an error: escaped, at most 200 characters.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(200).collect::<String>().escape_debug().to_string()
}
