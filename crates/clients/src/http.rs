//! The HTTP client of the control plane: mTLS with one identity.

use anyhow::{Context as _, Result};
use kit::tls::Identity;
use std::time::Duration;

/// A pooled client that presents `identity` and trusts its CA only. `timeout` bounds a whole request, `None` for streams.
pub fn client(identity: &Identity, timeout: Option<Duration>) -> Result<reqwest::Client> {
    let tls = kit::tls::client_config(identity)?;
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true);
    if let Some(timeout) = timeout {
        builder = builder.timeout(timeout);
    }
    builder.build().context("build HTTP client")
}
