//! Asks a router: its page about the URL, and a request through it. An original gorouter has only the whole table.

use crate::{LIMIT, within};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Instant;
use why::{Probe, Router};
use wire::router::{EndpointView, RouteView, VIEW_PATH};

/// A router, and the right to read its operator's pages.
#[derive(Clone)]
pub struct RouterAddress {
    /// The name for people.
    pub name: String,
    /// The operator's listener: `http://127.0.0.1:8082`.
    pub status_url: String,
    pub user: String,
    pub password: String,
    /// The listener for requests, to which a request is sent: `http://127.0.0.1:80`. `None`: no request is sent.
    pub http_url: Option<String>,
}

impl std::fmt::Debug for RouterAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterAddress")
            .field("name", &self.name)
            .field("status_url", &self.status_url)
            .finish_non_exhaustive()
    }
}

impl RouterAddress {
    pub(crate) async fn ask(&self, url: &str) -> Router {
        // The page is read after the request, so that it shows a failure of this request, too.
        let probe = match &self.http_url {
            Some(base) => Some(within(probe(base, url)).await),
            None => None,
        };
        Router {
            name: self.name.clone(),
            view: within(self.view(url)).await,
            probe,
        }
    }

    async fn view(&self, url: &str) -> Result<RouteView> {
        let http = client()?;
        let get = |path: &str| {
            let request = http.get(format!("{}{path}", self.status_url));
            request.basic_auth(&self.user, Some(&self.password))
        };
        let response = get(VIEW_PATH).query(&[("url", url)]).send().await;
        let response = response.with_context(|| format!("query {}", self.status_url))?;
        if response.status().is_success() {
            return response.json().await.context("decode its page");
        }
        let is_original = response.status().as_u16() == 404;
        ensure!(is_original, "it answered with status {}", response.status());
        let table = get("/routes").send().await?.error_for_status()?;
        let table: Value = table.json().await.context("decode its table")?;
        Ok(of_table(&table, url))
    }
}

/// Returns what the table of an original gorouter shows about a URL.
fn of_table(table: &Value, url: &str) -> RouteView {
    let routes = table.as_object().into_iter().flatten();
    let route = routes
        .filter(|(uri, _)| why::serves(uri, url))
        // A route without a wildcard is more specific, and then a longer path is.
        .max_by_key(|(uri, _)| (!uri.starts_with('*'), uri.len()));
    let endpoints = route.and_then(|(_, endpoints)| endpoints.as_array());
    let endpoints = endpoints.into_iter().flatten().filter_map(|endpoint| {
        let endpoint: Result<EndpointView, _> = serde_json::from_value(endpoint.clone());
        endpoint.ok()
    });
    RouteView {
        route: route.map(|(uri, _)| uri.clone()),
        endpoints: endpoints.collect(),
        ..RouteView::default()
    }
}

/// Sends a request for the URL through a router.
async fn probe(base: &str, url: &str) -> Result<Probe> {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, path) = match url.find('/') {
        Some(at) => url.split_at(at),
        None => (url, "/"),
    };
    let host = authority.split(':').next().unwrap_or_default();
    let began = Instant::now();
    let response = client()?
        .get(format!("{base}{path}"))
        .header("host", host)
        .header("user-agent", "cupola why")
        .send()
        .await
        .with_context(|| format!("send a request to {base}"))?;
    let header = |name: &str| {
        let value = response.headers().get(name);
        let text = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        text.unwrap_or_default()
    };
    Ok(Probe {
        status: response.status().as_u16(),
        router_error: header("x-cf-routererror"),
        request_id: header("x-vcap-request-id"),
        milliseconds: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("build HTTP client")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_of_a_gorouter_is_a_page_without_ages() {
        let endpoint = |address: &str| json!({"address": address, "tls": true, "private_instance_id": "i1", "server_cert_domain_san": "i1", "tags": null, "ttl": 120});
        let table = json!({
            "a.test": [endpoint("10.0.0.1:1")],
            "a.test/x": [endpoint("10.0.0.1:2")],
            "*.test": [endpoint("10.0.0.1:3")],
        });
        let view = of_table(&table, "http://a.test/x/y");
        assert_eq!(view.route.as_deref(), Some("a.test/x"));
        assert_eq!(view.endpoints.len(), 1);
        assert_eq!(view.endpoints[0].address, "10.0.0.1:2");
        assert_eq!(view.endpoints[0].instance_guid, "i1");
        assert_eq!(
            (view.endpoints[0].message_age, view.bus_is_connected),
            (None, None)
        );
        assert_eq!(of_table(&table, "b.test").route.as_deref(), Some("*.test"));
        assert_eq!(of_table(&table, "b.example").route, None);
    }
}
