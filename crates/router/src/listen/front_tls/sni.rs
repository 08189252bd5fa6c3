//! The choice of the certificate that a client is presented, by the name that it requests.

use crate::backend::tls::certified;
use crate::config::Certificate;
use anyhow::{Context as _, Result};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The certificates by name. An exact name wins, then its wildcard; without either the first certificate is used.
#[derive(Debug)]
pub(super) struct BySni {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl BySni {
    pub(super) fn new(certificates: &[Certificate]) -> Result<Self> {
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
