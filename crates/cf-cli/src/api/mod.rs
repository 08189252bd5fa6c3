//! The HTTP client: requests with token refresh, retries, warnings and Cloud Controller's error bodies; paging; jobs.

pub(crate) mod error;
pub(crate) mod logs;
pub(crate) mod token;
pub(crate) mod trace;
pub(crate) mod types;
pub(crate) mod uaa;

use crate::session::Session;
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use error::{ApiError, Unreachable};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};
use types::{Job, Page};

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) status_line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Response {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
    pub(crate) fn json<T: DeserializeOwned>(&self, url: &str) -> Result<T> {
        // An empty response (204, deletions) reads as {}.
        let body: &[u8] = if self.body.is_empty() {
            b"{}"
        } else {
            &self.body
        };
        serde_json::from_slice(body).with_context(|| format!("unexpected answer of {url}"))
    }
    fn location(&self) -> Option<String> {
        self.headers
            .get("location")
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned)
    }
}

/// A request whose body can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

impl Request {
    pub(crate) fn new(method: Method, url: impl Into<String>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("application/json"));
        Self {
            method,
            url: url.into(),
            headers,
            body: None,
        }
    }
    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self> {
        self.headers
            .insert("content-type", HeaderValue::from_static("application/json"));
        self.body = Some(serde_json::to_vec(body)?.into());
        Ok(self)
    }
    pub(crate) fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.headers
            .insert("content-type", HeaderValue::from_static(content_type));
        self.body = Some(body.into());
        self
    }
    pub(crate) fn header(mut self, name: &str, value: &str) -> Result<Self> {
        let name =
            HeaderName::try_from(name).with_context(|| format!("invalid header name {name:?}"))?;
        let mut value = HeaderValue::try_from(value)
            .with_context(|| format!("invalid value of header {name}"))?;
        value.set_sensitive(name == "authorization");
        self.headers.insert(name, value);
        Ok(self)
    }
}

/// Builds the connection pool. Certificates are verified against the system's CAs, or not at all.
pub(crate) fn http_client(skip_verification: bool, bypass_proxy: bool) -> Result<reqwest::Client> {
    let builder = || {
        let builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(6))
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none());
        let builder = builder.user_agent(concat!("cf/8.", env!("CARGO_PKG_VERSION"), " (cupola)"));
        if bypass_proxy {
            builder.no_proxy()
        } else {
            builder
        }
    };
    let trusting = if skip_verification {
        kit::tls::trusting_any_certificate()
    } else {
        // A machine without any CAs can still use http://.
        let mut trusted = kit::tls::Authorities::none();
        trusted.add_system();
        kit::tls::trusting(trusted)
    };
    builder()
        .tls_backend_preconfigured(trusting.with_no_client_auth())
        .build()
        .context("build HTTP client")
}

/// Returns how long to wait before the next poll: a tenth of the elapsed time, between 100 ms and 1 s.
pub(crate) fn poll_delay(elapsed: Duration) -> Duration {
    (elapsed / 10).clamp(Duration::from_millis(100), Duration::from_secs(1))
}

/// Encodes a value of a list filter. Commas separate the values, so a comma within a value is encoded.
pub(crate) fn filter(name: &str) -> String {
    name.replace(',', "%2C")
}

impl Session {
    /// Sends the request once and reads the whole response, whatever its status.
    pub(crate) async fn exchange(&self, request: Request) -> Result<Response> {
        self.trace.request(
            request.method.as_str(),
            &request.url,
            &request.headers,
            request.body.as_deref(),
        );
        let mut builder = self
            .http()?
            .request(request.method.clone(), &request.url)
            .headers(request.headers)
            .timeout(Duration::from_secs(120));
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        self.received(&request.url, builder.send().await).await
    }

    /// Reads a response to its end. Transport errors become [`Unreachable`].
    pub(crate) async fn received(
        &self,
        url: &str,
        sent: reqwest::Result<reqwest::Response>,
    ) -> Result<Response> {
        let response = sent.map_err(|e| Unreachable::new(url, e))?;
        let status = response.status();
        let (status_line, headers) = (
            format!("{:?} {}", response.version(), status),
            response.headers().clone(),
        );
        let body = response
            .bytes()
            .await
            .map_err(|e| Unreachable::new(url, e))?;
        self.trace.response(&status_line, &headers, &body);
        for warning in headers
            .get_all("x-cf-warnings")
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
        {
            let text = warning.trim().replace('+', " ");
            self.ui
                .warn(percent_encoding::percent_decode_str(&text).decode_utf8_lossy());
        }
        Ok(Response {
            status: status.as_u16(),
            status_line,
            headers,
            body,
        })
    }

    /// Sends the request with the user's token. The token is refreshed before it expires, and once more if the API calls it
    /// invalid. GET, PUT, PATCH and DELETE are repeated twice after a broken connection or a 500, 502, 503 or 504.
    pub(crate) async fn authorized(&self, request: Request) -> Result<Response> {
        let mut refreshed = false;
        let mut repeats = if request.method == Method::POST { 0 } else { 2 };
        loop {
            let token = self.fresh_token(false).await?;
            let answer = self
                .exchange(request.clone().header("authorization", &token)?)
                .await;
            match &answer {
                Ok(response)
                    if response.status == 401
                        && !refreshed
                        && self.can_refresh()
                        && error::is_invalid_token(&response.body) =>
                {
                    refreshed = true;
                    self.fresh_token(true).await?;
                    continue;
                }
                Ok(response) if repeats > 0 && matches!(response.status, 500 | 502 | 503 | 504) => {
                }
                Err(error)
                    if repeats > 0
                        && error
                            .downcast_ref::<Unreachable>()
                            .is_some_and(Unreachable::may_pass) => {}
                _ => return answer,
            }
            repeats -= 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Calls the API. The URL is `/v3/…` or a full URL. Any status other than 2xx is an [`ApiError`].
    pub(crate) async fn call(&self, request: Request) -> Result<Response> {
        let request = Request {
            url: self.api_url(&request.url),
            ..request
        };
        let (method, url) = (request.method.clone(), request.url.clone());
        let response = self.authorized(request).await?;
        if response.is_success() {
            Ok(response)
        } else {
            Err(ApiError::of(&method, &url, &response).into())
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Request::new(Method::GET, path)).await?.json(path)
    }

    /// Returns all resources of a list, page after page.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<T>> {
        let mut next = Some(with_query(path, query));
        let mut all = Vec::new();
        while let Some(url) = next.filter(|u| !u.is_empty()) {
            let page: Page<T> = self.get(&url).await?;
            all.extend(page.resources);
            next = page.pagination.next.and_then(|n| n.href);
        }
        Ok(all)
    }

    /// Returns the first resource of a list.
    pub(crate) async fn first<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>> {
        let mut query = query.to_vec();
        query.extend([("per_page", "1"), ("page", "1")]);
        let page: Page<T> = self.get(&with_query(path, &query)).await?;
        Ok(page.resources.into_iter().next())
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        self.call(Request::new(Method::POST, path).json(body)?)
            .await?
            .json(path)
    }
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        self.call(Request::new(Method::PATCH, path).json(body)?)
            .await?
            .json(path)
    }
    /// Deletes a resource, and waits for the job if there is one.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let response = self.call(Request::new(Method::DELETE, path)).await?;
        self.finish(&response).await
    }

    /// Waits for the job that a response names in `Location`, if any.
    pub(crate) async fn finish(&self, response: &Response) -> Result<()> {
        self.follow_job(response, true).await.map(drop)
    }

    /// Waits for the job that a response names, if any. Returns whether all is done: a caller who does not want to wait for brokers
    /// waits until one has accepted what the job is for.
    pub(crate) async fn follow_job(
        &self,
        response: &Response,
        waits_for_brokers: bool,
    ) -> Result<bool> {
        match response.location().filter(|_| response.status == 202) {
            Some(job) => self.wait_for_job(&job, waits_for_brokers).await,
            None => Ok(true),
        }
    }

    async fn wait_for_job(&self, url: &str, waits_for_brokers: bool) -> Result<bool> {
        let begun = Instant::now();
        loop {
            let job: Job = self.get(url).await?;
            match job.state.as_str() {
                "COMPLETE" => {
                    for warning in &job.warnings {
                        self.ui.warn(&warning.detail);
                    }
                    return Ok(true);
                }
                "POLLING" if !waits_for_brokers => return Ok(false),
                "FAILED" if job.errors.is_empty() => {
                    bail!("Job ({}) failed without a reason.", job.guid)
                }
                "FAILED" => bail!(
                    "{}",
                    job.errors
                        .iter()
                        .map(|e| e.detail.as_str())
                        .collect::<Vec<_>>()
                        .join("\n")
                ),
                _ => tokio::time::sleep(poll_delay(begun.elapsed())).await,
            }
        }
    }

    fn api_url(&self, path: &str) -> String {
        if path.starts_with("http://") || path.starts_with("https://") {
            return path.to_owned();
        }
        format!(
            "{}/{}",
            self.config().target.trim_end_matches('/'),
            path.trim_start_matches('/')
        )
    }
}

/// Returns `path?key=value&…` with encoded values.
pub(crate) fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEEP: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~')
        .remove(b'*');
    let mut url = path.to_owned();
    for (i, (key, value)) in query.iter().enumerate() {
        let separator = if i == 0 && !path.contains('?') {
            '?'
        } else {
            '&'
        };
        url.push_str(&format!(
            "{separator}{}={}",
            utf8_percent_encode(key, KEEP),
            utf8_percent_encode(value, KEEP)
        ));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_frequent_at_first() {
        assert_eq!(poll_delay(Duration::ZERO), Duration::from_millis(100));
        assert_eq!(
            poll_delay(Duration::from_secs(4)),
            Duration::from_millis(400)
        );
        assert_eq!(poll_delay(Duration::from_secs(60)), Duration::from_secs(1));
    }

    #[test]
    fn queries_are_encoded_and_commas_twice() {
        assert_eq!(
            with_query(
                "/v3/apps",
                &[("names", &filter("a b,c")), ("per_page", "1")]
            ),
            "/v3/apps?names=a%20b%252Cc&per_page=1"
        );
        assert_eq!(
            with_query("/v3/routes?x=1", &[("hosts", "")]),
            "/v3/routes?x=1&hosts="
        );
    }
}
