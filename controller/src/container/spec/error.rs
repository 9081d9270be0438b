//! What can be wrong with a wish for a container, in one sentence each.

use davit_proto::reason;
use davit_proto::status::{Classify, ErrorKind};

/// Why a container cannot be made as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that can never be right.
    #[error("invalid {field} {value:?}: {rule}")]
    Invalid {
        /// Which field of the request.
        field: &'static str,
        /// The value, cut to 200 characters.
        value: String,
        /// What it would have to be.
        rule: String,
    },
    /// Two wishes that exclude each other.
    #[error("{0}")]
    Conflict(String),
    /// Right, and not served by this version.
    #[error("{0} not served by this version of davit")]
    Unserved(String),
    /// The image says something that no container can be made from.
    #[error("the image {0}")]
    Image(String),
    /// This host cannot give what was asked for.
    #[error("{0}")]
    Host(String),
    /// A file of the host could not be read or made.
    #[error("failed to {action} {path:?}")]
    File {
        /// What was tried: "read", "make the folder".
        action: &'static str,
        /// The path on the host.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// An invalid value.
    pub fn invalid(field: &'static str, value: &str, rule: impl Into<String>) -> Self {
        Self::Invalid { field, value: value.chars().take(200).collect(), rule: rule.into() }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::Conflict(_) => ErrorKind::InvalidArgument,
            Self::Unserved(_) => ErrorKind::Unimplemented,
            Self::Image(_) | Self::Host(_) => ErrorKind::FailedPrecondition,
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ErrorKind::InvalidArgument
            }
            Self::File { .. } => ErrorKind::FailedPrecondition,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Invalid { .. } => "INVALID_SPEC",
            Self::Conflict(_) => "CONFLICTING_SPEC",
            Self::Unserved(_) => reason::NOT_IMPLEMENTED,
            Self::Image(_) => "IMAGE_UNUSABLE",
            Self::Host(_) => "HOST_LACKS",
            Self::File { .. } => "HOST_FILE",
        }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Invalid { field, value, .. } => {
                vec![("field", (*field).to_owned()), ("value", value.clone())]
            }
            Self::Conflict(_) | Self::Host(_) | Self::Image(_) => Vec::new(),
            Self::Unserved(what) => vec![("call", what.clone())],
            Self::File { path, .. } => vec![("value", path.display().to_string())],
        }
    }
}
