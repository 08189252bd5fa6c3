//! HTTP clients of the control plane: mTLS with one identity, or with what an operator's keys say.

use anyhow::{Context as _, Result};
use kit::tls::Identity;
use std::time::Duration;

/// For a peer that does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Finds out that a peer is gone while a stream says nothing.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How a client makes sure who a server is, and what it shows of itself.
#[derive(Clone, Default)]
pub struct Tls {
    pub authorities: Authorities,
    /// PEM texts of a certificate chain and its key. `None`: nothing is shown.
    pub shown: Option<(String, String)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}

/// Whose certificates a client believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorities {
    /// Those that the machine knows.
    #[default]
    System,
    /// Those in a PEM text, and no others; an empty one will do for servers without TLS.
    Pem(String),
    /// Every certificate is taken, for every name.
    Any,
}

/// A pooled client that presents `identity` and trusts its CA only. `timeout` bounds a whole request, `None` for streams.
pub fn client(identity: &Identity, timeout: Option<Duration>) -> Result<reqwest::Client> {
    client_of(kit::tls::client_config(identity)?, timeout)
}

/// The same with a TLS configuration of the caller's.
pub fn client_of(tls: rustls::ClientConfig, timeout: Option<Duration>) -> Result<reqwest::Client> {
    let builder = builder(timeout).tls_backend_preconfigured(tls);
    builder.build().context("build HTTP client")
}

/// The same with other authorities; redirects are answers here, for a token must not go to another server.
pub fn client_with(tls: &Tls, timeout: Option<Duration>) -> Result<reqwest::Client> {
    let trusting = match &tls.authorities {
        Authorities::Any => kit::tls::trusting_anybody(),
        Authorities::System => {
            let mut trusted = kit::tls::Authorities::none();
            trusted.add_system();
            kit::tls::trusting(trusted)
        }
        // Without TLS the client needs no authority.
        Authorities::Pem(pem) if pem.trim().is_empty() => {
            kit::tls::trusting(kit::tls::Authorities::none())
        }
        Authorities::Pem(pem) => kit::tls::trusting(kit::tls::Authorities::from_pem(pem)?),
    };
    let config = match &tls.shown {
        None => trusting.with_no_client_auth(),
        Some((chain, key)) => trusting
            .with_client_auth_cert(kit::tls::certs(chain)?, kit::tls::key(key)?)
            .context("use client certificate")?,
    };
    let builder = builder(timeout).redirect(reqwest::redirect::Policy::none());
    let builder = builder.tls_backend_preconfigured(config);
    builder.build().context("build HTTP client")
}

fn builder(timeout: Option<Duration>) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(KEEPALIVE)
        .tcp_nodelay(true);
    match timeout {
        Some(timeout) => builder.timeout(timeout),
        None => builder,
    }
}
