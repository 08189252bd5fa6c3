//! The operator's listener: `/routes` in gorouter's form, `/changes`, `/route`, `/failures`, `/tap`, `/health`, `/healthz`, Prometheus `/metrics`.

use super::changes;
use super::table::{self, Unknown};
use super::trace::page;
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
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};
use tokio::net::TcpListener;
use wire::router::{FAILURES_PATH, TAP_PATH, VIEW_PATH};

/// The state that the pages show, and the credentials that open them.
#[derive(Clone)]
pub(crate) struct Page {
    shared: Arc<Shared>,
    /// The one `Authorization` header that opens `/routes`, `/changes`, `/route`, `/failures`, `/tap` and `/varz`.
    authorization: Arc<str>,
    varz: Arc<Varz>,
    /// The token that ends streams.
    end: CancellationToken,
}

impl Page {
    /// Creates the pages. `end`: the token that ends their streams, because no connection may outlive the pages.
    pub(crate) fn new(
        shared: Arc<Shared>,
        user: &str,
        password: &str,
        end: CancellationToken,
    ) -> Self {
        let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let host = shared.lasting.ip.to_string();
        let varz = Varz::new(shared.lasting.index, user, password, host);
        Self {
            shared,
            authorization: format!("Basic {login}").into(),
            varz: Arc::new(varz),
            end,
        }
    }
}

/// Serves all pages.
pub(crate) async fn serve(page: Page, listener: TcpListener, end: CancellationToken) -> Result<()> {
    let app = health_pages()
        .merge(metrics_pages())
        .merge(deprecated_pages())
        .route("/changes", get(changes))
        .route(VIEW_PATH, get(view))
        .route(FAILURES_PATH, get(failures))
        .route(TAP_PATH, get(tap))
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

/// The query of `/routes`.
#[derive(Debug, Deserialize)]
struct At {
    /// The time of the table; none means now.
    at: Option<String>,
}

async fn routes(
    State(page): State<Page>,
    headers: HeaderMap,
    query: Result<Query<At>, QueryRejection>,
) -> Response {
    if let Some(refused) = refused(&page, &headers) {
        return refused;
    }
    let Ok(Query(At { at })) = query else {
        let text = "at must be one time, e.g. /routes?at=2026-11-30T10:04:31Z\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let Some(at) = at else {
        return axum::Json(table::now(&page.shared)).into_response();
    };
    match table::at(&page.shared, &at, SystemTime::now()) {
        Ok(table) => axum::Json(table).into_response(),
        Err(unknown) => {
            let status = match unknown {
                Unknown::NotKept { .. } => StatusCode::GONE,
                Unknown::Unreadable(_) | Unknown::Future { .. } => StatusCode::BAD_REQUEST,
            };
            (status, format!("{unknown}\n")).into_response()
        }
    }
}

/// The query of `/changes` and `/failures`.
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

async fn failures(
    State(page): State<Page>,
    headers: HeaderMap,
    query: Result<Query<After>, QueryRejection>,
) -> Response {
    if let Some(refused) = refused(&page, &headers) {
        return refused;
    }
    let Ok(Query(After { after })) = query else {
        let text = "after must be the number of a request, e.g. /failures?after=0\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let shared = &page.shared;
    axum::Json(shared.failures.after(&shared.id, after)).into_response()
}

/// The query of `/route`.
#[derive(Debug, Deserialize)]
struct Url {
    url: String,
}

async fn view(
    State(page): State<Page>,
    headers: HeaderMap,
    query: Result<Query<Url>, QueryRejection>,
) -> Response {
    if let Some(refused) = refused(&page, &headers) {
        return refused;
    }
    let Ok(Query(Url { url })) = query else {
        let text = "url must name a host, e.g. /route?url=app.example.com/path\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    axum::Json(super::view::page(&page.shared, &url, Instant::now())).into_response()
}

async fn tap(
    State(page): State<Page>,
    headers: HeaderMap,
    query: Result<Query<page::Query>, QueryRejection>,
) -> Response {
    if let Some(refused) = refused(&page, &headers) {
        return refused;
    }
    match query {
        Ok(Query(query)) => {
            let Shared { tracer, id, .. } = &*page.shared;
            page::open(tracer.taps(), id, query, page.end.clone())
        }
        Err(fault) => {
            let text = format!(
                "{}: use e.g. /tap?host=app.example.com&limit=100&seconds=600\n",
                fault.body_text()
            );
            (StatusCode::BAD_REQUEST, text).into_response()
        }
    }
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
