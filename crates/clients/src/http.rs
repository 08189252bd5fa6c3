//! HTTP clients of the control plane: with mTLS and one identity, or with the TLS settings of an operator.

use anyhow::{Context as _, Result};
use kit::tls::Identity;
use std::time::Duration;

/// The time limit for connecting to a peer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval of TCP keep-alive probes, which detect that a peer is gone while a stream is silent.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The TLS settings of a client: how it verifies servers, and which certificate it presents.
#[derive(Clone, Default)]
pub struct Tls {
    pub authorities: Authorities,
    /// The PEM texts of a certificate chain and its key. With `None` the client presents no certificate.
    pub identity: Option<(String, String)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}

/// The authorities whose certificates a client trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorities {
    /// The authorities that the machine trusts.
    #[default]
    System,
    /// The authorities in a PEM text, and no others. An empty text suffices for servers without TLS.
    Pem(String),
    /// Every certificate is accepted, for every name.
    Any,
}

/// Makes a pooled client that presents `identity` and trusts its CA only. `timeout` bounds a whole request; it is `None` for
/// streams.
pub fn client(identity: &Identity, timeout: Option<Duration>) -> Result<reqwest::Client> {
    client_of(kit::tls::client_config(identity)?, timeout)
}

/// Makes a pooled client with the caller's TLS configuration.
pub fn client_of(tls: rustls::ClientConfig, timeout: Option<Duration>) -> Result<reqwest::Client> {
    let builder = builder(timeout).tls_backend_preconfigured(tls);
    builder.build().context("build HTTP client")
}

/// Makes a pooled client with these TLS settings. It does not follow redirects, because a token must not go to another server.
pub fn client_with(tls: &Tls, timeout: Option<Duration>) -> Result<reqwest::Client> {
    let trusting = match &tls.authorities {
        Authorities::Any => kit::tls::trusting_any_certificate(),
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
    let config = match &tls.identity {
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
