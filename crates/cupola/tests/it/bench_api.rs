//! `cupola bench propagation` by an API, as a developer types it: a small Cloud Controller of the test publishes to a real bus, and a real
//! router serves the routes.

use crate::edge::Edge;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use kit::CancellationToken;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use testkit::nats::NatsServer;
use testkit::wait::block_until;

/// A token of the user `me` that is valid for decades; nobody checks its signature here.
const TOKEN: &str = "bearer e30.eyJ1c2VyX25hbWUiOiJtZSIsInVzZXJfaWQiOiJ1IiwiY2xpZW50X2lkIjoiY2YiLCJleHAiOjQxMDI0NDQ4MDB9.sig";
const DOMAIN: &str = "apps.b.test";

/// The state of the Cloud Controller.
struct Controller {
    bus: async_nats::Client,
    /// The port of the app.
    app: u16,
    /// Whether mapped routes are published.
    publishes: bool,
    /// The hosts of the routes by guid.
    routes: Mutex<BTreeMap<String, String>>,
    /// The number of routes that were created.
    created: Mutex<usize>,
}

impl Controller {
    async fn publish(&self, subject: &'static str, host: &str) {
        if !self.publishes {
            return;
        }
        let message = json!({
            "host": "127.0.0.1", "port": self.app, "uris": [format!("{host}.{DOMAIN}")], "app": "app",
            "private_instance_index": "0",
        });
        let payload = message.to_string().into();
        self.bus.publish(subject, payload).await.unwrap();
        self.bus.flush().await.unwrap();
    }

    fn host(&self, route: &str) -> Option<String> {
        self.routes.lock().unwrap().get(route).cloned()
    }
}

type Shared = State<Arc<Controller>>;

async fn is_authorized(request: Request, next: Next) -> Response {
    let token = request.headers().get("authorization");
    match token.is_some_and(|token| token == TOKEN) {
        true => next.run(request).await,
        false => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn apps() -> Json<Value> {
    Json(json!({"resources": [{"guid": "app", "name": "proxy"}]}))
}

async fn app() -> Json<Value> {
    let space = json!({"data": {"guid": "space"}});
    Json(
        json!({"guid": "app", "name": "proxy", "state": "STARTED", "relationships": {"space": space}}),
    )
}

async fn stats() -> Json<Value> {
    Json(json!({"resources": [{"type": "web", "index": 0, "state": "RUNNING"}]}))
}

async fn space() -> Json<Value> {
    let org = json!({"data": {"guid": "org"}});
    Json(json!({"guid": "space", "relationships": {"organization": org}}))
}

async fn domain() -> Json<Value> {
    Json(json!({"guid": "domain", "name": DOMAIN}))
}

async fn routes(
    State(controller): Shared,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let hosts: Vec<&str> = query["hosts"].split(',').collect();
    assert_eq!(query["space_guids"], "space");
    let routes = controller.routes.lock().unwrap();
    let found = routes
        .iter()
        .filter(|(_, host)| hosts.contains(&host.as_str()));
    let found: Vec<Value> = found
        .map(|(guid, host)| json!({"guid": guid, "host": host}))
        .collect();
    Json(json!({"resources": found}))
}

async fn create(State(controller): Shared, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    let mut created = controller.created.lock().unwrap();
    *created += 1;
    let guid = format!("route-{created}");
    let host = body["host"].as_str().unwrap().to_owned();
    let mut routes = controller.routes.lock().unwrap();
    routes.insert(guid.clone(), host);
    (StatusCode::CREATED, Json(json!({"guid": guid})))
}

async fn map(State(controller): Shared, Path(route): Path<String>) -> Response {
    let Some(host) = controller.host(&route) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    controller.publish("router.register", &host).await;
    let own = json!({"guid": format!("to-{route}"), "app": {"guid": "app"}});
    Json(json!({"destinations": [own]})).into_response()
}

async fn unmap(
    State(controller): Shared,
    Path((route, destination)): Path<(String, String)>,
) -> StatusCode {
    let Some(host) = controller.host(&route) else {
        return StatusCode::NOT_FOUND;
    };
    assert_eq!(destination, format!("to-{route}"));
    controller.publish("router.unregister", &host).await;
    StatusCode::NO_CONTENT
}

async fn remove(State(controller): Shared, Path(route): Path<String>) -> Response {
    let host = controller.routes.lock().unwrap().remove(&route);
    let Some(host) = host else {
        return StatusCode::NOT_FOUND.into_response();
    };
    controller.publish("router.unregister", &host).await;
    // The API names itself by an address that this machine does not reach.
    let job = [("location", "https://api.b.test/v3/jobs/1")];
    (StatusCode::ACCEPTED, job).into_response()
}

async fn job() -> Json<Value> {
    Json(json!({"guid": "1", "state": "COMPLETE"}))
}

/// The running API. It ends with the test.
struct Api {
    controller: Arc<Controller>,
    _runtime: tokio::runtime::Runtime,
}

impl Api {
    /// Starts the API beside a router, and logs the user of the router's commands in.
    fn start(edge: &Edge, publishes: bool) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let config = NatsServer::config(edge.bus().port());
        let (controller, url) = runtime.block_on(async {
            let connecting = clients::nats::connect(&config, "api", |_| std::future::ready(()));
            let controller = Arc::new(Controller {
                bus: connecting.await.unwrap(),
                app: backend(),
                publishes,
                routes: Mutex::default(),
                created: Mutex::default(),
            });
            let router = Router::new()
                .route("/v3/apps", get(apps))
                .route("/v3/apps/{guid}", get(app))
                .route("/v3/apps/{guid}/processes/web/stats", get(stats))
                .route("/v3/spaces/{guid}", get(space))
                .route("/v3/organizations/{guid}/domains/default", get(domain))
                .route("/v3/routes", get(routes).post(create))
                .route("/v3/routes/{guid}", delete(remove))
                .route("/v3/routes/{guid}/destinations", post(map))
                .route("/v3/routes/{guid}/destinations/{to}", delete(unmap))
                .route("/v3/jobs/{guid}", get(job))
                .layer(middleware::from_fn(is_authorized))
                .with_state(controller.clone());
            let never = CancellationToken::new();
            let peer = testkit::http::serve(router, None, never).await;
            (controller, peer.url)
        });
        let login = json!({"Target": url, "AccessToken": TOKEN, "SpaceFields": {"GUID": "space"}});
        std::fs::create_dir(edge.file(".cf")).unwrap();
        std::fs::write(edge.file(".cf/config.json"), login.to_string()).unwrap();
        Self {
            controller,
            _runtime: runtime,
        }
    }

    fn left(&self) -> Vec<String> {
        let routes = self.controller.routes.lock().unwrap();
        routes.values().cloned().collect()
    }
}

/// Starts an app that answers every request, and returns its port. It ends with the test's process.
fn backend() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                while stream.read(&mut head).is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// Returns the arguments of a measurement at the router.
fn arguments(edge: &Edge, more: &str) -> Vec<String> {
    let line = format!(
        "bench propagation --app proxy --router {} {more}",
        edge.router()
    );
    line.split_whitespace().map(str::to_owned).collect()
}

fn bench(edge: &Edge, more: &str) -> (Option<i32>, String, String) {
    let arguments = arguments(edge, more);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    edge.cupola(&words)
}

#[test]
fn map_route_is_measured_and_all_routes_are_deleted() {
    let edge = Edge::start();
    let api = Api::start(&edge, true);
    let report = edge.file("report.json");
    let more = format!(
        "--probes 8 --routes-per-app 3 --churn 10 --expect hello --json {}",
        report.display()
    );
    let (code, out, complaint) = bench(&edge, &more);
    assert_eq!(code, Some(0), "{out}{complaint}");
    for part in [
        "map: sent → answered",
        "unmap: answered → gone",
        "by the api, 8 measured routes, 3 other routes",
        " 0 wrong answers: ",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    let report: Value = serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!(report["means"], "api");
    assert_eq!(report["churn"]["failed"], 0, "{report}");
    let rows = report["rows"].as_array().unwrap();
    assert!(
        rows.iter().all(|row| row["summary"]["count"] == 8),
        "{report}"
    );
    assert_eq!(api.left(), Vec::<String>::new());
    // The probes, the present routes and twice as many as the changes per second.
    assert_eq!(*api.controller.created.lock().unwrap(), 8 + 3 + 20);
}

#[test]
fn an_interrupted_measurement_deletes_its_routes() {
    let edge = Edge::start();
    let api = Api::start(&edge, true);
    let arguments = arguments(&edge, "--probes 5000");
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut measuring = edge.begin(&words);
    block_until("some routes", || api.left().len() > 20);
    measuring.interrupt();
    assert_eq!(measuring.ended(), Some(1));
    assert_eq!(api.left(), Vec::<String>::new());
}

#[test]
fn a_route_that_is_never_served_is_reported_and_deleted() {
    let edge = Edge::start();
    let api = Api::start(&edge, false);
    let (code, _, complaint) = bench(&edge, "--probes 2 --patience 1");
    assert_eq!(code, Some(1), "{complaint}");
    let reason = "was made, and a router did not serve it within 1 s (no route)";
    assert!(complaint.contains(reason), "{complaint}");
    assert!(complaint.contains("name it with --router"), "{complaint}");
    assert_eq!(api.left(), Vec::<String>::new());
}

#[test]
fn an_answer_without_the_expected_text_is_another_apps() {
    let edge = Edge::start();
    let api = Api::start(&edge, true);
    let (code, _, complaint) = bench(&edge, "--probes 1 --patience 1 --expect goodbye");
    assert_eq!(code, Some(1), "{complaint}");
    let reason = "another app answered: 200 without \"goodbye\"";
    assert!(complaint.contains(reason), "{complaint}");
    assert_eq!(api.left(), Vec::<String>::new());
}

#[test]
fn an_app_and_a_domain_that_are_missing_are_named() {
    let edge = Edge::start();
    let _api = Api::start(&edge, true);
    let (code, _, complaint) = bench(&edge, "--apps 2");
    assert_eq!(code, Some(1), "{complaint}");
    let reason = "--apps 2: use a number from 1 to 1 (by the API), or measure by the bus";
    assert!(complaint.contains(reason), "{complaint}");
    // This API has no list of domains.
    let (code, _, complaint) = bench(&edge, "--domain none.test");
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains("/v3/domains"), "{complaint}");
    assert!(complaint.contains("answered 404"), "{complaint}");
}
