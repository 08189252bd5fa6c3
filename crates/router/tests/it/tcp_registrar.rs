//! TCP routes of servers that are not apps, at the Routing API.

use crate::component_log::{keep_lines, line_about};
use crate::routing_api_server::{CLIENT, RoutingApiServer};
use crate::world::wait_for;
use kit::CancellationToken;
use route_registrar::{Outlets, Registrar, Wanted, config};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

struct Running {
    folder: TempDir,
    api: Value,
    changes: mpsc::Sender<Wanted>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// Writes the file of a deployment with these routes.
fn write(folder: &TempDir, api: &Value, routes: &Value) -> PathBuf {
    let path = folder.path().join("config.json");
    let text = json!({"host": "127.0.0.1", "routing_api": api, "routes": routes});
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

impl Running {
    fn start(server: &RoutingApiServer, routes: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = server.identity();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (ca, own_cert) = (file("ca", &own.ca_pem), file("cert", &own.cert_pem));
        let (id, secret) = CLIENT;
        let api = json!({"api_url": server.api_url(), "oauth_url": server.uaa_url(), "client_id": id, "client_secret": secret,
            "ca_certs": ca, "server_ca_cert_path": ca, "client_cert_path": own_cert, "client_private_key_path": file("key", &own.key_pem),
            "max_ttl": "30s"});
        let config = config::load(&write(&folder, &api, routes)).unwrap();
        assert!(config.nats().unwrap().is_none());
        let outlets = Outlets {
            nats: None,
            tcp_routes: config.tcp_routes().unwrap().map(Arc::new),
        };
        let registrar =
            Registrar::with(outlets, config.registrations, config.unregistration_limit).unwrap();
        let (stop, (changes, changed)) = (CancellationToken::new(), mpsc::channel(1));
        let task = tokio::spawn(registrar.run_changing(changed, stop.clone()));
        Self {
            folder,
            api,
            changes,
            stop,
            task,
        }
    }

    async fn change(&self, routes: &Value) {
        let config = config::load(&write(&self.folder, &self.api, routes)).unwrap();
        let wanted = Wanted {
            registrations: config.registrations,
            unregistration_limit: config.unregistration_limit,
        };
        self.changes.send(wanted).await.unwrap();
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn count(server: &RoutingApiServer, verb: &str, external_port: u16) -> usize {
    let happened = server.happened();
    let of = |(done, routes): &&(String, Value)| done == verb && routes[0]["port"] == external_port;
    happened.tcp.iter().filter(of).count()
}

fn last(server: &RoutingApiServer) -> (String, Value) {
    server.happened().tcp.last().cloned().unwrap()
}

fn tcp(external_port: u16, interval: &str) -> Value {
    json!({"type": "tcp", "name": "db", "port": 6263, "router_group": "default-tcp", "external_port": external_port, "registration_interval": interval})
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_routes_are_registered_refreshed_and_deleted() {
    let server = RoutingApiServer::started().await;
    server.set_group("default-tcp", "group-1");
    let sni = json!({"type": "sni", "name": "web", "sni_port": 8443, "sni_routable_san": "web.test", "router_group": "default-tcp",
        "external_port": 1235, "registration_interval": "20s", "host": "10.0.0.7"});
    let running = Running::start(&server, &json!([tcp(1234, "20ms"), sni]));
    wait_for("refreshed routes", async || {
        count(&server, "create", 1234) > 3 && count(&server, "create", 1235) == 1
    })
    .await;
    {
        let happened = server.happened();
        let of = |port: u16| {
            let mut all = happened.tcp.iter();
            all.find(|(_, routes)| routes[0]["port"] == port).cloned()
        };
        let mut route = json!({"router_group_guid": "group-1", "port": 1234, "backend_ip": "127.0.0.1", "backend_port": 6263, "backend_tls_port": -1,
            "instance_id": "", "isolation_segment": "", "modification_tag": {"guid": "", "index": 0}, "ttl": 1});
        assert_eq!(of(1234), Some(("create".into(), json!([route.clone()]))));
        for (key, value) in [
            ("port", json!(1235)),
            ("backend_ip", json!("10.0.0.7")),
            ("backend_port", json!(8443)),
            ("backend_sni_hostname", json!("web.test")),
            // The value is not 42, because of max_ttl.
            ("ttl", json!(30)),
        ] {
            route[key] = value;
        }
        assert_eq!(of(1235), Some(("create".into(), json!([route]))));
        assert_eq!(happened.tokens_given, 1);
    }
    // One route is removed, and one stays.
    running.change(&json!([tcp(1234, "20ms")])).await;
    wait_for("the deletion", async || count(&server, "delete", 1235) == 1).await;
    server.revoke_tokens();
    let before = count(&server, "create", 1234);
    wait_for("a token that is good", async || {
        count(&server, "create", 1234) > before
    })
    .await;
    assert_eq!(count(&server, "delete", 1234), 0);
    running.stop().await;
    let (verb, routes) = last(&server);
    assert_eq!(
        (verb.as_str(), &routes[0]["port"]),
        ("delete", &json!(1234))
    );
    assert_eq!(
        (
            count(&server, "delete", 1234),
            count(&server, "delete", 1235)
        ),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_away_and_a_group_that_is_unknown_are_waited_for() {
    keep_lines();
    let server = RoutingApiServer::new();
    let running = Running::start(&server, &json!([tcp(1234, "100ms")]));
    let line = line_about("failed-to-fetch-token", "url", &server.uaa_url()).await;
    assert_eq!(line["key"], "routing_api.oauth_url");
    server.start().await;
    let unknown = "router_group \"default-tcp\" is unknown to the Routing API: correct the name, or create the group";
    line_about("route-not-registered", "error", unknown).await;
    server.set_group("default-tcp", "group-2");
    wait_for("the route", async || count(&server, "create", 1234) > 0).await;
    assert_eq!(last(&server).1[0]["router_group_guid"], "group-2");
    running.stop().await;
    assert_eq!(last(&server).0, "delete");
}
