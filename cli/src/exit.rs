//! The one table between what happened and the number the shell sees.
//!
//! | number | when |
//! |---|---|
//! | the container's own | `run`, `start --attach`, `attach`, `exec` saw it end |
//! | 125 | `run`, `exists`: the engine could not; everywhere: a flag that does not exist or does not parse |
//! | 126 | `run`, `exec`, `start --attach`: the command cannot be executed |
//! | 127 | `run`, `exec`, `start --attach`: there is no such command in the container |
//! | 128 + n | left because of signal n |
//! | 1 | everything else |

use davit_proto::reason;
use davit_proto::types::Exit;

use crate::error::Error;

/// Success.
pub const SUCCESS: u8 = 0;
/// An ordinary failure.
pub const FAILURE: u8 = 1;
/// The engine could not, before anything of the container ran.
pub const ENGINE: u8 = 125;
/// The command is there and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The command is not there.
const NOT_FOUND: u8 = 127;
/// Added to the number of a signal.
const SIGNAL: u8 = 128;
/// Number of SIGPIPE.
const SIGPIPE: u8 = 13;

/// What kind of command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `run`: every number below 125 is the container's.
    Run,
    /// `start --attach` and `exec`: the process's number when it ran, docker's 1 otherwise.
    Start,
    /// Commands whose own flags become a container's: `create`.
    Create,
    /// `exists`: 1 is the answer no.
    Question,
    /// All others.
    Ordinary,
}

/// The number for a failure.
pub fn of(error: &Error, place: Place) -> u8 {
    match error {
        Error::Pipe => SIGNAL + SIGPIPE,
        Error::Reported => FAILURE,
        Error::Remote(remote) if matches!(place, Place::Run | Place::Start) => {
            if remote.is(reason::COMMAND_NOT_FOUND) {
                NOT_FOUND
            } else if remote.is(reason::COMMAND_NOT_EXECUTABLE) {
                NOT_EXECUTABLE
            } else if place == Place::Run {
                ENGINE
            } else {
                FAILURE
            }
        }
        Error::Invalid(_) | Error::Usage(_) if place != Place::Ordinary => ENGINE,
        Error::Format(_)
        | Error::Invalid(_)
        | Error::Lost(_)
        | Error::Io { .. }
        | Error::Remote(_)
        | Error::Unreachable(_)
        | Error::Usage(_) => {
            if matches!(place, Place::Run | Place::Question) {
                ENGINE
            } else {
                FAILURE
            }
        }
    }
}

/// The number of a container that ended.
pub fn of_container(exit: &Exit) -> u8 {
    u8::try_from(exit.exit_code).unwrap_or(u8::MAX)
}

/// The number of a client that left because of a signal.
pub fn of_signal(signal: u32) -> u8 {
    u8::try_from(signal).ok().and_then(|n| n.checked_add(SIGNAL)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::status::{ErrorKind, RemoteError};

    fn remote(reason: &str) -> Error {
        Error::Remote(RemoteError {
            kind: ErrorKind::Internal,
            reason: reason.into(),
            message: "x".into(),
            values: Vec::new(),
        })
    }

    #[test]
    fn numbers_are_dockers() {
        for (error, place, wanted) in [
            (remote(reason::COMMAND_NOT_FOUND), Place::Run, 127),
            (remote(reason::COMMAND_NOT_EXECUTABLE), Place::Run, 126),
            (remote(reason::COMMAND_NOT_EXECUTABLE), Place::Start, 126),
            (remote(reason::IMAGE_NOT_FOUND), Place::Run, 125),
            (remote(reason::IMAGE_NOT_FOUND), Place::Create, 1),
            (remote(reason::CONTAINER_NOT_FOUND), Place::Start, 1),
            (remote(reason::CONTAINER_NOT_FOUND), Place::Ordinary, 1),
            (remote(""), Place::Question, 125),
            (Error::Usage(String::new()), Place::Create, 125),
            (Error::Usage(String::new()), Place::Ordinary, 1),
            (Error::Pipe, Place::Ordinary, 141),
            (Error::Reported, Place::Run, 1),
        ] {
            assert_eq!(of(&error, place), wanted, "{error:?} {place:?}");
        }
        assert_eq!(of_signal(2), 130);
        assert_eq!(of_container(&Exit { exit_code: 3, ..Exit::default() }), 3);
    }
}
