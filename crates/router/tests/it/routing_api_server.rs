//! A Routing API and its UAA, for routers and registrars: real HTTPS, real server-sent events, routes that the test makes. Both
//! are implementations of the test, not components of ours.

use crate::certs::Ca;
use crate::world::free_port;
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use clients::http::{Authorities, Tls};
use clients::routing_api::Config;
use clients::uaa::ClientCredentials;
use futures::StreamExt as _;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use kit::CancellationToken;
use kit::tls::{ClientAuth, Identity, server_config};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub(crate) struct RoutingApiServer {
    pub(crate) ca: Ca,
    api_port: u16,
    uaa_port: u16,
    state: Arc<Mutex<Happened>>,
    stop: CancellationToken,
}

/// The state of both servers, and the requests that they got.
#[derive(Default)]
pub(crate) struct Happened {
    routes: Vec<Value>,
    groups: Vec<Value>,
    streams: Vec<UnboundedSender<Bytes>>,
    tokens: Vec<String>,
    /// The number of all tokens that were issued.
    pub(crate) tokens_given: usize,
    /// The requests about TCP routes: the end of the path, and the body.
    pub(crate) tcp: Vec<(String, Value)>,
    pub(crate) lists_read: usize,
    pub(crate) refused: usize,
}

type Shared = Arc<Mutex<Happened>>;

pub(crate) const CLIENT: (&str, &str) = ("gorouter", "a:secret %");

impl RoutingApiServer {
    /// Creates the servers, which do not listen yet.
    pub(crate) fn new() -> Self {
        Self {
            ca: Ca::new(),
            api_port: free_port(),
            uaa_port: free_port(),
            state: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    pub(crate) async fn started() -> Self {
        let server = Self::new();
        server.start().await;
        server
    }

    /// Starts both; the Routing API requires a certificate of the authority.
    pub(crate) async fn start(&self) {
        self.start_as(&self.ca.issue(&["127.0.0.1"])).await;
    }

    /// Starts both with a certificate of the caller's.
    pub(crate) async fn start_as(&self, identity: &Identity) {
        let uaa = axum::Router::new().route("/oauth/token", post(token));
        let api = axum::Router::new()
            .route("/routing/v1/routes", get(routes))
            .route("/routing/v1/events", get(events))
            .route("/routing/v1/router_groups", get(router_groups))
            .route("/routing/v1/tcp_routes/create", post(tcp_routes))
            .route("/routing/v1/tcp_routes/delete", post(tcp_routes));
        for (port, app, auth) in [
            (self.uaa_port, uaa, ClientAuth::None),
            (self.api_port, api, ClientAuth::Required),
        ] {
            let tls = server_config(identity, auth, &["http/1.1"]).unwrap();
            let listener = kit::http::bind(([127, 0, 0, 1], port).into());
            let listener = listener.await.unwrap();
            let app = app.with_state(self.state.clone());
            let stop = self.stop.clone();
            tokio::spawn(kit::http::serve(listener, Some(tls), app, stop));
        }
    }

    pub(crate) fn happened(&self) -> MutexGuard<'_, Happened> {
        self.state.lock().unwrap()
    }

    /// Sets the routes that a list contains from now on.
    pub(crate) fn set_routes(&self, routes: &[Value]) {
        self.happened().routes = routes.to_vec();
    }

    pub(crate) fn set_group(&self, name: &str, guid: &str) {
        let group =
            json!({"name": name, "guid": guid, "type": "tcp", "reservable_ports": "1024-2048"});
        self.happened().groups = vec![group];
    }

    /// Sends an event to all listeners and returns their number.
    pub(crate) fn send_event(&self, name: &str, route: &Value) -> usize {
        let text = Bytes::from(format!("id: 1\nevent: {name}\ndata: {route}\n\n"));
        let streams = &mut self.happened().streams;
        streams.retain(|stream| stream.unbounded_send(text.clone()).is_ok());
        streams.len()
    }

    /// Invalidates all tokens and ends all streams.
    pub(crate) fn revoke_tokens(&self) {
        let mut state = self.happened();
        state.tokens.clear();
        state.streams.clear();
    }

    pub(crate) fn identity(&self) -> Identity {
        self.ca.issue(&["router"])
    }

    pub(crate) fn api_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }

    pub(crate) fn uaa_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.uaa_port)
    }

    /// Returns the configuration of a client that presents this identity, if any.
    pub(crate) fn config(&self, identity: Option<Identity>) -> Config {
        let (id, secret) = CLIENT;
        Config {
            url: self.api_url(),
            tls: Tls {
                authorities: Authorities::Pem(self.ca.pem.clone()),
                identity: identity.map(|own| (own.cert_pem, own.key_pem)),
            },
            oauth: Some(ClientCredentials {
                url: self.uaa_url(),
                key: "oauth.token_endpoint",
                id: id.into(),
                secret: secret.into(),
                tls: Tls {
                    authorities: Authorities::Any,
                    identity: None,
                },
                max_retries: 3,
                retry_interval: Duration::from_millis(10),
                expiration_buffer: Duration::from_secs(30),
            }),
        }
    }

    /// Returns the configuration of a client that the API accepts.
    pub(crate) fn accepted(&self) -> Config {
        self.config(Some(self.identity()))
    }
}

impl Drop for RoutingApiServer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.happened().streams.clear();
    }
}

/// Returns a route as a Routing API shows it.
pub(crate) fn route(uri: &str, port: u16, ttl: u32, (guid, index): (&str, u32)) -> Value {
    json!({"route": uri, "port": port, "ip": "127.0.0.1", "ttl": ttl, "log_guid": "from-the-api",
           "modification_tag": {"guid": guid, "index": index}})
}

async fn token(State(state): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let (id, secret) = CLIENT;
    let encoded = secret
        .replace('%', "%25")
        .replace(':', "%3A")
        .replace(' ', "+");
    let login = format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{id}:{encoded}"))
    );
    if headers["authorization"] != login || !body.contains("grant_type=client_credentials") {
        return (StatusCode::UNAUTHORIZED, "{\"error\":\"unauthorized\"}").into_response();
    }
    let mut state = state.lock().unwrap();
    state.tokens_given += 1;
    let token = format!("token-{}", state.tokens_given);
    state.tokens.push(token.clone());
    Json(json!({"access_token": token, "token_type": "bearer", "expires_in": 600})).into_response()
}

/// Returns the answer to a client without a valid token; `None`: the token is valid.
fn refusal(state: &mut Happened, headers: &HeaderMap) -> Option<Response> {
    let given = headers.get("authorization").and_then(|v| v.to_str().ok());
    let token = given.and_then(|given| given.strip_prefix("bearer "));
    if token.is_some_and(|token| state.tokens.iter().any(|known| known == token)) {
        return None;
    }
    state.refused += 1;
    let error = json!({"name": "UnauthorizedError", "message": "Token is expired"});
    Some((StatusCode::UNAUTHORIZED, Json(error)).into_response())
}

async fn routes(State(state): State<Shared>, headers: HeaderMap) -> Response {
    let mut state = state.lock().unwrap();
    if let Some(refusal) = refusal(&mut state, &headers) {
        return refusal;
    }
    state.lists_read += 1;
    Json(&state.routes).into_response()
}

async fn events(State(state): State<Shared>, headers: HeaderMap) -> Response {
    let mut state = state.lock().unwrap();
    if let Some(refusal) = refusal(&mut state, &headers) {
        return refusal;
    }
    let (sender, receiver) = unbounded();
    state.streams.push(sender);
    let body = Body::from_stream(receiver.map(Ok::<_, std::io::Error>));
    ([("content-type", "text/event-stream; charset=utf-8")], body).into_response()
}

async fn router_groups(
    State(state): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut state = state.lock().unwrap();
    if let Some(refusal) = refusal(&mut state, &headers) {
        return refusal;
    }
    let name = &query["name"];
    let found: Vec<&Value> = state
        .groups
        .iter()
        .filter(|g| g["name"] == **name)
        .collect();
    if found.is_empty() {
        let error = json!({"name": "ResourceNotFoundError", "message": "Router Group not found"});
        return (StatusCode::NOT_FOUND, Json(error)).into_response();
    }
    Json(found).into_response()
}

async fn tcp_routes(
    State(state): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    Json(routes): Json<Value>,
) -> Response {
    let mut state = state.lock().unwrap();
    if let Some(refusal) = refusal(&mut state, &headers) {
        return refusal;
    }
    let verb = uri.path().rsplit('/').next().unwrap_or_default();
    state.tcp.push((verb.to_owned(), routes));
    StatusCode::CREATED.into_response()
}
