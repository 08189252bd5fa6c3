//! Makes TLS configurations from identities: a certificate, its key and the CA to which peers must chain.

mod authorities;
mod chain;
mod presented;

pub use authorities::Authorities;
pub use presented::Presented;

use anyhow::{Context as _, Result};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, ServerConfig, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// The PEM texts of one component's certificate chain, its key and the CA that it trusts.
#[derive(Clone)]
pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
    pub ca_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("key_pem", &"<redacted>")
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the files of certificate, key and CA. Each comes with the key of the configuration that names it, for the errors.
    pub fn from_files([cert, key, ca]: [(&str, &Path); 3]) -> Result<Self> {
        let read = |(key, path): (&str, &Path)| {
            std::fs::read_to_string(path).with_context(|| {
                format!(
                    "{key} {}: the file cannot be read: does it exist, and may this process read it?",
                    path.display()
                )
            })
        };
        Ok(Self {
            cert_pem: read(cert)?,
            key_pem: read(key)?,
            ca_pem: read(ca)?,
        })
    }
}

/// Whether a server requires its clients to present a certificate of the identity's CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    Required,
}

/// Makes aws-lc-rs the process's crypto provider. It may be called repeatedly.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Makes a server configuration with the given ALPN protocols, the preferred one first.
pub fn server_config(
    identity: &Identity,
    auth: ClientAuth,
    alpn: &[&str],
) -> Result<Arc<ServerConfig>> {
    install_crypto();
    let builder = ServerConfig::builder();
    let builder = match auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Required => {
            let trusted = Authorities::from_pem(&identity.ca_pem)?;
            builder.with_client_cert_verifier(trusted.of_clients(true)?)
        }
    };
    let mut config = builder
        .with_single_cert(certs(&identity.cert_pem)?, key(&identity.key_pem)?)
        .context("use the server certificate")?;
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// Makes a client configuration that presents the identity and trusts its CA only.
pub fn client_config(identity: &Identity) -> Result<ClientConfig> {
    trusting(Authorities::from_pem(&identity.ca_pem)?)
        .with_client_auth_cert(certs(&identity.cert_pem)?, key(&identity.key_pem)?)
        .context("use the client certificate")
}

/// Begins a client configuration that trusts these authorities only.
pub fn trusting(authorities: Authorities) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    install_crypto();
    ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(authorities.of_servers())
}

/// Begins a client configuration that accepts any certificate.
pub fn trusting_any_certificate() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    install_crypto();
    ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny::default()))
}

/// Makes a client configuration that presents the identity and accepts any certificate of a server. The CA is not read.
pub fn unverified_client_config(identity: &Identity) -> Result<ClientConfig> {
    trusting_any_certificate()
        .with_client_auth_cert(certs(&identity.cert_pem)?, key(&identity.key_pem)?)
        .context("use the client certificate")
}

/// A verifier that accepts any certificate for any name, where an operator has requested it. Signatures are still checked.
#[derive(Debug)]
pub struct AcceptAny(WebPkiSupportedAlgorithms);

impl Default for AcceptAny {
    fn default() -> Self {
        Self(rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Checks that a server can present this chain with this key.
///
/// # Errors
/// It fails if one of them cannot be read, or if they do not belong together.
pub fn check_pair(cert_pem: &str, key_pem: &str) -> Result<()> {
    install_crypto();
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certs(cert_pem)?, key(key_pem)?)
        .context("the certificate and the key do not belong together")?;
    Ok(())
}

/// Returns the certificates of a PEM text, in order.
pub fn certs(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certs = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("read certificate PEM")?;
    anyhow::ensure!(!certs.is_empty(), "the PEM text contains no certificate");
    Ok(certs)
}

/// Returns the private key of a PEM text (PKCS#8, PKCS#1 or SEC1).
pub fn key(pem: &str) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).context("read private key PEM")
}
