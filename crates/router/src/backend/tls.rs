//! TLS on both sides: who we are to clients, and how we make sure who a backend is.
//!
//! A backend must present a certificate that chains to the instance authorities **and** carries the name that its
//! registration gave. Every connection is a full handshake: a resumed session would not show a certificate, and so could
//! be answered by whoever holds the ticket's key. Connections are pooled per endpoint, never by address.

use crate::config::Certificate;
use anyhow::{Context as _, Result};
use kit::tls::Identity;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use std::collections::HashMap;
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Towards backends: our certificate, their authorities, no resumption.
pub(crate) fn backend_config(identity: &Identity, alpn: &[&str]) -> Result<Arc<ClientConfig>> {
    let mut config = kit::tls::client_config(identity)?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect();
    Ok(Arc::new(config))
}

/// Towards clients: the certificate that fits the server name.
pub(crate) fn server_config(
    certificates: &[Certificate],
    http2: bool,
) -> Result<Arc<ServerConfig>> {
    kit::tls::install_crypto();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySni::new(certificates)?));
    config.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(Arc::new(config))
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
            let chain = kit::tls::certs(&certificate.cert_pem)
                .with_context(|| format!("HTTPS certificate {number}"))?;
            let names =
                names(&chain[0]).with_context(|| format!("names of HTTPS certificate {number}"))?;
            let key = any_supported_type(&kit::tls::key(&certificate.key_pem)?)
                .with_context(|| format!("key of HTTPS certificate {number}"))?;
            let certified = Arc::new(CertifiedKey::new(chain, key));
            certified.keys_match().with_context(|| {
                format!("key of HTTPS certificate {number} belongs to another certificate")
            })?;
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
