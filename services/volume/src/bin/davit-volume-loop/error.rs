//! What can go wrong with a volume in a file, and how it is told over the wire.

use std::io;
use std::path::{Path, PathBuf};

use davit_proto::id::InvalidId;
use davit_proto::status::{Classify, ErrorKind};

/// A failure of the driver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that can be none.
    #[error(transparent)]
    Name(#[from] InvalidId),
    /// A field of a request that can never be right.
    #[error("invalid {field} {value:?}: {rule}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What it held.
        value: String,
        /// What it would have to be.
        rule: String,
    },
    /// There is no such volume.
    #[error("volume {0:?} does not exist")]
    NotFound(String),
    /// A volume of that name was made otherwise.
    #[error("volume {name:?} exists with size={size} and fs={kind}")]
    Exists {
        /// Its name.
        name: String,
        /// Its bytes.
        size: u64,
        /// Its file system.
        kind: String,
    },
    /// Somebody holds it.
    #[error("volume {0:?} is held by {1}")]
    Held(String, String),
    /// The program that makes file systems failed.
    #[error("{program}: {why}")]
    Make {
        /// Its name.
        program: String,
        /// What it said.
        why: String,
    },
    /// Another process serves the folder.
    #[error("{} is served by another process", .0.display())]
    Locked(PathBuf),
    /// A record that is none.
    #[error("read {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A call ended without an answer.
    #[error("a call ended without an answer; this is a fault of the driver")]
    Lost,
}

impl Error {
    /// Adds to an I/O error what was tried on what.
    pub fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Name(_) | Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Held(..) | Self::Locked(_) => ErrorKind::FailedPrecondition,
            Self::Record { .. } => ErrorKind::DataLoss,
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            Self::Make { .. } | Self::File { .. } | Self::Lost => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Name(_) | Self::Invalid { .. } => "INVALID_FIELD",
            Self::NotFound(_) => "VOLUME_NOT_FOUND",
            Self::Exists { .. } => "VOLUME_EXISTS",
            Self::Held(..) => "VOLUME_IN_USE",
            Self::Locked(_) => "ROOT_IN_USE",
            Self::Record { .. } => "VOLUME_RECORD_BROKEN",
            Self::Make { .. } => "MKFS_FAILED",
            Self::File { .. } => "VOLUME_IO",
            Self::Lost => "INTERNAL",
        }
    }
}
