//! The configured TLS: versions and suites of every side, and which certificates clients must present.

use anyhow::{Context as _, Result};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, SupportedProtocolVersion, WantsVerifier};
use std::sync::Arc;

/// A server certificate: PEM chain and key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    pub cert_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("key_pem", &"<redacted>")
            .finish_non_exhaustive()
    }
}

/// The treatment of a client's `X-Forwarded-Client-Cert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedClientCert {
    AlwaysForward,
    /// The header is kept if the client itself has presented a certificate.
    Forward,
    /// The header is stripped, then set to the certificate that this router has seen.
    SanitizeSet,
    /// The header is stripped: backends learn of no certificate.
    Sanitize,
}

/// Whether HTTPS clients are asked for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertValidation {
    None,
    /// A client needs no certificate, but one that it presents must be valid.
    Request,
    Require,
}

/// The versions and cipher suites that a side of the router speaks. The default is what the TLS library considers safe.
#[derive(Clone, Debug, Default)]
pub struct TlsTerms {
    /// The permitted versions out of `TLSv1.2` and `TLSv1.3`; empty: both.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// The suites for TLS 1.2, in IANA's spelling; empty: all that the library has. Those of TLS 1.3 are always permitted.
    pub cipher_suites: Vec<String>,
}

impl TlsTerms {
    fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if !self.cipher_suites.is_empty() {
            let wanted = |name: &str| self.cipher_suites.iter().any(|wanted| wanted == name);
            provider.cipher_suites.retain(|suite| {
                suite.tls13().is_some() || suite.suite().as_str().is_some_and(wanted)
            });
        }
        Arc::new(provider)
    }

    fn spoken(&self) -> &[&'static SupportedProtocolVersion] {
        if self.versions.is_empty() {
            rustls::DEFAULT_VERSIONS
        } else {
            &self.versions
        }
    }

    /// Returns the beginning of a server's configuration.
    ///
    /// # Errors
    /// Fails if none of the versions has a permitted suite.
    pub fn server(&self) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>> {
        ServerConfig::builder_with_provider(self.provider())
            .with_protocol_versions(self.spoken())
            .context("use the TLS versions and cipher suites")
    }

    /// Returns the beginning of a client's configuration.
    pub(crate) fn client(&self) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
        ClientConfig::builder_with_provider(self.provider())
            .with_protocol_versions(self.spoken())
            .context("use the TLS versions and cipher suites")
    }
}

/// The TLS with HTTPS clients. The default requests no client certificates.
#[derive(Clone, Debug)]
pub struct FrontTls {
    pub terms: TlsTerms,
    pub client_cert_validation: ClientCertValidation,
    /// The PEM texts of the authorities that clients' certificates must chain to.
    pub client_cas: Vec<String>,
    /// Whether the machine's own authorities may also sign client certificates.
    pub system_client_cas: bool,
    /// The additional conditions for certificates of some authorities.
    pub certificate_rules: Vec<CertificateRule>,
    /// The domains whose clients must present a certificate, each with authorities of its own.
    pub domains: Vec<MtlsDomain>,
}

impl Default for FrontTls {
    fn default() -> Self {
        Self {
            terms: TlsTerms::default(),
            client_cert_validation: ClientCertValidation::None,
            client_cas: Vec::new(),
            system_client_cas: false,
            certificate_rules: Vec::new(),
            domains: Vec::new(),
        }
    }
}

/// A domain of identity-aware routing: every client of its hosts presents a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtlsDomain {
    /// The domain's name in lower case: a host, or `*.` and a domain (which means one label before it).
    pub name: String,
    /// The PEM text of the authorities that its clients' certificates must chain to.
    pub client_cas: String,
    pub forwarded_client_cert: ForwardedClientCert,
    pub xfcc_format: XfccFormat,
}

/// The form in which a client's certificate is forwarded to backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XfccFormat {
    /// The leaf as base64 of its DER.
    #[default]
    Raw,
    /// The fingerprint and the subject: `Hash=<SHA-256>;Subject="…"`.
    Envoy,
}

/// A rule for client certificates with this authority in their chain: only those with one of the subjects are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRule {
    pub issuer: Subject,
    pub valid_subjects: Vec<Subject>,
}

/// The parts of a distinguished name; each list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub country: Vec<String>,
    pub organisation: Vec<String>,
    pub organisation_unit: Vec<String>,
    pub common_name: String,
    pub serial_number: String,
    pub locality: Vec<String>,
    pub province: Vec<String>,
    pub street_address: Vec<String>,
    pub postal_code: Vec<String>,
}
