//! The one table between kinds of errors and gRPC codes, and the two ways over the wire: a domain error
//! leaves as a [`tonic::Status`] with `google.rpc.ErrorInfo`, a peer's failure arrives as a
//! [`RemoteError`].

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Domain of every `ErrorInfo` of ours.
pub const DOMAIN: &str = "davit";

/// What kind of failure an error is, whatever module it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller said something that can never be right.
    InvalidArgument,
    /// The object does not exist.
    NotFound,
    /// The object exists already.
    AlreadyExists,
    /// The object is in a state that forbids the call.
    FailedPrecondition,
    /// Somebody else changed the object meanwhile.
    Aborted,
    /// The caller may not do this.
    PermissionDenied,
    /// The caller (or we, at a registry) did not prove who it is.
    Unauthenticated,
    /// A limit was reached: disk, addresses, memory, connections.
    ResourceExhausted,
    /// A peer cannot be reached now.
    Unavailable,
    /// It took too long.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// A position that no longer or not yet exists.
    OutOfRange,
    /// Not served by this version.
    Unimplemented,
    /// Stored or foreign content is not what it should be.
    DataLoss,
    /// A fault of ours or of the host.
    Internal,
}

/// The table. Both directions are read from it.
const TABLE: [(ErrorKind, Code); 15] = [
    (ErrorKind::InvalidArgument, Code::InvalidArgument),
    (ErrorKind::NotFound, Code::NotFound),
    (ErrorKind::AlreadyExists, Code::AlreadyExists),
    (ErrorKind::FailedPrecondition, Code::FailedPrecondition),
    (ErrorKind::Aborted, Code::Aborted),
    (ErrorKind::PermissionDenied, Code::PermissionDenied),
    (ErrorKind::Unauthenticated, Code::Unauthenticated),
    (ErrorKind::ResourceExhausted, Code::ResourceExhausted),
    (ErrorKind::Unavailable, Code::Unavailable),
    (ErrorKind::DeadlineExceeded, Code::DeadlineExceeded),
    (ErrorKind::Cancelled, Code::Cancelled),
    (ErrorKind::OutOfRange, Code::OutOfRange),
    (ErrorKind::Unimplemented, Code::Unimplemented),
    (ErrorKind::DataLoss, Code::DataLoss),
    (ErrorKind::Internal, Code::Internal),
];

impl ErrorKind {
    /// The gRPC code of this kind.
    #[must_use]
    pub fn code(self) -> Code {
        TABLE.iter().find(|(kind, _)| *kind == self).map_or(Code::Internal, |(_, code)| *code)
    }

    /// The kind of a gRPC code; codes that we never send count as internal.
    #[must_use]
    pub fn of(code: Code) -> Self {
        TABLE.iter().find(|(_, c)| *c == code).map_or(Self::Internal, |(kind, _)| *kind)
    }
}

/// An error that can say over the wire what it is. Implemented by the error enum of each crate; its
/// `Display` is the sentence the user reads.
pub trait Classify: std::error::Error {
    /// Its kind.
    fn kind(&self) -> ErrorKind;
    /// Its stable reason, `UPPER_SNAKE_CASE`.
    fn reason(&self) -> &str;
    /// The offending values by name: `[("name", "web")]`.
    fn values(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// Longest sentence that an error leaves with. It travels as a header, percent-encoded, and once more in
/// the details; with more than 16 KiB of headers a peer gives up on the whole connection.
const SENTENCE: usize = 2048;
/// Longest value that an error leaves with.
const VALUE: usize = 256;

/// An error on its way out. The text is the error and its sources, each once.
pub fn status(error: &impl Classify) -> Status {
    let info: HashMap<String, String> =
        error.values().into_iter().map(|(name, value)| (name.to_owned(), cut(value, VALUE))).collect();
    Status::with_error_details(
        error.kind().code(),
        cut(chain(error), SENTENCE),
        ErrorDetails::with_error_info(error.reason(), DOMAIN, info),
    )
}

/// A text of at most so many bytes, and a word where it was cut.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
    text
}

/// An error and its sources as one sentence.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let next = inner.to_string();
        if !tells(&text, &next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = inner.source();
    }
    text
}

/// Whether a text ends with a reason already, in whichever words: `no space left on device` is `No space left on
/// device (os error 28)`.
fn tells(text: &str, reason: &str) -> bool {
    let bare = reason.split(" (os error").next().unwrap_or(reason);
    text.ends_with(reason) || text.to_lowercase().ends_with(&bare.to_lowercase())
}

/// The answer to a call that this version does not serve.
#[must_use]
pub fn unimplemented(call: &str) -> Status {
    Status::with_error_details(
        Code::Unimplemented,
        format!("{call} is not served by this version of davit"),
        ErrorDetails::with_error_info(
            crate::reason::NOT_IMPLEMENTED,
            DOMAIN,
            HashMap::from([("call".to_owned(), call.to_owned())]),
        ),
    )
}

/// A failure that a peer told of, or the failure to reach it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    /// What kind it is.
    pub kind: ErrorKind,
    /// Its stable reason; empty when the peer gave none.
    pub reason: String,
    /// The peer's sentence.
    pub message: String,
    /// The offending values.
    pub values: Vec<(String, String)>,
}

impl RemoteError {
    /// Whether the peer gave this reason.
    #[must_use]
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }
}

/// What is said of a peer whose connection ended amid a call.
pub const WENT_AWAY: &str = "the process that was asked went away before it had answered";

impl From<Status> for RemoteError {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let (reason, values) = info
            .filter(|info| info.domain == DOMAIN)
            .map(|info| (info.reason, info.metadata.into_iter().collect()))
            .unwrap_or_default();
        let mut message = status.message().to_owned();
        if message.is_empty() {
            message = format!("{:?}", status.code());
        }
        if message == "transport error" {
            // What tonic says when the connection ends amid a call, which tells a person nothing.
            WENT_AWAY.clone_into(&mut message);
        }
        Self { kind: ErrorKind::of(status.code()), reason, message, values }
    }
}

impl Classify for RemoteError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
    fn reason(&self) -> &str {
        if self.reason.is_empty() { "REMOTE_FAILURE" } else { &self.reason }
    }
    fn values(&self) -> Vec<(&'static str, String)> {
        // Names of values are few and known; what a newer peer adds is passed on as one text.
        self.values
            .iter()
            .map(|(name, value)| match name.as_str() {
                "container" => ("container", value.clone()),
                "image" => ("image", value.clone()),
                "name" => ("name", value.clone()),
                "call" => ("call", value.clone()),
                other => ("value", format!("{other}={value}")),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("container {0:?} does not exist")]
    struct Missing(String);
    impl Classify for Missing {
        fn kind(&self) -> ErrorKind {
            ErrorKind::NotFound
        }
        fn reason(&self) -> &str {
            crate::reason::CONTAINER_NOT_FOUND
        }
        fn values(&self) -> Vec<(&'static str, String)> {
            vec![("container", self.0.clone())]
        }
    }

    #[test]
    fn a_reason_is_told_once_in_whichever_words() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Said(&'static str, #[source] std::io::Error);
        let full = || std::io::Error::from_raw_os_error(28);
        for text in ["write x: no space left on device", "write x: No space left on device (os error 28)"] {
            assert_eq!(chain(&Said(text, full())), text);
        }
        assert_eq!(chain(&Said("write x", full())), "write x: No space left on device (os error 28)");
    }

    #[test]
    fn a_peer_that_goes_away_is_told_of_in_words() {
        let got = RemoteError::from(Status::unknown("transport error"));
        assert_eq!(got.message, WENT_AWAY);
    }

    #[test]
    fn an_error_survives_the_wire() {
        let sent = status(&Missing("web".into()));
        assert_eq!(sent.code(), Code::NotFound);
        let got = RemoteError::from(sent);
        assert!(got.is(crate::reason::CONTAINER_NOT_FOUND));
        assert_eq!(got.kind, ErrorKind::NotFound);
        assert_eq!(got.message, "container \"web\" does not exist");
        assert_eq!(got.values, [("container".to_owned(), "web".to_owned())]);
        assert_eq!(RemoteError::from(status(&got)), got, "and a second hop");
    }

    #[test]
    fn what_a_caller_sent_too_long_does_not_come_back_whole() {
        let long = Missing("é\u{1b}".repeat(100_000));
        let sent = status(&long);
        assert_eq!(sent.code(), Code::NotFound);
        let headers: usize = sent.message().len() * 3 + sent.details().len() * 4 / 3;
        assert!(headers < 12 << 10, "{headers}");
        assert!(RemoteError::from(sent).is(crate::reason::CONTAINER_NOT_FOUND));
        assert_eq!(cut("aé".to_owned(), 2), "a…");
        assert_eq!(cut("aé".to_owned(), 3), "aé");
    }

    #[test]
    fn the_table_is_a_bijection() {
        for (kind, code) in TABLE {
            assert_eq!(kind.code(), code);
            assert_eq!(ErrorKind::of(code), kind);
        }
    }
}
