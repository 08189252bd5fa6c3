//! The TLS of drains: which servers are trusted, and which certificate is presented to them.

use crate::list::Credentials;
use anyhow::{Context as _, Result};
use kit::tls::Authorities;
use rustls::ClientConfig;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The reason why a drain's certificates cannot be used. The texts are those of the original, and the URL follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("failed to load certificate for")]
    Certificate,
    #[error("failed to load root CA for")]
    Authority,
}

/// The trusted authorities, and the settings that were made with them. Drains with equal credentials share their settings.
#[derive(Debug)]
pub(crate) struct Trust {
    authorities: Authorities,
    plain: Arc<ClientConfig>,
    made: BTreeMap<Credentials, Arc<ClientConfig>>,
}

impl Trust {
    /// Trusts the machine's authorities, and those in a PEM text, which may be empty.
    pub(crate) fn new(pem: &str) -> Result<Self> {
        let mut authorities = Authorities::none();
        authorities.add_system();
        if !pem.trim().is_empty() {
            let added = authorities.add_pem(pem);
            added.context("use the authorities of the drains' servers")?;
        }
        let plain = kit::tls::trusting(authorities.clone()).with_no_client_auth();
        Ok(Self {
            authorities,
            plain: Arc::new(plain),
            made: BTreeMap::new(),
        })
    }

    /// Returns the settings for credentials. A certificate without its key is not presented.
    pub(crate) fn config(
        &mut self,
        credentials: &Credentials,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let Credentials { cert, key, ca } = credentials;
        let has_pair = !cert.is_empty() && !key.is_empty();
        if !has_pair && ca.is_empty() {
            return Ok(self.plain.clone());
        }
        if let Some(made) = self.made.get(credentials) {
            return Ok(made.clone());
        }
        let mut authorities = self.authorities.clone();
        if !ca.is_empty() {
            let added = authorities.add_pem(ca);
            added.map_err(|_| TlsError::Authority)?;
        }
        let trusting = kit::tls::trusting(authorities);
        let config = if has_pair {
            let chain = kit::tls::certs(cert).map_err(|_| TlsError::Certificate)?;
            let key = kit::tls::key(key).map_err(|_| TlsError::Certificate)?;
            let config = trusting.with_client_auth_cert(chain, key);
            config.map_err(|_| TlsError::Certificate)?
        } else {
            trusting.with_no_client_auth()
        };
        let config = Arc::new(config);
        self.made.insert(credentials.clone(), config.clone());
        Ok(config)
    }

    /// Forgets settings that no drain uses any more.
    pub(crate) fn forget_unused(&mut self) {
        self.made.retain(|_, config| Arc::strong_count(config) > 1);
    }
}
