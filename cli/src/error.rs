//! What can go wrong in the command line itself, or came back from the engine.

use std::io;

use davit_proto::status::{RemoteError, WENT_AWAY};

use crate::spec::Invalid;
use crate::stream::frame::is_connection;

/// A failure of one command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine said no, or nothing any more.
    #[error("{}", said(.0))]
    Remote(#[from] RemoteError),
    /// No engine answers.
    #[error("{0}")]
    Unreachable(#[from] crate::client::Unreachable),
    /// What was typed makes no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Flags that exclude each other, or arguments that do not fit together.
    #[error("{0}")]
    Usage(String),
    /// What was typed is gone.
    #[error(transparent)]
    Lost(#[from] crate::stream::Lost),
    /// A template of `--format` is wrong.
    #[error(transparent)]
    Format(#[from] crate::format::Malformed),
    /// A file or a terminal of this side.
    #[error("{what}: {source}")]
    Io {
        /// Operation and object: `read ./env`.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody reads standard output any more: not worth a word.
    #[error("standard output is closed")]
    Pipe,
    /// Everything was said already.
    #[error("failed")]
    Reported,
}

impl Error {
    /// A failure of a file or a terminal of this side.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// A failed write to standard output; quiet when its reader has gone.
    pub fn output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            Self::Pipe
        } else {
            Self::io("write to standard output", source)
        }
    }

    /// Whether the engine gave this reason.
    pub fn is(&self, reason: &str) -> bool {
        matches!(self, Self::Remote(error) if error.is(reason))
    }
}

/// The engine's sentence; the transport's words for a lost connection say nothing to a person.
fn said(error: &RemoteError) -> String {
    if is_connection(error) && error.message == WENT_AWAY {
        "the engine went away before it had answered".to_owned()
    } else if is_connection(error) {
        format!("the engine went away before it had answered ({})", error.message)
    } else {
        error.message.clone()
    }
}
