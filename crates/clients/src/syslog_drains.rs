//! Reads the log drains of all apps from the internal listener of the Cloud Controller, page by page, as the original's
//! `syslog-binding-cache` does.

use anyhow::{Context as _, Result, ensure};
use kit::tls::Identity;
use std::time::Duration;
use wire::cc::{SyslogDrain, SyslogDrains, internal_path};

/// The longest wait for one page.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The number of URLs of a page.
const PAGE: u32 = 1000;
/// The number of pages after which a list is refused that does not end.
const MOST_PAGES: usize = 1000;

/// A client of one Cloud Controller.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    /// Makes a client of the internal listener at `url`, for example `https://127.0.0.1:9023`.
    pub fn new(url: &str, identity: &Identity) -> Result<Self> {
        Ok(Self {
            http: crate::http::client(identity, Some(TIMEOUT))?,
            url: format!(
                "{}{}",
                url.trim_end_matches('/'),
                internal_path::SYSLOG_DRAINS
            ),
        })
    }

    /// Returns all drains.
    pub async fn all(&self) -> Result<Vec<SyslogDrain>> {
        let (mut all, mut next) = (Vec::new(), 0);
        for _ in 0..MOST_PAGES {
            let page = self.page(next).await?;
            all.extend(page.results);
            match page.next_id {
                Some(id) => next = id,
                None => return Ok(all),
            }
        }
        anyhow::bail!("the list of drains has more than {MOST_PAGES} pages")
    }

    async fn page(&self, next: u32) -> Result<SyslogDrains> {
        let query = [("batch_size", PAGE), ("next_id", next)];
        let request = self.http.get(&self.url).query(&query);
        let response = request.send().await.context("request the drains")?;
        let status = response.status();
        ensure!(
            status.is_success(),
            "the Cloud Controller answered {status} to the request for drains"
        );
        response.json().await.context("read the drains")
    }
}
