//! Calls of the Cloud Controller's API, version 3, with a user's token.

use anyhow::{Context as _, Result, bail, ensure};
use clients::http::{Authorities, Tls};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::watch;

/// The longest time of one call.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks at a job.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest time of a job.
const JOB: Duration = Duration::from_secs(60);

/// The API of a foundation. Clones share their connections.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    url: String,
    tokens: watch::Receiver<String>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// An answer with a status of 2xx.
pub(crate) struct Reply {
    body: Value,
    /// The path of the job that does the rest.
    job: Option<String>,
}

/// The names of a resource in a list.
#[derive(Debug)]
pub struct Named {
    pub guid: String,
    pub name: String,
}

impl Api {
    /// Makes a client. `tokens` has the value of the header `Authorization`, which the caller renews.
    pub fn new(
        url: &str,
        authorities: Authorities,
        tokens: watch::Receiver<String>,
    ) -> Result<Self> {
        let tls = Tls {
            authorities,
            identity: None,
        };
        Ok(Self {
            http: clients::http::client_with(&tls, Some(PATIENCE))?,
            url: url.trim_end_matches('/').to_owned(),
            tokens,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends one call. Any status but 2xx is an error.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let what = format!("{method} {}{path}", self.url);
        let token = self.tokens.borrow().clone();
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        request = request.header("authorization", token.trim());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| what.clone())?;
        let status = response.status();
        let location = response.headers().get("location");
        let location = location.and_then(|location| location.to_str().ok());
        // The API may name itself by another address than the one by which it is reached.
        let job = location.and_then(|url| Some(url[url.find("/v3/jobs/")?..].to_owned()));
        let text = response.text().await.with_context(|| what.clone())?;
        let body: Value = match text.trim() {
            "" => Value::Null,
            json => serde_json::from_str(json).unwrap_or(Value::Null),
        };
        if status.is_success() {
            return Ok(Reply { body, job });
        }
        let error = &body["errors"][0];
        bail!(
            "{what} answered {status}: {}",
            error["detail"].as_str().unwrap_or("without a reason")
        )
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.call(Method::GET, path, None).await?.body)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        Ok(self.call(Method::POST, path, Some(body)).await?.body)
    }

    /// Deletes a resource, and waits for the end of the job if there is one.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let Reply { job, .. } = self.call(Method::DELETE, path, None).await?;
        let Some(job) = job else {
            return Ok(());
        };
        let waiting = async {
            loop {
                let state = self.get(&job).await?;
                match state["state"].as_str() {
                    Some("COMPLETE") => return Ok(()),
                    Some("FAILED") => bail!("the job of DELETE {path} failed: {}", state["errors"]),
                    _ => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        let done = tokio::time::timeout(JOB, waiting).await;
        done.with_context(|| format!("DELETE {path}: its job runs for {} s", JOB.as_secs()))?
    }

    /// Returns the resources of the first page of a list.
    pub async fn list(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Named>> {
        let resources = self.page(path, query).await?;
        resources.iter().map(named).collect()
    }

    /// Returns the first page of a list, with as many resources as a page may have.
    pub(crate) async fn page(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>> {
        let mut url = reqwest::Url::parse("http://api/").context("a constant")?;
        url.query_pairs_mut()
            .extend_pairs(query)
            .append_pair("per_page", "200");
        let path = format!("{path}?{}", url.query().unwrap_or_default());
        let page = self.get(&path).await?;
        let resources = page["resources"].as_array();
        let resources = resources.with_context(|| format!("{}{path} is no list", self.url))?;
        Ok(resources.clone())
    }

    /// Returns the only resource that the query finds. `what` names its kind in the error, and the option that chooses it.
    pub async fn only(
        &self,
        path: &str,
        what: &str,
        name: &str,
        query: &[(&str, &str)],
    ) -> Result<Named> {
        let mut found = self.list(path, query).await?;
        ensure!(
            !found.is_empty(),
            "there is no {what} {name:?} at {}, or this user may not see it: name another one with --{what}",
            self.url
        );
        Ok(found.remove(0))
    }
}

fn named(resource: &Value) -> Result<Named> {
    Ok(Named {
        guid: text(resource, &["guid"])?,
        name: resource["name"].as_str().unwrap_or_default().to_owned(),
    })
}

/// Returns the text at this path of keys.
pub(crate) fn text(value: &Value, keys: &[&str]) -> Result<String> {
    let found = keys.iter().fold(value, |value, key| &value[*key]);
    let found = found
        .as_str()
        .with_context(|| format!("{} is missing in {value}", keys.join(".")));
    Ok(found?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_missing_text_is_named() {
        let app = json!({"relationships": {"space": {"data": {"guid": "s"}}}});
        let path = ["relationships", "space", "data", "guid"];
        assert_eq!(text(&app, &path).unwrap(), "s");
        let error = text(&app, &["guid"]).unwrap_err().to_string();
        assert!(error.starts_with("guid is missing in {"), "{error}");
        assert!(named(&json!({"name": "n"})).is_err());
    }
}
