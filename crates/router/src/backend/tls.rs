//! TLS towards backends: how we make sure who a backend is.
//!
//! A backend must present a certificate that chains to the instance authorities **and** carries the name that its
//! registration gave. Every connection is a full handshake: a resumed session would not show a certificate, and so could
//! be answered by whoever holds the ticket's key. Connections are pooled per endpoint, never by address.

use anyhow::{Context as _, Result};
use kit::tls::Identity;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

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

/// The authorities in some PEM texts, and the machine's own if wanted.
pub(crate) fn roots(pems: &[String], system: bool) -> Result<RootCertStore> {
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
