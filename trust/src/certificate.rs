//! Certificates of single registries, in docker's folders: `<folder>/<host[:port]>/`.
//!
//! ```text
//! *.crt             authorities that vouch for this registry, beside the system's, or its own certificate
//! NAME.cert  NAME.key   what we show of ourselves when it asks
//! ```

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::Untrusted;

/// Files of one registry that are looked at.
const FILES: usize = 256;

/// The folders of one registry, as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    files: Vec<PathBuf>,
    /// Tells one state of the files from another.
    pub version: u64,
}

/// What we show of ourselves.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Own {
    /// What there is for a host; `None` when there is nothing.
    pub fn of(folders: &[PathBuf], host: &str) -> Option<Self> {
        // A host comes from a URL, so it has no slash and is no `..`; an address in brackets is a name like any other.
        let mut files = Vec::new();
        let mut hasher = DefaultHasher::new();
        for folder in folders {
            let Ok(entries) = std::fs::read_dir(folder.join(host)) else { continue };
            for entry in entries.flatten().take(FILES) {
                let path = entry.path();
                if let Ok(meta) = std::fs::metadata(&path) {
                    (&path, meta.len(), meta.modified().ok()).hash(&mut hasher);
                    files.push(path);
                }
            }
        }
        files.sort();
        (!files.is_empty()).then(|| Self { files, version: hasher.finish() })
    }

    /// The authorities. What cannot be read is said, and the handshake then fails where it mattered.
    pub fn authorities(&self) -> Vec<CertificateDer<'static>> {
        let mut found = Vec::new();
        for path in self.with("crt") {
            match read(path) {
                Ok(certificates) => found.extend(certificates),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "reading a registry's certificate authority");
                }
            }
        }
        found
    }

    /// What we show of ourselves: the first pair there is. A half of one is an error, as a mistake that nobody would
    /// find otherwise.
    pub fn identity(&self) -> Result<Option<Identity>, Untrusted> {
        let wrong = |path: &Path, what: &str| {
            Untrusted(format!("{}: {what}", path.display().to_string().escape_debug()))
        };
        for key in self.with("key") {
            if !self.files.contains(&key.with_extension("cert")) {
                return Err(wrong(key, "a key without its certificate, which must end with .cert"));
            }
        }
        let Some(path) = self.with("cert").next() else { return Ok(None) };
        let key = path.with_extension("key");
        if !self.files.contains(&key) {
            return Err(wrong(
                path,
                "a client's certificate without its .key; authorities must end with .crt",
            ));
        }
        let chain = read(path).map_err(|error| wrong(path, &error.to_string()))?;
        let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| wrong(&key, &error.to_string()))?;
        Ok(Some((chain, key)))
    }

    fn with(&self, extension: &'static str) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().filter(move |path| path.extension().is_some_and(|own| own == extension))
    }
}

/// Verifies a registry by the authorities there are; a certificate that lies in its folder itself is believed although
/// it calls itself an authority, as most do that somebody signed with their own key. Name and time must be right all the
/// same.
#[derive(Debug)]
pub struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    known: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Authorities, and certificates that are believed as they are.
    pub fn new(
        roots: RootCertStore,
        known: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Untrusted> {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let inner = inner.build().map_err(Untrusted::from)?;
        Ok(Self { inner, known })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now);
        // Its time was looked at before either of these is found; a wrong one is another error.
        let doubted = matches!(
            verified,
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_)))
        );
        if !doubted || !self.known.iter().any(|known| known == certificate) {
            return verified;
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_file_iter(path)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_pair_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let folders = vec![folder.path().join("missing"), folder.path().to_owned()];
        assert_eq!(Own::of(&folders, "r.example:1"), None);
        let own = folder.path().join("r.example:1");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("client.cert"), "").unwrap();
        let before = Own::of(&folders, "r.example:1").unwrap();
        let error = before.identity().unwrap_err().to_string();
        assert!(error.contains("without its .key"), "{error}");
        std::fs::write(own.join("other.key"), "").unwrap();
        let after = Own::of(&folders, "r.example:1").unwrap();
        assert_ne!(before.version, after.version);
        let error = after.identity().unwrap_err().to_string();
        assert!(error.contains("other.key") && error.contains("a key without"), "{error}");
        assert!(after.authorities().is_empty());
    }
}
