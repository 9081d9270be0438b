//! How the way to a running init fails: as data, so that the user sees `exec: "foo": not found` and not "init died".

use std::io;

use davit_sys::process::Exit;
use serde::{Deserialize, Serialize};

/// The classes of failure that the caller treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The command does not exist in the container: exit code 127.
    NotFound,
    /// The command exists and cannot be executed: exit code 126.
    NotExecutable,
    /// The spec or the request asks for something that makes no sense.
    Invalid,
    /// The image or the request asks for something that is refused for safety.
    Refused,
    /// The kernel said no.
    Kernel,
}

impl FailureKind {
    /// The exit code of a process that could not execute: 127 not found, 126 not executable, 125 the engine's own.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            Self::Invalid | Self::Refused | Self::Kernel => 125,
        }
    }
}

/// One failed step, in the words that the user sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The class.
    pub kind: FailureKind,
    /// Operation, object and reason: a lower-case fragment.
    pub message: String,
}

impl Failure {
    /// A failure of a class.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A request that makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Invalid, message)
    }

    /// Something that is not done for safety's sake.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, message)
    }

    /// A system call that failed while doing `what`.
    pub fn kernel(what: impl std::fmt::Display, source: &io::Error) -> Self {
        Self::new(FailureKind::Kernel, format!("{what}: {}", reason(source)))
    }
}

/// An operating system error without Rust's "(os error 2)", in the lower case that error texts have here.
pub fn reason(source: &io::Error) -> String {
    let text = source.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

/// Names the step in which a system call failed.
pub trait Step<T> {
    /// Turns an I/O error into a [`Failure`] that says what was being done.
    fn step(self, what: impl std::fmt::Display) -> Result<T, Failure>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, what: impl std::fmt::Display) -> Result<T, Failure> {
        self.map_err(|e| Failure::kernel(what, &e))
    }
}

/// Why a call on [`super::Init`] failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A step failed, here or in the init process.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The init process ended instead of answering.
    #[error("init ended before it {before}: {exit}")]
    Ended {
        /// What it should have done.
        before: &'static str,
        /// How it ended.
        exit: Exit,
    },
    /// The init process gave no answer in time.
    #[error("init did not answer within {seconds} s")]
    Timeout {
        /// How long we waited.
        seconds: u64,
    },
    /// The socket to the init process failed or carried nonsense.
    #[error("talk to init: {0}")]
    Channel(#[source] io::Error),
}

impl InitError {
    /// The exit code that a command line reports for it: 127 not found, 126 not executable, 125 the engine's own.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failure(failure) => failure.kind.exit_code(),
            Self::Ended { .. } | Self::Timeout { .. } | Self::Channel(_) => 125,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_like_the_rest() {
        assert_eq!(reason(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(reason(&io::Error::other("Some thing")), "some thing");
    }

    #[test]
    fn exit_codes() {
        let code = |kind| InitError::Failure(Failure::new(kind, "x")).exit_code();
        assert_eq!(code(FailureKind::NotFound), 127);
        assert_eq!(code(FailureKind::NotExecutable), 126);
        assert_eq!(code(FailureKind::Kernel), 125);
    }
}
