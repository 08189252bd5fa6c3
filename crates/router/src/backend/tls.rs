//! TLS on both sides: who we are to clients, and how we make sure who a backend is.
//!
//! A backend must present a certificate that chains to the instance authorities **and** carries the name that its
//! registration gave. Every connection is a full handshake: a resumed session would not show a certificate, and so could
//! be answered by whoever holds the ticket's key. Connections are pooled per endpoint, never by address.

use crate::config::{Certificate, ClientCertValidation, FrontTls};
use anyhow::{Context as _, Result};
use kit::tls::Identity;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::collections::HashMap;
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Towards backends: our certificate, their authorities, no resumption.
pub(crate) fn backend_config(
    identity: &Identity,
    system_cas: bool,
    alpn: &[&str],
) -> Result<Arc<ClientConfig>> {
    kit::tls::install_crypto();
    let builder = ClientConfig::builder()
        .with_root_certificates(roots(std::slice::from_ref(&identity.ca_pem), system_cas)?);
    let mut config = if identity.cert_pem.is_empty() {
        builder.with_no_client_auth()
    } else {
        let chain = kit::tls::certs(&identity.cert_pem)?;
        builder
            .with_client_auth_cert(chain, kit::tls::key(&identity.key_pem)?)
            .context("use the router's certificate for backends")?
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    Ok(Arc::new(config))
}

/// The same, but believing every certificate: for route services of a foundation without authorities.
pub(crate) fn unverified(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    let provider = config.crypto_provider().clone();
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(BelieveAll(provider)));
    Arc::new(config)
}

#[derive(Debug)]
struct BelieveAll(Arc<CryptoProvider>);

impl ServerCertVerifier for BelieveAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Towards clients: the certificate that fits the server name.
pub(crate) fn server_config(
    certificates: &[Certificate],
    front: &FrontTls,
    http2: bool,
) -> Result<Arc<ServerConfig>> {
    kit::tls::install_crypto();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if !front.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| {
            suite.tls13().is_some()
                || front
                    .cipher_suites
                    .iter()
                    .any(|wanted| Some(wanted.as_str()) == suite.suite().as_str())
        });
    }
    let versions = if front.versions.is_empty() {
        rustls::DEFAULT_VERSIONS
    } else {
        &front.versions
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .context("TLS versions and cipher suites of the router's HTTPS listener")?;
    let builder = match front.client_cert_validation {
        ClientCertValidation::None => builder.with_no_client_auth(),
        validation => {
            let roots = Arc::new(roots(&front.client_cas, front.system_client_cas)?);
            let verifier = WebPkiClientVerifier::builder(roots);
            let verifier = if validation == ClientCertValidation::Request {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier
                .build()
                .context("use the authorities of client certificates")?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(BySni::new(certificates)?));
    config.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(Arc::new(config))
}

/// The authorities in some PEM texts, and the machine's own if wanted.
fn roots(pems: &[String], system: bool) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for pem in pems.iter().filter(|pem| !pem.trim().is_empty()) {
        for certificate in kit::tls::certs(pem)? {
            store.add(certificate).context("use CA certificate")?;
        }
    }
    if system {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "system-authorities-not-read");
        }
        store.add_parsable_certificates(found.certs);
    }
    Ok(store)
}

/// Exact name first, then its wildcard, else the first certificate.
#[derive(Debug)]
struct BySni {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl BySni {
    fn new(certificates: &[Certificate]) -> Result<Self> {
        let mut by_name = HashMap::new();
        let mut default = None;
        for (number, certificate) in certificates.iter().enumerate() {
            let certified = certified(&certificate.cert_pem, &certificate.key_pem)
                .with_context(|| format!("HTTPS certificate {number}"))?;
            let names = names(&certified.cert[0])
                .with_context(|| format!("names of HTTPS certificate {number}"))?;
            let certified = Arc::new(certified);
            for name in names {
                by_name.entry(name).or_insert_with(|| certified.clone());
            }
            default.get_or_insert(certified);
        }
        let default = default
            .context("HTTPS is on, but there is no certificate: give the router at least one")?;
        Ok(Self { by_name, default })
    }

    fn find(&self, name: &str) -> Arc<CertifiedKey> {
        let wildcard = || {
            name.split_once('.')
                .and_then(|(_, rest)| self.by_name.get(&format!("*.{rest}")))
        };
        self.by_name
            .get(name)
            .or_else(wildcard)
            .unwrap_or(&self.default)
            .clone()
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(match hello.server_name() {
            Some(name) => self.find(&name.to_ascii_lowercase()),
            None => self.default.clone(),
        })
    }
}

/// A chain and a key that belong together.
pub(crate) fn certified(cert_pem: &str, key_pem: &str) -> Result<CertifiedKey> {
    let chain = kit::tls::certs(cert_pem)?;
    let key = any_supported_type(&kit::tls::key(key_pem)?).context("use private key")?;
    let certified = CertifiedKey::new(chain, key);
    certified
        .keys_match()
        .context("the key belongs to another certificate")?;
    Ok(certified)
}

fn names(der: &[u8]) -> Result<Vec<String>> {
    let (_, certificate) = X509Certificate::from_der(der).context("parse certificate")?;
    let Some(sans) = certificate
        .subject_alternative_name()
        .context("read subject alternative names")?
    else {
        return Ok(Vec::new());
    };
    let dns = sans
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
    Ok(dns.collect())
}
