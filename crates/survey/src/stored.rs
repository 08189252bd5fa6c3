//! Asks the Cloud Controller which route it stores for a URL, at its internal listener.

use crate::{LIMIT, within};
use anyhow::{Context as _, Result, ensure};
use kit::tls::Identity;
use why::Answer;
use wire::cc::{StoredRoute, internal_path};

/// Returns the route that serves a URL; `None` if no route does. `internal_url`: the Cloud Controller's internal listener.
pub async fn stored_route(
    internal_url: &str,
    identity: &Identity,
    url: &str,
) -> Answer<Option<StoredRoute>> {
    within(fetch(internal_url, identity, url)).await
}

async fn fetch(base: &str, identity: &Identity, url: &str) -> Result<Option<StoredRoute>> {
    let http = clients::http::client(identity, Some(LIMIT))?;
    let response = http
        .get(format!("{base}{}", internal_path::STORED_ROUTE))
        .query(&[("url", url)])
        .send()
        .await
        .with_context(|| format!("query {base}"))?;
    ensure!(
        response.status().is_success(),
        "it answered with status {}",
        response.status()
    );
    response.json().await.context("decode its answer")
}
