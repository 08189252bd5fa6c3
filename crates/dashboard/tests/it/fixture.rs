//! A dashboard with its peers.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dashboard::{Config, Dashboard, OAuth};
use kit::CancellationToken;
use kit::metrics::Observed;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use survey::RouterAddress;
use testkit::certs::shared_identity;
use testkit::components::{Bbs, CloudController, DOMAIN, Peers, Uaa};
use testkit::http::{answer, client, serve};
use testkit::nats::NatsServer;
use testkit::net::{free_port, listener};
use testkit::wait::wait_for;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use wire::bbs as m;

pub(crate) const EXTERNAL: &str = "http://dashboard.test";
/// The domain of the LRPs. The Cloud Controller does not look after it.
const DIEGO_DOMAIN: &str = "test";

/// The pages of a router, and what it answers to clients.
#[derive(Clone, Default)]
pub(crate) struct Pages(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    table: Value,
    changes: Vec<Value>,
    /// The lines of every app's log.
    lines: Vec<String>,
    /// The answer to a request of a client: the status, and the router's own error.
    answer: (u16, String),
    requests: Vec<String>,
    /// The trace of every request; none: the router has no taps.
    trace: Option<Value>,
}

impl Pages {
    pub(crate) fn show(&self, table: Value) {
        self.0.lock().unwrap().table = table;
    }

    /// Adds a change of the table that leads a URI to an address.
    pub(crate) fn change(&self, kind: &str, uri: &str, address: &str, app: &str, instance: &str) {
        let mut shown = self.0.lock().unwrap();
        let number = shown.changes.len() + 1;
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap();
        shown.changes.push(json!({
            "number": number, "time": now, "kind": kind, "source": "router.register", "uri": uri,
            "endpoint": {"address": address, "tls": true, "application_id": app, "instance_id": instance,
                "instance_index": "0", "server_cert_domain_san": instance, "component": "route-emitter"},
        }));
    }

    pub(crate) fn answer(&self, status: u16, error: &str) {
        self.0.lock().unwrap().answer = (status, error.to_owned());
    }

    pub(crate) fn trace(&self, trace: Value) {
        self.0.lock().unwrap().trace = Some(trace);
    }

    pub(crate) fn log(&self, line: &str) {
        self.0.lock().unwrap().lines.push(line.to_owned());
    }

    /// Returns the hosts and paths of the requests that came from clients.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.0.lock().unwrap().requests.clone()
    }

    fn operators(self) -> Router {
        Router::new()
            .route("/routes", get(routes))
            .route("/changes", get(changes))
            .route("/tap", get(tap))
            .with_state(self)
    }

    fn clients(self) -> Router {
        Router::new().fallback(front).with_state(self)
    }

    fn log_cache(self) -> Router {
        Router::new()
            .route("/api/v1/read/{app}", get(read))
            .with_state(self)
    }
}

async fn routes(
    State(pages): State<Pages>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Value>, (StatusCode, String)> {
    match query.get("at").map(String::as_str) {
        Some("early") => Err((StatusCode::GONE, "at=early is before 10:00\n".to_owned())),
        _ => Ok(Json(pages.0.lock().unwrap().table.clone())),
    }
}

async fn changes(
    State(pages): State<Pages>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let after: usize = query["after"].parse().unwrap();
    let shown = pages.0.lock().unwrap();
    let later: Vec<&Value> = shown.changes.iter().skip(after).collect();
    Json(json!({
        "router": "0-r1", "last": shown.changes.len(), "missed": 0, "since": "2026-11-30T10:00:00Z", "changes": later,
    }))
}

/// Streams the trace of another request and of the one that is followed.
async fn tap(
    State(pages): State<Pages>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<([(&'static str, &'static str); 1], String), StatusCode> {
    let shown = pages.0.lock().unwrap();
    let trace = shown.trace.clone().ok_or(StatusCode::NOT_FOUND)?;
    let mut other = trace.clone();
    other["request_id"] = json!("of-somebody-else");
    let opened = json!({"router": "0-r1", "host": query["host"], "limit": 1, "seconds": 1});
    let events = [("opened", opened), ("request", other), ("request", trace)];
    let text = events.map(|(name, data)| format!("event: {name}\ndata: {data}\n\n"));
    Ok(([("content-type", "text/event-stream")], text.concat()))
}

async fn front(
    State(pages): State<Pages>,
    headers: HeaderMap,
    uri: axum::http::Uri,
) -> (StatusCode, [(HeaderName, String); 2], &'static str) {
    let mut shown = pages.0.lock().unwrap();
    let host = headers["host"].to_str().unwrap();
    shown.requests.push(format!("{host}{uri}"));
    let (status, error) = shown.answer.clone();
    let headers = [
        (
            HeaderName::from_static("x-vcap-request-id"),
            "the-id".to_owned(),
        ),
        (HeaderName::from_static("x-cf-routererror"), error),
    ];
    (StatusCode::from_u16(status).unwrap(), headers, "hello")
}

async fn read(
    State(pages): State<Pages>,
    Path(app): Path<String>,
    headers: HeaderMap,
) -> Json<Value> {
    assert!(
        headers["authorization"]
            .to_str()
            .unwrap()
            .starts_with("Bearer ")
    );
    let shown = pages.0.lock().unwrap();
    let batch = shown.lines.iter().map(|line| {
        json!({"source_id": app, "tags": {"source_type": "RTR"}, "log": {"payload": STANDARD.encode(line)}})
    });
    Json(json!({"envelopes": {"batch": batch.collect::<Vec<_>>()}}))
}

pub(crate) struct Stage {
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) uaa: Uaa,
    pub(crate) bbs: clients::bbs::Client,
    pub(crate) nats: NatsServer,
    pub(crate) pages: Pages,
    pub(crate) observed: Observed,
    pub(crate) admin: String,
    pub(crate) controller: CloudController,
    _diego: Bbs,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stage {
    pub(crate) async fn start() -> Self {
        kit::logging::init("CUPOLA_LOG", "warn");
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let uaa = Uaa::start(&folder("uaa"), |config| {
            let signed_in = format!("{EXTERNAL}/signed-in");
            config.clients = vec![uaa::Client::dashboard("dash-secret", &signed_in)];
        })
        .await;
        let diego = Bbs::start(&folder("bbs"), &shared_identity(), "https://127.0.0.1:1").await;
        let peers = Peers {
            bbs_url: diego.url.clone(),
            uaa_url: uaa.url.clone(),
            identity: shared_identity(),
        };
        let controller = CloudController::start(&folder("cc"), &peers, |_| {}).await;
        let (shutdown, pages) = (CancellationToken::new(), Pages::default());
        pages.show(json!({}));
        pages.answer(200, "");
        let nats = NatsServer::start(free_port());
        let operators = serve(pages.clone().operators(), None, shutdown.clone()).await;
        let clients = serve(pages.clone().clients(), None, shutdown.clone()).await;
        let log_cache = serve(pages.clone().log_cache(), None, shutdown.clone()).await;
        let dashboard = Dashboard::build(Config {
            listener: listener().await,
            external_url: EXTERNAL.to_owned(),
            api_url: "https://api.test".to_owned(),
            cloud_controller_url: controller.url.clone(),
            log_cache_url: log_cache.url,
            oauth: OAuth {
                client_id: "dashboard".to_owned(),
                client_secret: "dash-secret".to_owned(),
                authorize_url: format!("{}/oauth/authorize", uaa.url),
                uaa_url: uaa.url.clone(),
            },
            bbs_url: diego.url.clone(),
            identity: shared_identity(),
            nats: NatsServer::config(nats.port()),
            routers: vec![RouterAddress {
                name: "r1".to_owned(),
                status_url: operators.url,
                user: "router-status".to_owned(),
                password: "secret".to_owned(),
                http_url: Some(clients.url),
                https_address: None,
                is_guess: false,
            }],
        })
        .unwrap();
        let (url, observed) = (format!("http://{}", dashboard.addr()), dashboard.observed());
        tokio::spawn(dashboard.run(shutdown.clone()));
        let admin = uaa.token("admin", "sesame").await;
        let stage = Self {
            url,
            http: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            bbs: diego.client(),
            uaa,
            nats,
            pages,
            observed,
            admin,
            controller,
            _diego: diego,
            shutdown,
            _dir: dir,
        };
        wait_for("the dashboard to be ready", async || {
            let unmet = stage.observed.readiness.unmet();
            unmet.is_empty().then_some(()).ok_or(unmet.join(", "))
        })
        .await;
        stage
    }

    /// Sends a GET request with a token, which has its scheme.
    pub(crate) async fn get_as(&self, token: &str, path: &str) -> (u16, Value) {
        let request = self.http.get(format!("{}{path}", self.url));
        let response = request.header("authorization", token).send().await.unwrap();
        answer(response).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.get_as(&self.admin, path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Sends a request to the Cloud Controller as the administrator.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let request = client().post(format!("{}{path}", self.controller.url));
        let request = request.header("authorization", &self.admin).json(&body);
        let (status, body) = answer(request.send().await.unwrap()).await;
        assert!(status < 300, "{path}: {status} {body}");
        body
    }

    /// Returns the guid of the first resource of a list of the Cloud Controller.
    pub(crate) async fn first(&self, path: &str) -> String {
        let request = client().get(format!("{}{path}", self.controller.url));
        let response = request.header("authorization", &self.admin).send().await;
        let (_, body) = answer(response.unwrap()).await;
        body["resources"][0]["guid"].as_str().unwrap().to_owned()
    }

    /// Creates an app in a space and returns its guid.
    pub(crate) async fn app(&self, name: &str, space: &str) -> String {
        let body = json!({"name": name, "relationships": {"space": {"data": {"guid": space}}}});
        let app = self.post("/v3/apps", body).await;
        app["guid"].as_str().unwrap().to_owned()
    }

    /// Creates a user who develops in a space, and returns a token.
    pub(crate) async fn developer(&self, name: &str, space: &str) -> String {
        let user = json!({"userName": name, "password": "secret", "emails": [{"value": name}]});
        let request = client().post(format!("{}/Users", self.uaa.url));
        let request = request.header("authorization", &self.admin).json(&user);
        let (status, user) = answer(request.send().await.unwrap()).await;
        assert_eq!(status, 201, "{user}");
        let token = self.uaa.token(name, "secret").await;
        // The Cloud Controller stores a user whom it sees.
        let seen = client().get(format!("{}/v3/stacks", self.controller.url));
        let seen = seen.header("authorization", &token).send().await.unwrap();
        assert_eq!(seen.status(), 200);
        let organization = self.first("/v3/organizations?names=demo").await;
        for (kind, place, guid) in [
            ("organization_user", "organization", organization.as_str()),
            ("space_developer", "space", space),
        ] {
            let body = json!({"type": kind, "relationships": {
                "user": {"data": {"guid": user["id"]}}, place: {"data": {"guid": guid}}}});
            self.post("/v3/roles", body).await;
        }
        token
    }

    /// Makes an app run: the BBS gets its desired LRP, and a cell that the test plays starts the instance.
    pub(crate) async fn run(&self, app: &str, name: &str, uri: &str, port: u32) {
        self.bbs.desire_lrp(desired(app, name, uri)).await.unwrap();
        let (key, instance) = (key(app), instance(app));
        self.bbs
            .claim(&m::ClaimActualLrpRequest {
                process_guid: key.process_guid.clone(),
                index: 0,
                instance_key: Some(instance.clone()),
            })
            .await
            .unwrap();
        self.bbs
            .start(&m::StartActualLrpRequest {
                key: Some(key),
                instance_key: Some(instance),
                net_info: Some(m::ActualLrpNetInfo {
                    address: "10.0.0.1".to_owned(),
                    instance_address: "10.255.0.3".to_owned(),
                    ports: vec![m::PortMapping {
                        container_port: 8080,
                        host_port: 0,
                        container_tls_proxy_port: 61001,
                        host_tls_proxy_port: port,
                    }],
                    preferred_address: m::PreferredAddress::Host as i32,
                    ..m::ActualLrpNetInfo::default()
                }),
                routable: Some(true),
                ..m::StartActualLrpRequest::default()
            })
            .await
            .unwrap();
    }

    /// Waits until the list of routes has a route with this state, and returns it.
    pub(crate) async fn route(&self, uri: &str, state: &str) -> Value {
        wait_for(&format!("{uri} to be {state}"), async || {
            let found = self.get(&format!("/api/v1/routes?q={uri}")).await;
            let rows = found["rows"].as_array().unwrap().clone();
            let row = rows
                .into_iter()
                .find(|row| row["uri"] == uri && row["state"] == state);
            row.ok_or(found.to_string())
        })
        .await
    }
}

pub(crate) fn process(app: &str) -> String {
    format!("{app}-version")
}

fn key(app: &str) -> m::ActualLrpKey {
    m::ActualLrpKey {
        process_guid: process(app),
        index: 0,
        domain: DIEGO_DOMAIN.to_owned(),
    }
}

fn instance(app: &str) -> m::ActualLrpInstanceKey {
    m::ActualLrpInstanceKey {
        instance_guid: format!("instance-{app}"),
        cell_id: "cell-1".to_owned(),
    }
}

fn desired(app: &str, name: &str, uri: &str) -> m::DesiredLrp {
    let routes = json!([{"hostnames": [uri], "port": 8080, "generation": 3}]).to_string();
    let tag = m::MetricTagValue {
        static_value: name.to_owned(),
        ..m::MetricTagValue::default()
    };
    m::DesiredLrp {
        process_guid: process(app),
        domain: DIEGO_DOMAIN.to_owned(),
        root_fs: "preloaded:cflinuxfs4".to_owned(),
        instances: 1,
        action: Some(m::Action {
            run: Some(m::RunAction {
                path: "/tmp/lifecycle/launcher".to_owned(),
                user: "vcap".to_owned(),
                ..m::RunAction::default()
            }),
            ..m::Action::default()
        }),
        memory_mb: 64,
        disk_mb: 128,
        log_guid: app.to_owned(),
        ports: vec![8080],
        routes: Some(m::ProtoRoutes {
            routes: [("cf-router".to_owned(), routes.into_bytes())].into(),
        }),
        metric_tags: [("app_name".to_owned(), tag)].into(),
        ..m::DesiredLrp::default()
    }
}

/// Returns the host of an app of the Cloud Controller's domain.
pub(crate) fn host(name: &str) -> String {
    format!("{name}.{DOMAIN}")
}
