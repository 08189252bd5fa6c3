//! TLS towards backends: how the router verifies who a backend is.
//!
//! A backend must present a certificate that chains to the instance authorities **and** contains the name that its registration
//! stated. Every connection is a full handshake: in a resumed session the backend would present no certificate, so anyone who
//! holds the ticket's key could answer. Connections are pooled per endpoint, never by address.

use crate::config::{Certificate, TlsTerms};
use anyhow::{Context as _, Result};
use kit::tls::{AcceptAny, Authorities, Identity};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// Returns the TLS configuration towards backends: our certificate, their authorities, no resumption.
pub(crate) fn backend_config(
    identity: &Identity,
    system_cas: bool,
    terms: &TlsTerms,
    alpn: &[&str],
) -> Result<Arc<ClientConfig>> {
    let trusted = trusted(std::slice::from_ref(&identity.ca_pem), system_cas)?;
    let builder = terms
        .client()?
        .dangerous()
        .with_custom_certificate_verifier(trusted.of_servers());
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

/// Returns the same configuration, except that it accepts every certificate: for route services of a foundation without
/// authorities.
pub(crate) fn unverified(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(AcceptAny::default()));
    Arc::new(config)
}

/// Returns the authorities in some PEM texts, and the machine's own if `system` is set.
pub(crate) fn trusted(pems: &[String], system: bool) -> Result<Authorities> {
    let mut trusted = Authorities::none();
    for pem in pems.iter().filter(|pem| !pem.trim().is_empty()) {
        trusted.add_pem(pem)?;
    }
    if system {
        trusted.add_system();
    }
    Ok(trusted)
}

impl Certificate {
    /// Checks that chain and key are readable and belong together.
    pub fn check(&self) -> Result<()> {
        certified(&self.cert_pem, &self.key_pem).map(drop)
    }
}

/// Returns a chain and a key that belong together.
pub(crate) fn certified(cert_pem: &str, key_pem: &str) -> Result<CertifiedKey> {
    let chain = kit::tls::certs(cert_pem)?;
    let key = any_supported_type(&kit::tls::key(key_pem)?).context("use private key")?;
    let certified = CertifiedKey::new(chain, key);
    certified
        .keys_match()
        .context("the key belongs to another certificate")?;
    Ok(certified)
}
