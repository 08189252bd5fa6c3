//! One Cloud Controller with its peers: a BBS, and a UAA that only serves its public key.

pub(crate) use crate::archive::{tgz, zip};
use crate::cell;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kit::CancellationToken;
use kit::metrics::Observed;
use kit::reconcile::Pass;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use testkit::certs::shared_identity;
pub(crate) use testkit::components::DOMAIN;
use testkit::components::{Bbs, CloudController, Peers};
pub(crate) use testkit::http::answer;
use testkit::http::serve;
pub(crate) use testkit::postgres;
pub(crate) use testkit::sqlite;
pub(crate) use testkit::wait::wait_for;
use wire::bbs as m;

struct Issuer {
    private_pem: String,
    keys: Value,
}

fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private = STANDARD.encode(pair.as_der().unwrap().as_ref());
        let public = pair.public_key().as_ref().to_vec();
        // The key is a PKCS#1 key of 2048 bits: two INTEGERs at fixed places.
        let (n, e) = (&public[9..265], &public[public.len() - 3..]);
        let keys = json!({ "keys": [{ "kty": "RSA", "kid": "test", "alg": "RS256", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e) }] });
        Issuer { private_pem: format!("-----BEGIN PRIVATE KEY-----\n{private}\n-----END PRIVATE KEY-----\n"), keys }
    })
}

pub(crate) const ISSUER: &str = "http://uaa.test/oauth/token";

/// Creates a token of a user with these scopes.
pub(crate) fn token(user: &str, scopes: &[&str], lifetime: i64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    let claims = json!({
        "user_id": format!("{user}-guid"), "user_name": user, "origin": "uaa", "client_id": "cf", "cid": "cf", "scope": scopes,
        "exp": now + lifetime, "iat": now, "jti": format!("{user}-token"), "aud": ["cloud_controller"],
        "iss": ISSUER,
    });
    sign(&claims)
}

/// Creates a token of a client (grant `client_credentials`), which has no user.
pub(crate) fn client_token(client: &str, scopes: &[&str]) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    sign(&json!({
        "client_id": client, "cid": client, "scope": scopes, "exp": now + 600, "iat": now,
        "jti": format!("{client}-token"), "aud": ["cloud_controller"], "iss": ISSUER,
    }))
}

pub(crate) fn sign(claims: &Value) -> String {
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    header.kid = Some("test".to_owned());
    jsonwebtoken::encode(
        &header,
        claims,
        &jsonwebtoken::EncodingKey::from_rsa_pem(issuer().private_pem.as_bytes()).unwrap(),
    )
    .unwrap()
}

pub(crate) const ADMIN: &[&str] = &[
    "cloud_controller.admin",
    "cloud_controller.read",
    "cloud_controller.write",
];
pub(crate) const USER: &[&str] = &["cloud_controller.read", "cloud_controller.write"];

/// The users that the UAA returns. Without a list the UAA is unavailable.
pub(crate) type Users = std::sync::Arc<std::sync::Mutex<Option<Vec<Value>>>>;

pub(crate) struct Foundation {
    pub(crate) users: Users,
    pub(crate) uaa_clients: crate::dashboards::Clients,
    pub(crate) url: String,
    pub(crate) internal_url: String,
    pub(crate) bbs: clients::bbs::Client,
    pub(crate) admin: String,
    pub(crate) space: String,
    pub(crate) organization: String,
    pub(crate) domain: String,
    pub(crate) http: reqwest::Client,
    pub(crate) cell: reqwest::Client,
    stop: CancellationToken,
    running: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
    diego: Bbs,
    controller: CloudController,
    pub(crate) settings: Settings,
    data: tempfile::TempDir,
}

/// The settings with which a Cloud Controller is started.
#[derive(Clone)]
pub(crate) struct Settings {
    peers: Peers,
    sync_interval: Duration,
    limits: cloud_controller::Limits,
    bucket: Option<cloud_controller::S3>,
    nats: Option<clients::nats::Config>,
    pub(crate) bound_egress: Vec<cloud_controller::BoundEgress>,
}

impl Settings {
    async fn start(&self, data: &Path) -> CloudController {
        CloudController::start(data, &self.peers, |config| self.apply(config)).await
    }

    fn apply(&self, config: &mut cloud_controller::Config) {
        config.sync_interval = self.sync_interval;
        config.limits = self.limits.clone();
        config.bucket = self.bucket.clone();
        config.nats = self.nats.clone();
        config.bound_egress = self.bound_egress.clone();
        config.dashboards = Some(cloud_controller::UaaClient {
            id: "dashboards".to_owned(),
            secret: "x".to_owned(),
        });
    }
}

impl Foundation {
    /// Starts a foundation whose sync hardly ever runs, so that tests see only the effects of requests.
    pub(crate) async fn start() -> Self {
        Self::start_syncing(Duration::from_secs(3600)).await
    }

    pub(crate) async fn start_syncing(sync_interval: Duration) -> Self {
        Self::start_limited(sync_interval, cloud_controller::Limits::default()).await
    }

    /// Starts a foundation whose packages and droplets are in a bucket.
    pub(crate) async fn start_in_bucket(bucket: cloud_controller::S3) -> Self {
        let limits = cloud_controller::Limits::default();
        Self::start_as(Duration::from_secs(3600), limits, Some(bucket), None).await
    }

    pub(crate) async fn start_limited(
        sync_interval: Duration,
        limits: cloud_controller::Limits,
    ) -> Self {
        Self::start_as(sync_interval, limits, None, None).await
    }

    /// Starts a foundation whose Cloud Controller receives what routers confirm on this bus.
    pub(crate) async fn start_on(nats: clients::nats::Config) -> Self {
        let limits = cloud_controller::Limits::default();
        Self::start_as(Duration::from_secs(3600), limits, None, Some(nats)).await
    }

    async fn start_as(
        sync_interval: Duration,
        limits: cloud_controller::Limits,
        bucket: Option<cloud_controller::S3>,
        nats: Option<clients::nats::Config>,
    ) -> Self {
        kit::logging::init("CUPOLA_LOG", "warn");
        let data = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let mut running = Vec::new();

        let (users, uaa_clients) = (Users::default(), crate::dashboards::Clients::default());
        let answering = users.clone();
        let keys = axum::Router::new()
            .route(
                "/token_keys",
                axum::routing::get(async || axum::Json(issuer().keys.clone())),
            )
            .route(
                "/.well-known/openid-configuration",
                axum::routing::get(async || axum::Json(json!({ "issuer": ISSUER }))),
            )
            .route(
                "/Users",
                axum::routing::get(async move || match answering.lock().unwrap().clone() {
                    Some(users) => Ok(axum::Json(json!({ "resources": users }))),
                    None => Err(axum::http::StatusCode::NOT_FOUND),
                }),
            );
        let keys = keys.merge(crate::dashboards::clients(uaa_clients.clone()));
        let uaa = serve(keys, None, stop.clone()).await;
        running.push(uaa.running);

        let (bbs_dir, cc_dir) = (data.path().join("bbs"), data.path().join("cc"));
        std::fs::create_dir_all(&bbs_dir).unwrap();
        let diego = Bbs::start(&bbs_dir, &shared_identity(), "https://127.0.0.1:1").await;
        running.push(cell::run_beside(&diego, &shared_identity(), &stop).await);

        let settings = Settings {
            peers: Peers {
                bbs_url: diego.url.clone(),
                uaa_url: uaa.url,
                identity: shared_identity(),
            },
            sync_interval,
            limits,
            bucket,
            nats,
            bound_egress: Vec::new(),
        };
        let controller = settings.start(&cc_dir).await;
        let mut foundation = Self {
            users,
            uaa_clients,
            bbs: diego.client(),
            admin: token("admin", ADMIN, 600),
            http: testkit::http::client(),
            cell: clients::http::client(&shared_identity(), Some(Duration::from_secs(60))).unwrap(),
            url: controller.url.clone(),
            internal_url: controller.internal_url.clone(),
            space: String::new(),
            organization: String::new(),
            domain: String::new(),
            stop,
            running,
            diego,
            controller,
            settings,
            data,
        };
        let first = async |path: &str| {
            foundation.get(path).await["resources"][0]["guid"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let (organization, space, domain) = (
            first("/v3/organizations?names=demo").await,
            first("/v3/spaces?names=dev").await,
            first("/v3/domains").await,
        );
        (foundation.organization, foundation.space, foundation.domain) =
            (organization, space, domain);
        foundation
    }

    pub(crate) fn observed(&self) -> &Observed {
        &self.controller.observed
    }

    /// Starts a second Cloud Controller on the same database server, with a folder of its own.
    pub(crate) async fn second(&self) -> CloudController {
        let folder = self.data.path();
        CloudController::start(&folder.join("cc2"), &self.settings.peers, |config| {
            self.settings.apply(config);
            config.database = postgres::server(&folder.join("cc"));
            config.key_file = Some(folder.join("cc").join(cloud_controller::KEY_FILE));
        })
        .await
    }

    /// Stops the Cloud Controller, lets `change` modify its folder, and starts it again.
    pub(crate) async fn restart(&mut self, change: impl AsyncFnOnce(&Path)) {
        self.controller.stop().await;
        let folder = self.data.path().join("cc");
        change(&folder).await;
        self.controller = self.settings.start(&folder).await;
        self.url = self.controller.url.clone();
        self.internal_url = self.controller.internal_url.clone();
    }

    /// Returns the last sync with Diego.
    pub(crate) fn last_sync(&self) -> Option<Pass> {
        self.controller.last_sync.read()
    }

    pub(crate) async fn finish(mut self) {
        self.controller.stop().await;
        self.stop.cancel();
        for task in self.running {
            task.await.unwrap().unwrap();
        }
        self.diego.stop().await;
    }

    /// Writes to the Cloud Controller's database from outside, and returns the number of changed rows.
    pub(crate) async fn sql(&self, statement: &str) -> u64 {
        if let Some(url) = postgres::of(&self.data.path().join("cc")) {
            let statement = format!("SET search_path TO cloud_controller; {statement}");
            let done = postgres::run(&url, &statement).unwrap();
            return done.split_whitespace().last().unwrap().parse().unwrap();
        }
        let changed = self.database().execute(statement, []).unwrap();
        changed.try_into().unwrap()
    }

    /// Sends a request and returns status and body. `token` has no scheme.
    pub(crate) async fn call_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .header("authorization", format!("bearer {token}"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request.send().await.unwrap()).await
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        self.call_as(&self.admin, method, path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// Sends a request that must succeed.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method.clone(), path, Some(body)).await;
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    pub(crate) async fn delete(&self, path: &str) {
        let (status, answer) = self.call(Method::DELETE, path, None).await;
        assert!(
            status == 202 || status == 204,
            "DELETE {path}: {status} {answer}"
        );
    }

    pub(crate) async fn create_app(&self, name: &str) -> String {
        let app = self.send(Method::POST, "/v3/apps", json!({ "name": name, "relationships": { "space": { "data": { "guid": self.space } } } })).await;
        app["guid"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn create_route(&self, host: &str, path: &str) -> String {
        let route = self
            .send(Method::POST, "/v3/routes", self.route_body(host, path))
            .await;
        route["guid"].as_str().unwrap().to_owned()
    }

    /// Creates a route of a shared domain that enforces route policies.
    pub(crate) async fn guarded_route(&self, host: &str) -> String {
        let domain = self.identity_domain("apps.identity", "any").await;
        let mut body = self.route_body(host, "");
        body["relationships"]["domain"]["data"]["guid"] = domain.into();
        let route = self.send(Method::POST, "/v3/routes", body).await;
        route["guid"].as_str().unwrap().to_owned()
    }

    /// Returns a shared domain that enforces route policies; it is created when it is missing.
    pub(crate) async fn identity_domain(&self, name: &str, scope: &str) -> String {
        let found = self.get(&format!("/v3/domains?names={name}")).await;
        if let Some(guid) = found["resources"][0]["guid"].as_str() {
            return guid.to_owned();
        }
        let body =
            json!({ "name": name, "enforce_route_policies": true, "route_policies_scope": scope });
        let domain = self.send(Method::POST, "/v3/domains", body).await;
        domain["guid"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn add_policy(&self, route: &str, source: &str) -> String {
        let body = json!({ "source": source, "relationships": { "route": { "data": { "guid": route } } } });
        let policy = self.send(Method::POST, "/v3/route_policies", body).await;
        policy["guid"].as_str().unwrap().to_owned()
    }

    pub(crate) fn route_body(&self, host: &str, path: &str) -> Value {
        json!({ "host": host, "path": path, "relationships": { "space": { "data": { "guid": self.space } }, "domain": { "data": { "guid": self.domain } } } })
    }

    pub(crate) async fn map(&self, route: &str, app: &str) -> Value {
        self.send(
            Method::POST,
            &format!("/v3/routes/{route}/destinations"),
            json!({ "destinations": [{ "app": { "guid": app } }] }),
        )
        .await
    }

    /// Posts a manifest, and returns its job when it has ended.
    pub(crate) async fn apply_manifest(&self, yaml: &str) -> (u16, Value) {
        let request = self.http.post(format!(
            "{}/v3/spaces/{}/actions/apply_manifest",
            self.url, self.space
        ));
        let response = request
            .header("authorization", format!("bearer {}", self.admin))
            .header("content-type", "application/x-yaml")
            .body(yaml.to_owned())
            .send()
            .await
            .unwrap();
        let location = response
            .headers()
            .get("location")
            .map(|location| location.to_str().unwrap().to_owned());
        let (status, body) = answer(response).await;
        match location {
            Some(location) => {
                let path = location.strip_prefix("http://api.test").unwrap();
                (status, self.ended_job(path).await)
            }
            None => (status, body),
        }
    }

    /// Waits until a job has ended, and returns it.
    pub(crate) async fn ended_job(&self, path: &str) -> Value {
        wait_for("the end of a job", async || {
            let job = self.get(path).await;
            let is_open = job["state"] == "PROCESSING" || job["state"] == "POLLING";
            (!is_open).then_some(job)
        })
        .await
    }

    /// Returns what a manifest would change.
    pub(crate) async fn diff(&self, yaml: &str) -> Value {
        let (status, body) = self.post_diff(yaml).await;
        assert_eq!(status, 201, "{body}");
        body["diff"].clone()
    }

    pub(crate) async fn post_diff(&self, yaml: &str) -> (u16, Value) {
        let request = self
            .http
            .post(format!(
                "{}/v3/spaces/{}/manifest_diff",
                self.url, self.space
            ))
            .header("authorization", format!("bearer {}", self.admin))
            .header("content-type", "application/x-yaml")
            .body(yaml.to_owned());
        answer(request.send().await.unwrap()).await
    }

    /// Creates a ready package of an app with these bits.
    pub(crate) async fn package(&self, app: &str, bits: Vec<u8>) -> String {
        let related = json!({ "app": { "data": { "guid": app } } });
        let body = json!({ "type": "bits", "relationships": related });
        let package = self.send(Method::POST, "/v3/packages", body).await;
        let guid = package["guid"].as_str().unwrap().to_owned();
        let (status, answer) = self.upload(&guid, bits).await;
        assert_eq!(
            (status, &answer["state"]),
            (200, &json!("READY")),
            "{answer}"
        );
        guid
    }

    /// Uploads a zip and returns status and package.
    pub(crate) async fn upload(&self, package: &str, zip: Vec<u8>) -> (u16, Value) {
        let form = reqwest::multipart::Form::new()
            .text("resources", "[]")
            .part(
                "bits",
                reqwest::multipart::Part::bytes(zip).file_name("package.zip"),
            );
        let request = self
            .http
            .post(format!("{}/v3/packages/{package}/upload", self.url))
            .header("authorization", format!("bearer {}", self.admin));
        answer(request.multipart(form).send().await.unwrap()).await
    }

    /// Creates an app, uploads a droplet of `{"web": "./run"}`, and starts the app.
    pub(crate) async fn started_app(&self, name: &str) -> String {
        let app = self.stopped_app(name).await;
        self.send(
            Method::POST,
            &format!("/v3/apps/{app}/actions/start"),
            json!({}),
        )
        .await;
        app
    }

    /// Creates an app with a droplet, which could be started.
    pub(crate) async fn stopped_app(&self, name: &str) -> String {
        let app = self.create_app(name).await;
        let related = json!({ "app": { "data": { "guid": app } } });
        let droplet = self
            .send(
                Method::POST,
                "/v3/droplets",
                json!({ "relationships": related, "process_types": { "web": "./run" } }),
            )
            .await;
        let droplet = droplet["guid"].as_str().unwrap().to_owned();
        let form = reqwest::multipart::Form::new().part(
            "bits",
            reqwest::multipart::Part::bytes(tgz("app/run", "#!/bin/sh")).file_name("droplet.tgz"),
        );
        let request = self
            .http
            .post(format!("{}/v3/droplets/{droplet}/upload", self.url))
            .header("authorization", format!("bearer {}", self.admin));
        assert_eq!(
            answer(request.multipart(form).send().await.unwrap())
                .await
                .0,
            202
        );
        self.send(
            Method::PATCH,
            &format!("/v3/apps/{app}/relationships/current_droplet"),
            json!({ "data": { "guid": droplet } }),
        )
        .await;
        app
    }

    /// Opens the Cloud Controller's database, which must be a file, so that a test can store what no version would store.
    pub(crate) fn database(&self) -> sqlite::Connection {
        sqlite::open(&self.data.path().join("cc/cloud-controller.db"))
    }

    /// Returns the number of files that uploads left behind.
    pub(crate) fn unfinished_uploads(&self) -> usize {
        let uploads = self.data.path().join("cc/blobs/uploads");
        let folders = std::fs::read_dir(uploads).unwrap();
        let folders = folders
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir());
        folders
            .map(|folder| std::fs::read_dir(folder).unwrap().count())
            .sum()
    }

    /// Returns the files of a droplet or package (`droplets`, its guid). One of them is its blob; others are those of uploads that
    /// were not accepted, which are being removed.
    pub(crate) fn blobs(&self, kind: &str, guid: &str) -> Vec<PathBuf> {
        let folder = self.data.path().join("cc/blobs").join(kind);
        let files = std::fs::read_dir(folder).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        files
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(guid))
            })
            .collect()
    }

    /// Returns the content of the only file that a droplet or package has.
    pub(crate) async fn blob(&self, kind: &str, guid: &str) -> Vec<u8> {
        let file = wait_for("one file", async || match &self.blobs(kind, guid)[..] {
            [file] => Ok(file.clone()),
            others => Err(format!("{} files", others.len())),
        })
        .await;
        std::fs::read(file).unwrap()
    }

    /// Sends a form with `bits` (and perhaps `resources`) as a caller, and returns status and body.
    pub(crate) async fn send_bits(
        &self,
        token: &str,
        path: &str,
        bits: Option<Vec<u8>>,
        resources: Option<Value>,
    ) -> (u16, Value) {
        let mut form = reqwest::multipart::Form::new();
        if let Some(resources) = resources {
            form = form.text("resources", resources.to_string());
        }
        if let Some(bits) = bits {
            let part = reqwest::multipart::Part::bytes(bits).file_name("bits");
            form = form.part("bits", part);
        }
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .header("authorization", format!("bearer {token}"));
        answer(request.multipart(form).send().await.unwrap()).await
    }

    /// Creates another organization with a space, and returns both.
    pub(crate) async fn another_place(&self, name: &str) -> (String, String) {
        let organization = self
            .send(Method::POST, "/v3/organizations", json!({ "name": name }))
            .await["guid"]
            .as_str()
            .unwrap()
            .to_owned();
        let space = self.another_space(&organization, name).await;
        (organization, space)
    }

    pub(crate) async fn another_space(&self, organization: &str, name: &str) -> String {
        let body = json!({ "name": name, "relationships": { "organization": { "data": { "guid": organization } } } });
        self.send(Method::POST, "/v3/spaces", body).await["guid"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Stores a user, assigns roles as (type, place, guid), and returns a token.
    pub(crate) async fn user(&self, name: &str, roles: &[(&str, &str, &str)]) -> String {
        let user = token(name, USER, 600);
        self.call_as(&user, Method::GET, "/v3/stacks", None).await;
        for (kind, place, guid) in roles {
            let body = json!({ "type": kind, "relationships": { "user": { "data": { "guid": format!("{name}-guid") } }, *place: { "data": { "guid": guid } } } });
            self.send(Method::POST, "/v3/roles", body).await;
        }
        user
    }

    /// Returns the desired LRPs of an app that the BBS has now.
    pub(crate) async fn lrps(&self, app: &str) -> Vec<m::DesiredLrp> {
        let all = self
            .bbs
            .desired_lrps(&m::DesiredLrpsRequest {
                domain: "cf-apps".to_owned(),
                ..Default::default()
            })
            .await
            .unwrap();
        all.into_iter().filter(|lrp| lrp.log_guid == app).collect()
    }

    /// Returns the `cf-router` routes of an app's only LRP.
    pub(crate) async fn lrp_routes(&self, app: &str) -> Value {
        let lrps = self.lrps(app).await;
        assert_eq!(lrps.len(), 1, "one LRP of {app}");
        serde_json::from_slice(&lrps[0].routes.as_ref().unwrap().routes["cf-router"]).unwrap()
    }

    /// Returns the host names of an LRP's routes.
    pub(crate) fn lrp_urls(&self, lrp: &m::DesiredLrp) -> Value {
        let routes: Value =
            serde_json::from_slice(&lrp.routes.as_ref().unwrap().routes["cf-router"]).unwrap();
        routes
            .as_array()
            .unwrap()
            .iter()
            .map(|route| route["hostnames"][0].clone())
            .collect()
    }

    /// Sets whether requests may be routed to a running instance.
    pub(crate) async fn set_ready(
        &self,
        key: &m::ActualLrpKey,
        instance: &m::ActualLrpInstanceKey,
        ready: bool,
    ) {
        let net = m::ActualLrpNetInfo {
            address: "10.0.0.1".to_owned(),
            instance_address: "10.255.0.2".to_owned(),
            ..Default::default()
        };
        let start = m::StartActualLrpRequest {
            key: Some(key.clone()),
            instance_key: Some(instance.clone()),
            net_info: Some(net),
            routable: Some(ready),
            ..Default::default()
        };
        self.bbs.start(&start).await.unwrap();
    }

    /// Starts an instance with an index of an LRP.
    pub(crate) async fn run_instance(
        &self,
        lrp: &str,
        index: i32,
    ) -> (m::ActualLrpKey, m::ActualLrpInstanceKey) {
        let key = m::ActualLrpKey {
            process_guid: lrp.to_owned(),
            index,
            domain: "cf-apps".to_owned(),
        };
        let instance = m::ActualLrpInstanceKey {
            instance_guid: format!("instance-{index}-{}", &lrp[..8]),
            cell_id: cell::CELL.to_owned(),
        };
        let net = m::ActualLrpNetInfo {
            address: "10.0.0.1".to_owned(),
            ports: vec![m::PortMapping {
                container_port: 8080,
                host_port: 61001,
                container_tls_proxy_port: 61001,
                host_tls_proxy_port: 61003,
            }],
            instance_address: "10.255.0.2".to_owned(),
            ..Default::default()
        };
        let start = m::StartActualLrpRequest {
            key: Some(key.clone()),
            instance_key: Some(instance.clone()),
            net_info: Some(net),
            routable: Some(true),
            ..Default::default()
        };
        self.bbs.start(&start).await.unwrap();
        (key, instance)
    }
}

/// Returns the detail of the only error.
pub(crate) fn detail(body: &Value) -> &str {
    assert_eq!(body["errors"].as_array().map(Vec::len), Some(1), "{body}");
    body["errors"][0]["detail"].as_str().unwrap()
}

/// Sends a request that must be refused, and returns the text of the one error in the 422.
pub(crate) async fn refused(f: &Foundation, method: Method, path: &str, body: Value) -> String {
    let (status, answer) = f.call(method, path, Some(body)).await;
    assert_eq!(status, 422, "{answer}");
    detail(&answer).to_owned()
}
