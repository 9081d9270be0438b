//! Whom the engine believes at the other end of TLS: the system's authorities, those that lie in a folder for one host, and
//! what it shows of itself. Registries and files on web servers are reached by the same rules.

#![forbid(unsafe_code)]

mod certificate;
pub mod tls;

pub use certificate::Own;

/// Folders with certificates of single hosts, where nobody says others: authorities in `<host[:port]>/*.crt`, and what we
/// show of ourselves in `*.cert` and `*.key` of the same name.
pub const FOLDERS: [&str; 2] = ["/etc/davit/certs.d", "/etc/docker/certs.d"];

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Untrusted(String);

impl From<rustls::Error> for Untrusted {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustls::server::VerifierBuilderError> for Untrusted {
    fn from(error: rustls::server::VerifierBuilderError) -> Self {
        Self(error.to_string())
    }
}
