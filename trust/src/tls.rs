//! What a client believes at the other end: the system's authorities and those kept for the host, nobody, or anybody.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::Untrusted;
use crate::certificate::{Own, Verifier};

/// The system's authorities and those kept for one host. What cannot be read is left out and said: the handshake then
/// fails where it mattered.
fn roots(own: &[CertificateDer<'static>]) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "reading a certificate authority");
    }
    roots.add_parsable_certificates(system.certs);
    roots.add_parsable_certificates(own.iter().cloned());
    if roots.is_empty() {
        tracing::warn!("no certificate authorities on this host: registries cannot be verified");
    }
    roots
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Never used for a handshake: plain HTTP stays plain.
#[must_use]
pub fn plain() -> rustls::ClientConfig {
    builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

/// For hosts whose certificate must be one that the system's authorities, or those of the host's own folder, vouch for.
///
/// # Errors
/// What lies in the folder is not whole.
pub fn verified(own: Option<&Own>) -> Result<rustls::ClientConfig, Untrusted> {
    let known = own.map(Own::authorities).unwrap_or_default();
    let roots = roots(&known);
    let builder = if roots.is_empty() {
        builder().with_root_certificates(roots)
    } else {
        let verifier = Verifier::new(roots, known, provider())?;
        builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    };
    match own.map(Own::identity).transpose()?.flatten() {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(Untrusted::from),
    }
}

fn builder() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring implements the default protocol versions")
}

/// For hosts that the user named insecure: any certificate will do.
#[must_use]
pub fn anyone() -> rustls::ClientConfig {
    let verifier = Arc::new(anyone::Anyone(provider()));
    builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

mod anyone {
    //! A verifier for hosts that the user named insecure: the handshake must be sound, the name may be anyone's.

    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct Anyone(pub(super) Arc<CryptoProvider>);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
