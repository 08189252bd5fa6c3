//! Reads a router's pages: its table, now or at an earlier time, the changes of its table, the requests that
//! failed, and the traces of requests.

use anyhow::{Context as _, Result};
use clients::tap::{Tap, Wanted};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use survey::RouterAddress;
use why::changes::Change;
use wire::router::{FAILURES_PATH, FailuresPage};

/// The time limit of a request.
const LIMIT: Duration = Duration::from_secs(10);

/// The number of requests after which a tap ends. Others may come between the one that is followed.
const TAPPED: u64 = 1000;

/// The pages of one router. It is cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    http: reqwest::Client,
    address: RouterAddress,
}

/// The page `/changes`. An original gorouter has none.
#[derive(Debug, Deserialize)]
pub(crate) struct Changes {
    pub(crate) router: String,
    pub(crate) last: u64,
    pub(crate) missed: u64,
    /// The time after which no change is missing.
    #[serde(default)]
    pub(crate) since: Option<String>,
    pub(crate) changes: Vec<Change>,
}

/// The router's answer when a page cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Pages {
    pub(crate) fn new(address: RouterAddress) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(LIMIT)
            .build()
            .context("build HTTP client for the routers")?;
        Ok(Self { http, address })
    }

    pub(crate) fn name(&self) -> &str {
        &self.address.name
    }

    /// Returns the URL at which the router accepts requests of clients.
    pub(crate) fn front(&self) -> Option<&str> {
        self.address.http_url.as_deref()
    }

    /// Returns the table of a time of RFC 3339, or the present one.
    pub(crate) async fn table(&self, at: Option<&str>) -> Result<Value> {
        let query: Vec<(&str, &str)> = at.map(|at| ("at", at)).into_iter().collect();
        let response = self.get("/routes", &query).await?;
        response.json().await.context("read the router's table")
    }

    pub(crate) async fn changes(&self, after: u64) -> Result<Changes> {
        let after = after.to_string();
        let response = self.get("/changes", &[("after", &after)]).await?;
        response.json().await.context("read the router's changes")
    }

    /// Opens a tap: the router traces the next requests to a host.
    pub(crate) async fn tap(&self, host: &str) -> Result<Tap> {
        let page = clients::tap::Page {
            url: self.address.status_url.clone(),
            user: self.address.user.clone(),
            password: self.address.password.clone(),
        };
        let wanted = Wanted {
            host: host.to_owned(),
            limit: Some(TAPPED),
            seconds: Some(LIMIT.as_secs() * 2),
        };
        page.tap(&wanted).await
    }

    /// Returns the failing requests after a number; `None` if the router has no such page.
    pub(crate) async fn failures(&self, after: u64) -> Result<Option<FailuresPage>> {
        let after = after.to_string();
        let answer = self.get(FAILURES_PATH, &[("after", &after)]).await;
        match answer {
            Ok(response) => response
                .json()
                .await
                .map(Some)
                .context("read the failing requests"),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<reqwest::Response> {
        let url = format!("{}{path}", self.address.status_url);
        let request = self.http.get(&url).query(query);
        let request = request.basic_auth(&self.address.user, Some(&self.address.password));
        let response = request
            .send()
            .await
            .with_context(|| format!("query the router at {url}"))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let text: String = text.trim().chars().take(500).collect();
        Err(Refused {
            status: status.as_u16(),
            text: format!("the router answers {status} to {url}: {text}"),
        }
        .into())
    }
}

/// Returns whether the router has no such page. An original gorouter has `/routes` alone.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.status == 404)
}
