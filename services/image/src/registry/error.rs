//! What can go wrong between us and a registry: which registry, which repository, what was asked for, what happened.

use std::error::Error as StdError;
use std::time::Duration;

use davit_proto::status::{Classify, ErrorKind};

/// Bytes of a registry's own words that are repeated in an error.
const MESSAGE_MAX: usize = 200;

/// A request to a registry that failed for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("registry {registry}: {subject}{}: {failure}", of(repository))]
pub struct RegistryError {
    /// The host that was asked last.
    pub registry: Box<str>,
    /// The repository within it; empty when it was the registry itself.
    pub repository: Box<str>,
    /// What was asked for: `manifest 1.36`, `blob sha256:…`.
    pub subject: Box<str>,
    /// What happened.
    pub failure: Failure,
}

fn of(repository: &str) -> String {
    if repository.is_empty() { String::new() } else { format!(" of {repository}") }
}

impl Classify for RegistryError {
    fn kind(&self) -> ErrorKind {
        match &self.failure {
            Failure::NotFound(_) => ErrorKind::NotFound,
            Failure::Unauthorized(_) | Failure::Credentials(_) => ErrorKind::Unauthenticated,
            Failure::Denied(_) => ErrorKind::PermissionDenied,
            Failure::RateLimited { .. } => ErrorKind::ResourceExhausted,
            Failure::TimedOut(_) => ErrorKind::DeadlineExceeded,
            Failure::Corrupt { .. } | Failure::WrongSize { .. } => ErrorKind::DataLoss,
            Failure::TooLarge { .. } | Failure::Protocol(_) => ErrorKind::FailedPrecondition,
            Failure::Unreachable(_)
            | Failure::Tls(_)
            | Failure::Server { .. }
            | Failure::Truncated { .. } => ErrorKind::Unavailable,
        }
    }

    fn reason(&self) -> &str {
        match &self.failure {
            Failure::NotFound(_) => "REGISTRY_NOT_FOUND",
            Failure::Unauthorized(_) => "REGISTRY_UNAUTHORIZED",
            Failure::Credentials(_) => "REGISTRY_CREDENTIALS",
            Failure::Denied(_) => "REGISTRY_DENIED",
            Failure::RateLimited { .. } => "REGISTRY_RATE_LIMITED",
            Failure::Unreachable(_) => "REGISTRY_UNREACHABLE",
            Failure::TimedOut(_) => "REGISTRY_TIMED_OUT",
            Failure::Tls(_) => "REGISTRY_TLS",
            Failure::Server { .. } => "REGISTRY_FAILED",
            Failure::Protocol(_) => "REGISTRY_PROTOCOL",
            Failure::Corrupt { .. } | Failure::WrongSize { .. } => "REGISTRY_CORRUPT",
            Failure::Truncated { .. } => "REGISTRY_TRUNCATED",
            Failure::TooLarge { .. } => "REGISTRY_TOO_LARGE",
        }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        vec![("registry", self.registry.to_string()), ("repository", self.repository.to_string())]
    }
}

/// What happened to one request. Words of the registry are escaped and cut short.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The registry does not have it.
    #[error("not found{0}")]
    NotFound(Message),
    /// The registry wants credentials, or refuses the ones it got.
    #[error("access refused: it does not exist or needs credentials{0}")]
    Unauthorized(Message),
    /// Name and password are wrong.
    #[error("unauthorized: incorrect user name or password{0}")]
    Credentials(Message),
    /// The registry knows us and forbids it.
    #[error("forbidden{0}")]
    Denied(Message),
    /// Too many requests.
    #[error("too many requests{message}")]
    RateLimited {
        /// When the registry wants to be asked again.
        retry_after: Option<Duration>,
        /// The registry's words.
        message: Message,
    },
    /// No connection, or one that broke.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Nothing came for too long.
    #[error("no progress within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The server's certificate or handshake is not acceptable.
    #[error("TLS: {0}")]
    Tls(String),
    /// The registry says that it is broken.
    #[error("answered {status}{message}")]
    Server {
        /// The HTTP status.
        status: u16,
        /// The registry's words.
        message: Message,
    },
    /// An answer that makes no sense.
    #[error("{0}")]
    Protocol(String),
    /// The bytes are not the ones asked for.
    #[error("content is corrupt: wanted {expected}, got {found}")]
    Corrupt {
        /// The digest asked for.
        expected: String,
        /// The digest of what came.
        found: String,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("content has {found} bytes, its descriptor says {expected}")]
    WrongSize {
        /// Bytes that the descriptor says.
        expected: u64,
        /// Bytes that the registry announces or sent.
        found: u64,
    },
    /// The body ended too early, again and again.
    #[error("body ended after {received} of {expected} bytes")]
    Truncated {
        /// Bytes received.
        received: u64,
        /// Bytes that the descriptor or the header says.
        expected: u64,
    },
    /// A document over its limit.
    #[error("larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

impl Failure {
    /// Whether asking the same host again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Unreachable(_) | Self::TimedOut(_) | Self::Truncated { .. } => {
                true
            }
            Self::Server { status, .. } => {
                *status == 408 || (*status >= 500 && *status != 501 && *status != 505)
            }
            _ => false,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A failure of the HTTP client: certificate errors are told apart, because they must never be retried in clear.
    pub(super) fn from_http(error: reqwest::Error) -> Self {
        let error = error.without_url();
        match find_tls(&error) {
            // A connection that broke midway, not one that cannot be.
            None | Some(rustls::Error::DecryptError | rustls::Error::General(_)) => {}
            Some(tls) => return Self::Tls(tls.to_string()),
        }
        if error.is_timeout() {
            return Self::Unreachable("connection timed out".to_owned());
        }
        if error.is_builder() {
            return Self::Protocol(chain(&error));
        }
        Self::Unreachable(chain(&error))
    }

    /// Whether a failed connection shows that TLS is spoken at the other end: whoever sends certificates or alerts
    /// does, whoever sends something else does not.
    pub(super) fn shows_tls(error: &reqwest::Error) -> bool {
        use rustls::Error::{AlertReceived, InvalidCertificate, NoCertificatesPresented, PeerIncompatible};
        matches!(
            find_tls(error),
            Some(AlertReceived(_) | InvalidCertificate(_) | NoCertificatesPresented | PeerIncompatible(_))
        )
    }

    pub(super) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}

/// The registry's own words, ready to print: empty, or `: words`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message(String);

impl Message {
    /// Escapes and shortens the words of a registry.
    pub(super) fn new(words: &str) -> Self {
        let words = words.trim();
        if words.is_empty() {
            return Self::default();
        }
        Self(format!(": {}", printable(words)))
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Foreign text for an error: control characters escaped, at most [`MESSAGE_MAX`] characters.
pub(super) fn printable(text: &str) -> String {
    let mut short: String = text.chars().take(MESSAGE_MAX).flat_map(escape).collect();
    if text.chars().nth(MESSAGE_MAX).is_some() {
        short.push('…');
    }
    short
}

fn escape(char: char) -> impl Iterator<Item = char> {
    let plain = char == '"' || char == '\'' || char == '\\';
    let escaped = (!plain).then(|| char.escape_debug());
    escaped.into_iter().flatten().chain(plain.then_some(char))
}

/// An error and its sources in one line.
fn chain(error: &dyn StdError) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    printable(&parts.join(": "))
}

/// The certificate error within, if that is what it was. `io::Error` hides what it wraps from `source`.
fn find_tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_registry_cannot_draw_on_the_terminal() {
        let message = Message::new("\x1b]0;gotcha\x07 say \"hi\"\r\n").to_string();
        assert_eq!(message, ": \\u{1b}]0;gotcha\\u{7} say \"hi\"");
        assert_eq!(Message::new(&"x".repeat(5000)).to_string().chars().count(), MESSAGE_MAX + 3);
        assert_eq!(Message::new(" \n").to_string(), "");
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let server = |status| Failure::Server { status, message: Message::default() };
        assert!(server(500).is_transient() && server(503).is_transient() && server(408).is_transient());
        assert!(!server(501).is_transient());
        assert!(!Failure::NotFound(Message::default()).is_transient());
        assert!(!Failure::Tls("expired".into()).is_transient());
        assert!(!Failure::WrongSize { expected: 1, found: 2 }.is_transient());
    }
}
