//! Decides who may read which sources: operators read everything, others the apps and service instances that Cloud Controller
//! shows them.

use anyhow::{Context as _, Result};
use clients::uaa::{TokenError, TokenVerifier};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The scopes that may read all sources.
const OPERATORS: &[&str] = &[
    "doppler.firehose",
    "logs.admin",
    "cloud_controller.admin",
    "cloud_controller.admin_read_only",
];
/// How long a positive answer is remembered, because a tail reads four times a second.
const REMEMBER: Duration = Duration::from_secs(10);
const MAX_REMEMBERED: usize = 10_000;
const MAX_PAGES: usize = 20;

/// The reason why a caller may not read.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no valid token, or no source that this caller may know of.
    NotFound,
    /// The permission cannot be checked now.
    Unavailable,
}

#[derive(Clone, Debug)]
pub(crate) struct Access {
    verifier: TokenVerifier,
    cc_url: String,
    http: reqwest::Client,
    allowed: Arc<Mutex<HashMap<u64, Instant>>>,
    /// The keyed hasher of tokens. Only hashes are stored, and nobody can construct a collision.
    hasher: RandomState,
}

impl Access {
    pub(crate) fn new(verifier: TokenVerifier, cc_url: &str) -> Result<Self> {
        kit::tls::install_crypto();
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(10))
            .build()
            .context("build the HTTP client")?;
        Ok(Self {
            verifier,
            cc_url: cc_url.trim_end_matches('/').to_owned(),
            http,
            allowed: Arc::default(),
            hasher: RandomState::new(),
        })
    }

    /// Checks whether the bearer of `authorization` may read `source_id`.
    pub(crate) async fn may_read(
        &self,
        authorization: &str,
        source_id: &str,
    ) -> Result<(), Refused> {
        if self.is_operator(authorization).await? {
            return Ok(());
        }
        // The name becomes part of a URL.
        if source_id.is_empty()
            || !source_id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(Refused::NotFound);
        }
        let key = self.hasher.hash_one((authorization, source_id));
        if self.remembered(key) {
            return Ok(());
        }
        for kind in ["apps", "service_instances"] {
            let response = self
                .get(
                    &format!("{}/v3/{kind}/{source_id}", self.cc_url),
                    authorization,
                )
                .await?;
            if response.status().is_success() {
                self.remember(key);
                return Ok(());
            }
            if response.status().is_server_error() {
                tracing::warn!(status = %response.status(), "cloud-controller-failed");
                return Err(Refused::Unavailable);
            }
        }
        Err(Refused::NotFound)
    }

    /// Returns the sources that the caller may read; `None` means all.
    pub(crate) async fn readable(
        &self,
        authorization: &str,
    ) -> Result<Option<BTreeSet<String>>, Refused> {
        if self.is_operator(authorization).await? {
            return Ok(None);
        }
        let mut guids = BTreeSet::new();
        for kind in ["apps", "service_instances"] {
            let mut next = Some(format!("{}/v3/{kind}?per_page=5000", self.cc_url));
            for page in 2..MAX_PAGES {
                let Some(url) = next.take() else { break };
                let response = self.get(&url, authorization).await?;
                if !response.status().is_success() {
                    break;
                }
                let body: Value = response.json().await.map_err(|_| Refused::Unavailable)?;
                let resources = body["resources"].as_array().map_or(&[][..], Vec::as_slice);
                guids.extend(
                    resources
                        .iter()
                        .filter_map(|resource| resource["guid"].as_str())
                        .map(str::to_owned),
                );
                // The link contains the external URL, so only the number of the page is used.
                next = body["pagination"]["next"]["href"]
                    .is_string()
                    .then(|| format!("{}/v3/{kind}?per_page=5000&page={page}", self.cc_url));
            }
        }
        Ok(Some(guids))
    }

    async fn is_operator(&self, authorization: &str) -> Result<bool, Refused> {
        match self.verifier.verify(authorization).await {
            Ok(claims) => Ok(OPERATORS.iter().any(|scope| claims.has_scope(scope))),
            Err(TokenError::Unreachable) => Err(Refused::Unavailable),
            Err(error) => {
                tracing::debug!(%error, "token-refused");
                Err(Refused::NotFound)
            }
        }
    }

    async fn get(&self, url: &str, authorization: &str) -> Result<reqwest::Response, Refused> {
        self.http
            .get(url)
            .header("authorization", authorization)
            .header("accept", "application/json")
            .send()
            .await
            .map_err(|error| {
                tracing::warn!(%error, "cloud-controller-unreachable");
                Refused::Unavailable
            })
    }

    fn remembered(&self, key: u64) -> bool {
        self.allowed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .is_some_and(|since| since.elapsed() < REMEMBER)
    }

    fn remember(&self, key: u64) {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if allowed.len() >= MAX_REMEMBERED {
            allowed.retain(|_, since| since.elapsed() < REMEMBER);
        }
        if allowed.len() < MAX_REMEMBERED {
            allowed.insert(key, Instant::now());
        }
    }
}
