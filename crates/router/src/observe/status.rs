//! The operator's listener: `/routes` in gorouter's form, `/changes`, `/health`, `/healthz`, Prometheus `/metrics`.

use super::changes;
use super::varz::Varz;
use crate::config::Pages;
use crate::observe::metrics::text;
use crate::worker::Shared;
use anyhow::Result;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kit::CancellationToken;
use route_table::registry::{Balancing, Endpoint, Pool};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::net::TcpListener;

/// The state that the pages show, and the credentials that open them.
#[derive(Clone)]
pub(crate) struct Page {
    shared: Arc<Shared>,
    /// The one `Authorization` header that opens `/routes`, `/changes` and `/varz`.
    authorization: Arc<str>,
    varz: Arc<Varz>,
}

impl Page {
    pub(crate) fn new(shared: Arc<Shared>, user: &str, password: &str) -> Self {
        let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let host = shared.lasting.ip.to_string();
        let varz = Varz::new(shared.lasting.index, user, password, host);
        Self {
            shared,
            authorization: format!("Basic {login}").into(),
            varz: Arc::new(varz),
        }
    }
}

/// Serves all pages.
pub(crate) async fn serve(page: Page, listener: TcpListener, end: CancellationToken) -> Result<()> {
    let app = health_pages()
        .merge(metrics_pages())
        .merge(deprecated_pages())
        .route("/changes", get(changes))
        .with_state(page);
    kit::http::serve(listener, None, app, end).await
}

/// Serves some of the pages, where an original router has them.
pub(crate) async fn serve_pages(
    page: Page,
    listener: TcpListener,
    pages: Pages,
    tls: Option<Arc<rustls::ServerConfig>>,
    end: CancellationToken,
) -> Result<()> {
    let app = match pages {
        Pages::Health if page.shared.lasting.deprecated_pages => {
            health_pages().merge(deprecated_pages())
        }
        Pages::Health => health_pages(),
        Pages::Metrics => metrics_pages(),
    };
    kit::http::serve(listener, tls, app.with_state(page), end).await
}

fn health_pages() -> axum::Router<Page> {
    // Any method is permitted, as in gorouter: load balancers use different ones.
    axum::Router::new().route("/health", any(health)).route(
        "/is-process-alive-do-not-use-for-loadbalancing",
        any(async || "ok\n"),
    )
}

/// Returns the pages that gorouter shows beside the health page if it is configured to.
fn deprecated_pages() -> axum::Router<Page> {
    axum::Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/routes", get(routes))
        .route("/varz", get(varz))
}

fn metrics_pages() -> axum::Router<Page> {
    axum::Router::new().route("/metrics", get(metrics))
}

async fn health(State(page): State<Page>) -> Response {
    let headers = [
        (header::CACHE_CONTROL, "private, max-age=0"),
        (header::EXPIRES, "0"),
    ];
    if page.shared.healthy.load(Ordering::Relaxed) {
        (headers, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, headers).into_response()
    }
}

async fn metrics(State(page): State<Page>) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text::render(&page.shared),
    )
        .into_response()
}

/// Returns the response to a request without the right password.
fn refused(page: &Page, headers: &HeaderMap) -> Option<Response> {
    let given = headers
        .get(header::AUTHORIZATION)
        .map_or(&b""[..], |value| value.as_bytes());
    if same(given, page.authorization.as_bytes()) {
        return None;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"router\"")];
    Some((StatusCode::UNAUTHORIZED, challenge, "401 Unauthorized\n").into_response())
}

async fn varz(State(page): State<Page>, headers: HeaderMap) -> Response {
    if let Some(refused) = refused(&page, &headers) {
        return refused;
    }
    axum::Json(page.varz.page(&page.shared, Instant::now())).into_response()
}

async fn routes(State(page): State<Page>, headers: HeaderMap) -> Response {
    if let Some(refused) = refused(&page, &headers) {
        return refused;
    }
    let table: BTreeMap<String, Vec<Row>> = page
        .shared
        .registry
        .snapshot()
        .iter()
        // A route that only waits for its next endpoint counts as removed.
        .filter(|(_, pool)| !pool.has_left() || page.shared.lasting.keep_unregistered_routes)
        .map(|(uri, pool)| (uri.clone(), rows(pool)))
        .collect();
    axum::Json(table).into_response()
}

/// The query of `/changes`.
#[derive(Debug, Deserialize)]
struct After {
    /// The number of the last change that the reader knows.
    #[serde(default)]
    after: u64,
}

async fn changes(
    State(page): State<Page>,
    headers: HeaderMap,
    query: Result<Query<After>, QueryRejection>,
) -> Response {
    if let Some(refused) = refused(&page, &headers) {
        return refused;
    }
    let Ok(Query(After { after })) = query else {
        let text = "after must be the number of a change, e.g. /changes?after=0\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let news = page.shared.feed.after(after);
    axum::Json(changes::page(&page.shared.id, &news)).into_response()
}

/// Compares two values in a time that does not reveal where they differ.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    given.len() == wanted.len()
        && given
            .iter()
            .zip(wanted)
            .fold(0, |acc, (a, b)| acc | (a ^ b))
            == 0
}

/// An endpoint as gorouter's `route.Endpoint.MarshalJSON` shows it. The options are those of its own registration; they are
/// absent where it had none, whatever the route's balancing is.
#[derive(Serialize)]
struct Row {
    address: String,
    availability_zone: String,
    protocol: &'static str,
    tls: bool,
    ttl: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    route_service_url: String,
    tags: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    isolation_segment: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    private_instance_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    server_cert_domain_san: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_balancing_algorithm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_balance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route_policy_scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    route_policies: Vec<String>,
}

fn rows(pool: &Pool) -> Vec<Row> {
    pool.endpoints().iter().map(|e| row(e)).collect()
}

fn row(endpoint: &Endpoint) -> Row {
    let spec = endpoint.spec();
    let (balancing, policy) = (
        spec.options.balancing.as_ref(),
        spec.options.policy.as_ref(),
    );
    let hash = match balancing {
        Some(Balancing::Hash { header, balance }) => Some((header.clone(), *balance)),
        _ => None,
    };
    Row {
        address: endpoint.address().to_owned(),
        availability_zone: spec.availability_zone.to_owned(),
        protocol: spec.protocol.as_str(),
        tls: spec.tls,
        ttl: spec.stale_threshold.as_secs(),
        route_service_url: spec.route_service_url.to_owned(),
        tags: (!spec.tags.is_empty()).then(|| spec.tags.to_map()),
        isolation_segment: spec.isolation_segment.to_owned(),
        private_instance_id: spec.instance_id.to_owned(),
        server_cert_domain_san: spec.server_cert_domain_san.to_owned(),
        load_balancing_algorithm: balancing.map(Balancing::as_str),
        hash_header: hash.as_ref().map(|(header, _)| header.clone()),
        hash_balance: hash.map(|(_, balance)| balance),
        route_policy_scope: policy.map(|policy| policy.scope.as_str()),
        route_policies: policy.map_or_else(Vec::new, |policy| {
            policy.sources.iter().map(ToString::to_string).collect()
        }),
    }
}
