//! What can go wrong with volumes, and how it is told over the wire.

use std::io;
use std::path::{Path, PathBuf};

use davit_proto::id::InvalidId;
use davit_proto::reason;
use davit_proto::status::{Classify, ErrorKind};

/// A failure of the volume service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name or id that can be none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A field that can never be right.
    #[error("invalid {field} {value:?}: {rule}")]
    Invalid {
        /// Which field of the request.
        field: &'static str,
        /// What it held.
        value: String,
        /// What it would have to be.
        rule: &'static str,
    },
    /// Right, and not served yet.
    #[error("{what} {value:?} is not served by this version of davit")]
    Unserved {
        /// What was asked for.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// No volume has this name.
    #[error("volume {0:?} does not exist")]
    NotFound(String),
    /// Containers use the volume.
    #[error("volume {name:?} is in use by {}", holders.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// Ids of the containers.
        holders: Vec<String>,
    },
    /// Another process serves the same folder.
    #[error("{} is served by another process", .0.display())]
    Locked(PathBuf),
    /// A record on disk that is none.
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
        /// What was tried: "create", "read".
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel gave no random numbers for a name.
    #[error("choose a name: {0}")]
    Random(String),
    /// A call of ours ended without an answer.
    #[error("a call ended without an answer; this is a fault of davit")]
    Lost,
}

impl Error {
    /// Adds to an I/O error what was tried on what.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Id(_) | Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Unserved { .. } => ErrorKind::Unimplemented,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::InUse { .. } | Self::Locked(_) => ErrorKind::FailedPrecondition,
            Self::Record { .. } => ErrorKind::DataLoss,
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
                _ => ErrorKind::Internal,
            },
            Self::Random(_) | Self::Lost => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Id(_) => "INVALID_NAME",
            Self::Invalid { .. } => "INVALID_FIELD",
            Self::Unserved { .. } => reason::NOT_IMPLEMENTED,
            Self::NotFound(_) => reason::VOLUME_NOT_FOUND,
            Self::InUse { .. } => reason::VOLUME_IN_USE,
            Self::Locked(_) => "ROOT_IN_USE",
            Self::Record { .. } => "VOLUME_RECORD_BROKEN",
            Self::File { .. } => "VOLUME_IO",
            Self::Random(_) | Self::Lost => "INTERNAL",
        }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Id(invalid) => vec![("name", invalid.value.clone())],
            Self::Invalid { field, value, .. } => vec![("field", (*field).into()), ("value", value.clone())],
            Self::Unserved { value, .. } => vec![("value", value.clone())],
            Self::NotFound(name) => vec![("name", name.clone())],
            Self::InUse { name, holders } => {
                vec![("name", name.clone()), ("containers", holders.join(","))]
            }
            Self::Locked(path) | Self::Record { path, .. } | Self::File { path, .. } => {
                vec![("path", path.display().to_string())]
            }
            Self::Random(_) | Self::Lost => Vec::new(),
        }
    }
}
