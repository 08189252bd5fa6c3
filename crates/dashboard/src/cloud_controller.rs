//! Asks the Cloud Controller's public API with a user's own token.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// The time limit of a request. `why` asks all components.
const LIMIT: Duration = Duration::from_secs(40);
/// The number of apps on a page, and the number of pages that are read.
const PER_PAGE: usize = 1000;
const PAGES: usize = 20;

/// The API of one foundation.
#[derive(Clone, Debug)]
pub(crate) struct CloudController {
    url: String,
    http: reqwest::Client,
}

impl CloudController {
    pub(crate) fn new(url: &str) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("build HTTP client for the Cloud Controller")?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            http,
        })
    }

    /// Sends a GET request. `path` begins with `/v3/` and may have a query.
    pub(crate) async fn get(&self, path: &str, token: &str) -> Result<reqwest::Response> {
        let request = self.http.get(format!("{}{path}", self.url));
        let response = request.bearer_auth(token).send().await;
        response.context("query the Cloud Controller")
    }

    /// Returns the guids of the apps that a token may see.
    pub(crate) async fn apps(&self, token: &str) -> Result<BTreeSet<String>> {
        let mut guids = BTreeSet::new();
        for page in 1..=PAGES {
            let path = format!("/v3/apps?per_page={PER_PAGE}&page={page}");
            let response = self.get(&path, token).await?;
            let status = response.status();
            ensure!(status.is_success(), "the Cloud Controller answers {status}");
            let body: Value = response.json().await.context("read the apps")?;
            let apps = body["resources"].as_array().into_iter().flatten();
            guids.extend(apps.filter_map(|app| app["guid"].as_str().map(str::to_owned)));
            if body["pagination"]["next"].is_null() {
                break;
            }
        }
        Ok(guids)
    }
}
