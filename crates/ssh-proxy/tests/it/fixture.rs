//! A proxy with its peers: a BBS with one running instance, a UAA and a Cloud Controller that know one code, and the sshd of the
//! instance.

use crate::sshd::Sshd;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use kit::CancellationToken;
use serde_json::{Value, json};
use ssh_proxy::{Config, SshProxy, host_key};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::certs::{Ca, shared_identity};
use testkit::components::Bbs;
use testkit::http::serve;
use tokio::process::Command;
use wire::bbs as m;
use wire::lrp_routes::DIEGO_SSH;

pub(crate) const PROCESS: &str = "0a1b2c3d-1111-2222-3333-0123456789ab";
const LRP: &str = "0a1b2c3d-1111-2222-3333-0123456789ab-version";
const INSTANCE: &str = "instance-1";
const APP: &str = "app-guid";
pub(crate) const USER: &str = "cf:0a1b2c3d-1111-2222-3333-0123456789ab/0";

/// The codes that the UAA exchanges, and the answer of the Cloud Controller.
#[derive(Debug)]
pub(crate) struct Rights {
    pub(crate) codes: Vec<String>,
    pub(crate) status: u16,
}

pub(crate) struct Stage {
    pub(crate) addr: SocketAddr,
    pub(crate) fingerprint: String,
    pub(crate) rights: Arc<Mutex<Rights>>,
    pub(crate) sshd: Option<Sshd>,
    bbs: Bbs,
    dir: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::of(|_| {}, INSTANCE).await
    }

    /// Starts a stage whose proxy has another configuration, or whose instance has another name in its certificate.
    pub(crate) async fn of(change: impl FnOnce(&mut Config), name: &str) -> Self {
        kit::logging::init("CUPOLA_LOG", "warn");
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (instances, identity) = (Ca::new(), shared_identity());
        // The keys of an LRP; the user's is another one.
        let (backend_host, user) = (host_key::create().unwrap(), host_key::create().unwrap());
        let authorized = russh::keys::decode_secret_key(&user, None).unwrap();
        let authorized = authorized.public_key().to_openssh().unwrap();
        let sshd = Sshd::start(&instances.issue(&[name]), &backend_host, &authorized).await;

        let bbs_dir = dir.path().join("bbs");
        std::fs::create_dir(&bbs_dir).unwrap();
        let bbs = Bbs::start(&bbs_dir, &identity, "https://127.0.0.1:1").await;
        let route = json!({
            "container_port": 2222,
            "host_fingerprint": host_key::fingerprint(&backend_host).unwrap(),
            "private_key": user,
        });
        run_instance(&bbs, &route, sshd.address).await;

        let rights = Arc::new(Mutex::new(Rights {
            codes: vec!["one".to_owned(), "two".to_owned()],
            status: 200,
        }));
        let peers = Router::new()
            .route("/oauth/token", post(token))
            .route("/internal/apps/{process}/ssh_access/{index}", get(access))
            .with_state(rights.clone());
        let peer = serve(peers, None, stop.clone()).await;
        let own = host_key::create().unwrap();
        let mut config = Config {
            listener: testkit::net::listener().await,
            host_key: own.clone(),
            access: clients::ssh_access::Config {
                uaa_url: peer.url.clone(),
                client_id: "ssh-proxy".into(),
                client_secret: "secret".into(),
                cloud_controller_url: peer.url,
                authorities: String::new(),
            },
            bbs_url: bbs.url.clone(),
            identity,
            backend_tls: instances.issue(&["ssh-proxy"]),
            loggregator: clients::loggregator::Emitter::discard(),
            connections: 200,
            idle: Duration::from_secs(600),
        };
        change(&mut config);
        let proxy = SshProxy::build(config).unwrap();
        let addr = proxy.addr();
        tokio::spawn(proxy.run(stop.clone()));
        let askpass = dir.path().join("askpass");
        std::fs::write(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$CODE\"\n").unwrap();
        set_executable(&askpass);
        Self {
            addr,
            fingerprint: host_key::fingerprint(&own).unwrap(),
            rights,
            sshd: Some(sshd),
            bbs,
            dir,
            stop,
        }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Removes the LRP, as `cf stop` does.
    pub(crate) async fn stop_app(&self) {
        self.bbs.client().remove_desired_lrp(LRP).await.unwrap();
    }

    /// Returns OpenSSH's client, bounded in time, with a user and a code.
    pub(crate) fn client(&self, user: &str, code: &str, args: &[&str]) -> Command {
        let mut client = Command::new("timeout");
        client.args(["60", "ssh", "-F", "none"]);
        for option in [
            "PreferredAuthentications=password",
            &format!("User={user}"),
            &format!("Port={}", self.addr.port()),
            "NumberOfPasswordPrompts=1",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ] {
            client.args(["-o", option]);
        }
        client
            .args(args)
            .env("SSH_ASKPASS", self.dir.path().join("askpass"))
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("CODE", code)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        client
    }

    pub(crate) async fn ssh(&self, user: &str, code: &str, args: &[&str]) -> Output {
        self.client(user, code, args).output().await.unwrap()
    }
}

fn set_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

async fn token(
    State(rights): State<Arc<Mutex<Rights>>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Result<Json<Value>, StatusCode> {
    // The client's name and secret, as base64.
    let is_client = headers["authorization"] == "Basic c3NoLXByb3h5OnNlY3JldA==";
    let mut rights = rights.lock().unwrap();
    let at = rights.codes.iter().position(|code| *code == form["code"]);
    match at.filter(|_| is_client && form["grant_type"] == "authorization_code") {
        Some(at) => {
            rights.codes.remove(at);
            Ok(Json(json!({ "access_token": "token" })))
        }
        None => Err(StatusCode::BAD_REQUEST),
    }
}

async fn access(
    State(rights): State<Arc<Mutex<Rights>>>,
    headers: HeaderMap,
    Path((process, index)): Path<(String, String)>,
) -> Result<Json<Value>, StatusCode> {
    let is_asked = headers["authorization"] == "Bearer token" && process == PROCESS && index == "0";
    match rights.lock().unwrap().status {
        200 if is_asked => Ok(Json(json!({ "process_guid": LRP }))),
        200 => Err(StatusCode::NOT_FOUND),
        other => Err(StatusCode::from_u16(other).unwrap()),
    }
}

/// Desires the LRP and starts its instance, whose TLS port is that of the sshd.
async fn run_instance(bbs: &Bbs, route: &Value, sshd: SocketAddr) {
    let routes = [(DIEGO_SSH.to_owned(), route.to_string().into_bytes())].into();
    let desired = m::DesiredLrp {
        process_guid: LRP.into(),
        domain: "cf-apps".into(),
        root_fs: "preloaded:cflinuxfs4".into(),
        instances: 1,
        action: Some(m::Action {
            run: Some(m::RunAction {
                path: "/bin/true".into(),
                user: "vcap".into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        memory_mb: 64,
        disk_mb: 128,
        ports: vec![2222],
        log_guid: APP.into(),
        routes: Some(m::ProtoRoutes { routes }),
        ..Default::default()
    };
    let client = bbs.client();
    client.desire_lrp(desired).await.unwrap();
    let start = m::StartActualLrpRequest {
        key: Some(m::ActualLrpKey {
            process_guid: LRP.into(),
            index: 0,
            domain: "cf-apps".into(),
        }),
        instance_key: Some(m::ActualLrpInstanceKey {
            instance_guid: INSTANCE.into(),
            cell_id: "cell".into(),
        }),
        net_info: Some(m::ActualLrpNetInfo {
            address: "127.0.0.1".into(),
            ports: vec![m::PortMapping {
                container_port: 2222,
                host_port: 0,
                container_tls_proxy_port: 61002,
                host_tls_proxy_port: sshd.port().into(),
            }],
            instance_address: "10.255.0.2".into(),
            ..Default::default()
        }),
        routable: Some(true),
        ..Default::default()
    };
    client.start(&start).await.unwrap();
}
