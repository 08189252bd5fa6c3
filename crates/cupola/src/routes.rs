//! `cupola routes`: the router's own table, as gorouter's `retrieve-local-routes` prints it.

use crate::addresses::Service;
use crate::plan::{Plan, STATUS_USER};
use anyhow::{Context as _, Result};
use std::path::Path;

pub(crate) async fn print(data: &Path) -> Result<()> {
    let table = table(&Plan::read(data)?).await?;
    crate::terminal::print(&format!("{}\n", serde_json::to_string_pretty(&table)?))
}

/// Returns the endpoints by route, as the router's `/routes` returns them.
pub(crate) async fn table(plan: &Plan) -> Result<serde_json::Value> {
    let url = format!("http://{}/routes", plan.reach(Service::RouterStatus));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(std::time::Duration::from_secs(10))
        .build()?;
    let response = client
        .get(&url)
        .basic_auth(STATUS_USER, Some(&plan.status_password))
        .send()
        .await
        .with_context(|| {
            format!(
                "query the router at {url}: is the foundation running? start it with `cupola up`"
            )
        })?;
    anyhow::ensure!(
        response.status().is_success(),
        "the router answered {} to {url}",
        response.status()
    );
    response.json().await.context("read the router's table")
}
