//! What can go wrong in a build.

use std::io;

use davit_proto::reason;
use davit_proto::status::{Classify, ErrorKind, RemoteError};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client broke the order of frames, or said what cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The Dockerfile is wrong.
    #[error("{name}: {source}")]
    Dockerfile {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: davit_dockerfile::Error,
    },
    /// A step failed.
    #[error("{name}:{line}: {text}: {source}")]
    Step {
        /// The Dockerfile's name.
        name: String,
        /// The line of the instruction.
        line: usize,
        /// The number of the step; 0 when none had begun.
        step: u32,
        /// The instruction, shortened.
        text: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A command ended with something else than 0.
    #[error("process {command:?} did not complete successfully: {how}")]
    Command {
        /// What ran.
        command: String,
        /// "exit code: 1", "killed by signal 9".
        how: String,
    },
    /// A source of COPY or ADD is not there.
    #[error("{0:?}: not found")]
    NotFound(String),
    /// A source of COPY or ADD is not in the context, as far as that was sent.
    #[error("{0:?}: not found in the context")]
    NotInContext(String),
    /// Something that this version does not do.
    #[error("{0} is not done by this version of davit")]
    Unserved(&'static str),
    /// Something could not be fetched.
    #[error("fetch {address}: {why}")]
    Fetch {
        /// Where it should be, without any credentials.
        address: String,
        /// Why not.
        why: String,
    },
    /// What was fetched is something else than the Dockerfile says.
    #[error("{address} is not what --checksum says: wanted {wanted}, found {found}")]
    Checksum {
        /// Where it was fetched from.
        address: String,
        /// What the Dockerfile says.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// The engine refused, or cannot be reached.
    #[error(transparent)]
    Engine(#[from] RemoteError),
    /// The file system refuses.
    #[error("{doing}")]
    Io {
        /// What was tried, on what.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// Another build service has the folder.
    #[error("another build service uses {}", .0.display())]
    Locked(std::path::PathBuf),
    /// A part of the build ended without an answer.
    #[error("a part of the build ended early")]
    Lost,
    /// The client is gone.
    #[error("the build was cancelled")]
    Cancelled,
}

impl Error {
    /// Whether the engine does not answer at all.
    pub(crate) fn is_absence(&self) -> bool {
        // Whatever it answers has a reason; what the transport says of a broken connection has none.
        matches!(self, Self::Engine(error) if error.kind == ErrorKind::Unavailable || error.reason.is_empty())
    }

    /// For `map_err` of file operations.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// The same of files that the client chose: it knows those that it did not send.
    pub(crate) fn of_context(self) -> Self {
        match self {
            Self::NotFound(path) => Self::NotInContext(path),
            other => other,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) | Self::Dockerfile { .. } => ErrorKind::InvalidArgument,
            Self::Step { source, .. } => source.kind(),
            Self::Command { .. } | Self::Checksum { .. } => ErrorKind::FailedPrecondition,
            Self::Fetch { .. } => ErrorKind::Unavailable,
            Self::NotFound(_) | Self::NotInContext(_) => ErrorKind::NotFound,
            Self::Unserved(_) => ErrorKind::Unimplemented,
            Self::Engine(error) => error.kind,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            Self::Io { .. } | Self::Locked(_) | Self::Lost => ErrorKind::Internal,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Invalid(_) | Self::Dockerfile { .. } => "INVALID_BUILD",
            Self::Step { source, .. } => source.reason(),
            Self::Command { .. } => "COMMAND_FAILED",
            Self::NotFound(_) | Self::NotInContext(_) => "SOURCE_NOT_FOUND",
            Self::Fetch { .. } => "FETCH_FAILED",
            Self::Checksum { .. } => "WRONG_CHECKSUM",
            Self::Unserved(_) => reason::NOT_IMPLEMENTED,
            Self::Engine(error) => &error.reason,
            Self::Io { .. } | Self::Locked(_) | Self::Lost => "BUILD_FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Step { line, step, source, .. } => {
                let mut values = vec![("line", line.to_string()), ("step", step.to_string())];
                values.push(("cause", source.to_string()));
                values.extend(source.values());
                values
            }
            Self::NotInContext(path) => vec![("path", path.clone())],
            Self::Dockerfile { source, .. } => {
                vec![("line", source.at.line.to_string()), ("column", source.at.column.to_string())]
            }
            _ => Vec::new(),
        }
    }
}
