//! A small platform for the client's tests: the responses of Cloud Controller, UAA and log-cache that a push needs, in memory,
//! over real HTTP. It was written from the public API's format and shares nothing with the client or our components.

use axum::body::Bytes;
use axum::extract::{Multipart, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Json, Router};
use base64::Engine as _;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub(crate) const APP: &str = "11111111-2222-3333-4444-555555555555";

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) url: String,
    /// The number of tokens issued so far. The newest one is valid.
    tokens: u32,
    /// The `Method path` of every request, in order.
    pub(crate) requests: Vec<String>,
    pub(crate) manifest: String,
    pub(crate) package: Vec<u8>,
    pub(crate) resources: String,
    pub(crate) app_exists: bool,
    pub(crate) started: bool,
    pub(crate) staging_fails: bool,
    pub(crate) app_crashes: bool,
    /// The number of polls of build and stats that must precede the result.
    polls: u32,
    pub(crate) known_files: bool,
    pub(crate) mapped: bool,
    /// The state and the sentence about the propagation of a route, if the API knows them.
    pub(crate) propagation: Option<(&'static str, &'static str)>,
    pub(crate) token_seconds: i64,
    /// The received JSON bodies, oldest first.
    pub(crate) bodies: Vec<Value>,
    /// Whether uploads are answered with 403 before their body is read, and the connection is closed.
    pub(crate) uploads_are_refused: bool,
    /// The text with which `POST /v3/roles` is refused, if it is.
    pub(crate) role_refusal: Option<String>,
    pub(crate) route_policies: Vec<Value>,
    pub(crate) service_instances: Vec<Value>,
    pub(crate) service_bindings: Vec<Value>,
    pub(crate) route_bindings: Vec<Value>,
    /// Whether a broker does what is requested about services, by a job.
    pub(crate) has_broker: bool,
    /// The number of polls of such a job for which its broker still works.
    pub(crate) broker_polls: u32,
    /// Whether a request that no other route serves gets one resource, or a list of one, instead of 404.
    pub(crate) has_everything: bool,
    /// Whether the API calls the next token invalid, once.
    pub(crate) refuse_once: bool,
}

pub(crate) type Platform = Arc<Mutex<Inner>>;

/// Starts a platform on a free port, with TLS if there is an identity.
pub(crate) async fn start(identity: Option<&kit::tls::Identity>) -> Platform {
    let listener = testkit::net::listener().await;
    let scheme = if identity.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr().unwrap());
    let platform = Arc::new(Mutex::new(Inner {
        url,
        token_seconds: 600,
        ..Inner::default()
    }));
    let tls = identity.map(|identity| {
        kit::tls::server_config(identity, kit::tls::ClientAuth::None, &["http/1.1"]).unwrap()
    });
    tokio::spawn(kit::http::serve(
        listener,
        tls,
        router(platform.clone()),
        kit::CancellationToken::new(),
    ));
    platform
}

fn error(status: u16, code: u32, title: &str, detail: &str) -> Response {
    (
        StatusCode::from_u16(status).unwrap(),
        Json(json!({"errors": [{"code": code, "title": title, "detail": detail}]})),
    )
        .into_response()
}

fn list(resources: Vec<Value>) -> Json<Value> {
    Json(
        json!({"pagination": {"total_results": resources.len(), "total_pages": 1, "first": {"href": "x"}, "last": {"href": "x"}, "next": null, "previous": null}, "resources": resources}),
    )
}

fn jwt(number: u32, seconds: i64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    let part = |v: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(v.to_string());
    format!(
        "{}.{}.sig",
        part(json!({"alg": "RS256"})),
        part(
            json!({"user_name": "admin", "user_id": "u", "origin": "uaa", "client_id": "cf", "exp": now + seconds, "jti": format!("t{number}")})
        )
    )
}

fn app(inner: &Inner) -> Value {
    let state = if inner.started { "STARTED" } else { "STOPPED" };
    json!({"guid": APP, "name": "dora", "state": state, "lifecycle": {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}}})
}

fn process() -> Value {
    json!({"guid": APP, "type": "web", "command": "./server", "instances": 1, "memory_in_mb": 64, "disk_in_mb": 1024,
        "relationships": {"app": {"data": {"guid": APP}}}, "process_instances": [{"index": 0, "state": "RUNNING", "since": 1}]})
}

fn route(inner: &Inner) -> Value {
    let destinations = if inner.mapped {
        vec![
            json!({"guid": "d1", "app": {"guid": APP, "process": {"type": "web"}}, "weight": null, "port": 8080, "protocol": "http1"}),
        ]
    } else {
        vec![]
    };
    json!({"guid": "r1", "protocol": "http", "host": "dora", "path": "", "port": null, "url": "dora.apps.test", "destinations": destinations,
        "relationships": {"space": {"data": {"guid": "s1"}}, "domain": {"data": {"guid": "d1"}}}})
}

/// Checks the token and records the request.
async fn guard(
    State(platform): State<Platform>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let (path, token) = (
        request.uri().path().to_owned(),
        request
            .headers()
            .get("authorization")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned(),
    );
    let refused = {
        let mut inner = platform.lock().unwrap();
        inner.requests.push(format!("{} {path}", request.method()));
        let valid = format!("bearer {}", jwt(inner.tokens, inner.token_seconds))
            .split('.')
            .nth(1)
            .map(str::to_owned);
        let given = token.split('.').nth(1).map(str::to_owned);
        // The times of two tokens may differ by a second, so the tokens' numbers are compared.
        let number = |p: Option<String>| {
            let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
                .decode(p?)
                .ok()?;
            serde_json::from_slice::<Value>(&json).ok()?["jti"]
                .as_str()
                .map(str::to_owned)
        };
        let is_api = path.starts_with("/v3") || path.starts_with("/api/v1");
        if inner.uploads_are_refused && path.ends_with("/upload") {
            drop(inner);
            let refusal = error(
                403,
                330_002,
                "CF-FeatureDisabled",
                "Feature Disabled: app_bits_upload",
            );
            // The connection ends while the client is still sending.
            return ([("connection", "close")], refusal).into_response();
        }
        // The marketplace needs no token.
        let is_open = token.is_empty()
            && ["/v3/service_plans", "/v3/service_offerings"].contains(&path.as_str());
        let refuse = is_api
            && !is_open
            && (number(given) != number(valid) || std::mem::take(&mut inner.refuse_once));
        refuse.then(|| error(401, 1000, "CF-InvalidAuthToken", "Invalid Auth Token"))
    };
    match refused {
        Some(refused) => refused,
        None => next.run(request).await,
    }
}

fn router(platform: Platform) -> Router {
    type P = State<Platform>;
    let empty = || get(|| async { list(vec![]) });
    Router::new()
        .route("/", get(|State(p): P| async move {
            let url = &p.lock().unwrap().url;
            Json(json!({"links": {"self": {"href": url}, "cloud_controller_v2": null, "cloud_controller_v3": {"href": format!("{url}/v3"), "meta": {"version": "3.228.0"}},
                "login": {"href": url}, "uaa": {"href": url}, "log_cache": {"href": url}, "logging": {"href": "wss://x"}, "network_policy_v1": {"href": format!("{url}/networking/v1/external")}, "app_ssh": {"href": "ssh:2222", "meta": {"oauth_client": "ssh-proxy"}}}}))
        }))
        .route("/oauth/token", post(token))
        .route("/oauth/authorize", get(|Query(q): Query<HashMap<String, String>>| async move {
            assert_eq!((q["response_type"].as_str(), q["client_id"].as_str()), ("code", "ssh-proxy"));
            (StatusCode::FOUND, [("location", "http://uaa.test/login?code=C0DE")])
        }))
        .route("/v3/spaces/s1/features/ssh", get(|| async { Json(json!({"name": "ssh", "enabled": true})) }).patch(|Json(body): Json<Value>| async move {
            Json(json!({"name": "ssh", "enabled": body["enabled"]}))
        }))
        .route("/v3/organizations", get(|| async { list(vec![json!({"guid": "o1", "name": "org"})]) }))
        .route("/v3/spaces", get(|Query(q): Query<HashMap<String, String>>| async move {
            if q.get("names").is_some_and(|n| n != "space") { list(vec![]) } else { list(vec![json!({"guid": "s1", "name": "space"})]) }
        }))
        .route("/v3/spaces/s1/manifest_diff", post(|| async { (StatusCode::CREATED, Json(json!({"diff": []}))) }))
        .route("/v3/spaces/s1/actions/apply_manifest", post(apply))
        .route("/v3/jobs/j1", get(|| async { Json(json!({"guid": "j1", "state": "COMPLETE", "errors": [], "warnings": []})) }))
        .route("/v3/apps", get(|State(p): P| async move {
            let inner = p.lock().unwrap();
            list(if inner.app_exists { vec![app(&inner)] } else { vec![] })
        }))
        .route("/v3/apps/{guid}", get(|State(p): P| async move { Json(app(&p.lock().unwrap())) }))
        .route("/v3/apps/{guid}/processes", get(|| async { list(vec![process()]) }))
        .route("/v3/apps/{guid}/routes", get(|State(p): P| async move { list(vec![route(&p.lock().unwrap())]) }))
        .route("/v3/apps/{guid}/droplets/current", get(|| async { Json(droplet()) }))
        .route("/v3/apps/{guid}/relationships/current_droplet", patch(|| async { Json(json!({"data": {"guid": "droplet"}})) }))
        .route("/v3/apps/{guid}/actions/{action}", post(|State(p): P, Path((_, action)): Path<(String, String)>| async move {
            let mut inner = p.lock().unwrap();
            inner.started = action != "stop";
            Json(app(&inner))
        }))
        .route("/v3/processes", get(|| async { list(vec![process()]) }))
        .route("/v3/processes/{guid}", get(|| async { Json(process()) }).patch(|State(p): P, Json(body): Json<Value>| async move {
            p.lock().unwrap().bodies.push(body);
            Json(process())
        }))
        .route("/v3/processes/{guid}/sidecars", empty())
        .route("/v3/processes/{guid}/stats", get(stats))
        .route("/v3/resource_matches", post(|State(p): P, Json(asked): Json<Value>| async move {
            let resources = if p.lock().unwrap().known_files { asked["resources"].clone() } else { json!([]) };
            (StatusCode::CREATED, Json(json!({"resources": resources})))
        }))
        .route("/v3/packages", post(|| async { (StatusCode::CREATED, Json(json!({"guid": "pkg", "state": "AWAITING_UPLOAD", "data": {}}))) }))
        .route("/v3/packages/pkg/upload", post(upload).layer(axum::extract::DefaultBodyLimit::disable()))
        .route("/v3/apps/{guid}/environment_variables", patch(|State(p): P, Json(body): Json<Value>| async move {
            p.lock().unwrap().bodies.push(body);
            Json(json!({"var": {}}))
        }))
        .route("/v3/apps/{guid}/processes/{kind}/actions/scale", post(|State(p): P, Json(body): Json<Value>| async move {
            p.lock().unwrap().bodies.push(body);
            (StatusCode::ACCEPTED, Json(process()))
        }))
        .route("/v3/roles", post(|State(p): P, Json(body): Json<Value>| async move {
            let mut inner = p.lock().unwrap();
            inner.bodies.push(body);
            match &inner.role_refusal {
                Some(detail) => error(422, 10008, "CF-UnprocessableEntity", detail),
                None => (StatusCode::CREATED, Json(json!({"guid": "role"}))).into_response(),
            }
        }))
        .route("/v3/builds", post(|| async { (StatusCode::CREATED, Json(json!({"guid": "b1", "state": "STAGING", "error": null, "droplet": null}))) }))
        .route("/v3/builds/b1", get(build))
        .route("/v3/domains", get(|Query(q): Query<HashMap<String, String>>| async move {
            match q["names"].as_str() {
                "apps.test" => list(vec![json!({"guid": "d1", "name": "apps.test", "supported_protocols": ["http"]})]),
                "apps.identity" => list(vec![json!({"guid": "d2", "name": "apps.identity", "supported_protocols": ["http"],
                    "enforce_route_policies": true, "route_policies_scope": "any"})]),
                "tcp.test" => list(vec![json!({"guid": "d3", "name": "tcp.test", "supported_protocols": ["tcp"]})]),
                "private.test" => list(vec![json!({"guid": "d4", "name": "private.test", "supported_protocols": ["http"],
                    "relationships": {"organization": {"data": {"guid": "o1"}}}})]),
                _ => list(vec![]),
            }
        }).post(|State(p): P, Json(body): Json<Value>| async move {
            p.lock().unwrap().bodies.push(body);
            (StatusCode::CREATED, Json(json!({"guid": "d3"})))
        }))
        .route("/v3/organizations/o1/domains", get(|| async {
            list(vec![
                json!({"guid": "d1", "name": "apps.test", "supported_protocols": ["http"]}),
                json!({"guid": "d2", "name": "apps.identity", "supported_protocols": ["http"], "enforce_route_policies": true, "route_policies_scope": "org"}),
            ])
        }))
        .route("/v3/route_policies", get(|State(p): P| async move { list(p.lock().unwrap().route_policies.clone()) })
            .post(|State(p): P, Json(mut body): Json<Value>| async move {
                let mut inner = p.lock().unwrap();
                body["guid"] = json!(format!("p{}", inner.route_policies.len()));
                inner.route_policies.push(body.clone());
                (StatusCode::CREATED, Json(body))
            }))
        .route("/v3/route_policies/{guid}", delete(|State(p): P, Path(guid): Path<String>| async move {
            p.lock().unwrap().route_policies.retain(|policy| policy["guid"] != guid.as_str());
            StatusCode::NO_CONTENT
        }))
        .route("/v3/service_instances", get(|State(p): P, Query(q): Query<HashMap<String, String>>| async move {
            let wanted = q.get("names");
            let instances = p.lock().unwrap().service_instances.clone();
            let found = instances.into_iter().filter(|one| wanted.is_none_or(|name| one["name"] == name.as_str()));
            let Json(mut found) = list(found.collect());
            found["included"] = crate::managed_services::included();
            Json(found)
        }).post(|State(p): P, Json(mut body): Json<Value>| async move {
            let mut inner = p.lock().unwrap();
            inner.bodies.push(body.clone());
            body["guid"] = json!(format!("si{}", inner.service_instances.len()));
            body["last_operation"] = json!({"type": "create", "state": "succeeded", "description": "Operation succeeded"});
            inner.service_instances.push(body.clone());
            crate::managed_services::answer(&inner, StatusCode::CREATED, body)
        }))
        .route("/v3/service_instances/{guid}", patch(|State(p): P, Json(body): Json<Value>| async move {
            let mut inner = p.lock().unwrap();
            inner.bodies.push(body.clone());
            crate::managed_services::answer(&inner, StatusCode::OK, body)
        }).delete(|State(p): P, Path(guid): Path<String>| async move {
            let mut inner = p.lock().unwrap();
            inner.service_instances.retain(|one| one["guid"] != guid.as_str());
            crate::managed_services::answer(&inner, StatusCode::NO_CONTENT, Value::Null)
        }))
        .route("/v3/service_credential_bindings", get(|State(p): P| async move { list(p.lock().unwrap().service_bindings.clone()) })
            .post(|State(p): P, Json(mut body): Json<Value>| async move {
                let mut inner = p.lock().unwrap();
                inner.bodies.push(body.clone());
                body["guid"] = json!("b1");
                body["last_operation"] = json!({"type": "create", "state": "succeeded"});
                inner.service_bindings.push(body.clone());
                crate::managed_services::answer(&inner, StatusCode::CREATED, body)
            }))
        .route("/v3/service_credential_bindings/{guid}", delete(|State(p): P| async move {
            let mut inner = p.lock().unwrap();
            inner.service_bindings.clear();
            crate::managed_services::answer(&inner, StatusCode::NO_CONTENT, Value::Null)
        }))
        .route("/v3/service_route_bindings", get(|State(p): P| async move { list(p.lock().unwrap().route_bindings.clone()) })
            .post(|State(p): P, Json(mut body): Json<Value>| async move {
                let mut inner = p.lock().unwrap();
                inner.bodies.push(body.clone());
                body["guid"] = json!("rb1");
                inner.route_bindings.push(body.clone());
                crate::managed_services::answer(&inner, StatusCode::CREATED, body)
            }))
        .route("/v3/service_route_bindings/{guid}", delete(|State(p): P| async move {
            let mut inner = p.lock().unwrap();
            inner.route_bindings.clear();
            crate::managed_services::answer(&inner, StatusCode::NO_CONTENT, Value::Null)
        }))
        .route("/v3/routes", get(|State(p): P| async move { list(vec![route(&p.lock().unwrap())]) }))
        .route("/v3/routes/r1/destinations", post(|State(p): P| async move {
            let mut inner = p.lock().unwrap();
            inner.mapped = true;
            Json(json!({"destinations": []}))
        }))
        .route("/v3/routes/r1/destinations/d1", delete(|State(p): P| async move {
            p.lock().unwrap().mapped = false;
            StatusCode::NO_CONTENT
        }))
        .route("/v3/routes/r1/propagation", get(propagation))
        .merge(crate::market::routes())
        .merge(crate::managed_services::routes())
        .route("/api/v1/read/{guid}", get(logs))
        .fallback(anything)
        .method_not_allowed_fallback(anything)
        .layer(axum::middleware::from_fn_with_state(platform.clone(), guard))
        .with_state(platform)
}

async fn token(State(p): State<Platform>, body: String) -> Response {
    let mut inner = p.lock().unwrap();
    let is_good = body.contains("password=secret")
        || body.contains("grant_type=client_credentials")
        || (body.contains("grant_type=refresh_token") && body.contains("refresh_token=refresh"));
    if !is_good {
        return (
            StatusCode::UNAUTHORIZED,
            Json(json!({"error": "unauthorized", "error_description": "Bad credentials"})),
        )
            .into_response();
    }
    inner.tokens += 1;
    Json(json!({"access_token": jwt(inner.tokens, inner.token_seconds), "refresh_token": "refresh", "token_type": "bearer", "expires_in": inner.token_seconds, "scope": "", "jti": "x"})).into_response()
}

async fn apply(State(p): State<Platform>, headers: HeaderMap, body: String) -> Response {
    assert_eq!(headers["content-type"], "application/x-yaml");
    let mut inner = p.lock().unwrap();
    inner.manifest = body;
    inner.app_exists = true;
    (
        StatusCode::ACCEPTED,
        [("location", format!("{}/v3/jobs/j1", inner.url))],
    )
        .into_response()
}

async fn upload(State(p): State<Platform>, mut form: Multipart) -> Json<Value> {
    while let Some(field) = form.next_field().await.unwrap() {
        let name = field.name().unwrap().to_owned();
        let bytes: Bytes = field.bytes().await.unwrap();
        let mut inner = p.lock().unwrap();
        match name.as_str() {
            "bits" => inner.package = bytes.to_vec(),
            _ => inner.resources = String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }
    Json(json!({"guid": "pkg", "state": "READY", "data": {"error": null}}))
}

async fn build(State(p): State<Platform>) -> Json<Value> {
    let mut inner = p.lock().unwrap();
    inner.polls += 1;
    let (state, error, droplet) = match (inner.polls < 2, inner.staging_fails) {
        (true, _) => ("STAGING", None, None),
        (_, true) => (
            "FAILED",
            Some("BuildpackCompileFailed - App staging failed in the buildpack compile phase"),
            None,
        ),
        _ => ("STAGED", None, Some(json!({"guid": "droplet"}))),
    };
    Json(json!({"guid": "b1", "state": state, "error": error, "droplet": droplet}))
}

fn droplet() -> Value {
    json!({"guid": "droplet", "created_at": "2024-01-02T10:00:00Z", "stack": "cflinuxfs4", "image": null,
        "buildpacks": [{"name": "binary_buildpack", "version": "1.1.3", "buildpack_name": "binary", "detect_output": ""}]})
}

async fn stats(State(p): State<Platform>) -> Json<Value> {
    let mut inner = p.lock().unwrap();
    inner.polls += 1;
    let state = match (inner.polls < 4, inner.app_crashes) {
        (true, _) => "STARTING",
        (_, true) => "CRASHED",
        _ => "RUNNING",
    };
    let details = inner.app_crashes.then_some("exited with status 1");
    Json(
        json!({"resources": [{"type": "web", "index": 0, "state": state, "routable": true, "uptime": 3, "mem_quota": 67_108_864u64, "disk_quota": 1_073_741_824u64,
        "log_rate_limit": -1, "details": details, "usage": {"cpu": 0.01, "mem": 1_048_576, "disk": 2_097_152, "log_rate": 0}}]}),
    )
}

/// Returns one staging line and one line of the app, from the second poll of the build on.
async fn logs(
    State(p): State<Platform>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let inner = p.lock().unwrap();
    let envelope = |time: i64, source: &str, text: &str| {
        let payload = base64::engine::general_purpose::STANDARD.encode(text);
        json!({"timestamp": time.to_string(), "source_id": APP, "instance_id": "0", "deprecated_tags": {}, "tags": {"source_type": source}, "log": {"payload": payload, "type": "OUT"}})
    };
    let start: i64 = query["start_time"].parse().unwrap();
    let all = [
        (10, "STG", "Staging with binary_buildpack"),
        (20, "APP/PROC/WEB", "listening on 8080"),
    ];
    let seen = if inner.polls == 0 { 0 } else { all.len() };
    let batch: Vec<_> = all[..seen]
        .iter()
        .filter(|(t, _, _)| *t >= start)
        .map(|(t, s, l)| envelope(*t, s, l))
        .collect();
    Json(json!({"envelopes": {"batch": batch}}))
}

async fn propagation(State(p): State<Platform>) -> Response {
    match p.lock().unwrap().propagation {
        Some((state, summary)) => Json(json!({"state": state, "summary": summary})).into_response(),
        None => error(404, 10000, "CF-NotFound", "Unknown request"),
    }
}

/// Returns one resource for any request, if the test enables that.
async fn anything(
    State(p): State<Platform>,
    method: axum::http::Method,
    uri: axum::http::Uri,
) -> Response {
    if !p.lock().unwrap().has_everything {
        return error(404, 10000, "CF-NotFound", "Unknown request");
    }
    let policy = json!({"source": {"id": APP}, "destination": {"id": APP, "protocol": "tcp", "ports": {"start": 8080, "end": 8080}}});
    let thing = json!({
        "guid": APP, "id": "u", "name": "thing", "type": "web", "state": "SUCCEEDED", "sequence_id": 1, "policies": [policy],
        "status": {"value": "FINALIZED", "reason": "DEPLOYED"}, "created_at": "2024-01-02T10:00:00Z", "host": "dora", "url": "dora.apps.test",
    });
    let parts = uri.path().matches('/').count();
    let is_list = parts.is_multiple_of(2) && uri.path().starts_with("/v3/");
    match method.as_str() {
        "GET" if is_list => list(vec![thing]).into_response(),
        "DELETE" => StatusCode::NO_CONTENT.into_response(),
        _ => Json(thing).into_response(),
    }
}
