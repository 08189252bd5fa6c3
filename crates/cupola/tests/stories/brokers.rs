//! Stories of service brokers: one is an app of the foundation, whose plans are permitted and found; one is called while the foundation
//! is killed.

use crate::services::is_stored;
use crate::{Story, story};
use anyhow::{Result, ensure};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use testkit::foundation::{Foundation, both, wait_for};

pub(crate) const STORIES: &[Story] = &[story(
    "brokers_an_app_offers_services_to_others",
    an_app_is_a_broker,
)];

/// The story that kills the foundation. The others do not expect that.
pub(crate) const AFTER_A_KILL: &[Story] = &[story(
    "brokers_a_registration_survives_a_kill",
    a_registration_survives_a_kill,
)];

/// An address of this machine, at which stories run brokers.
pub(crate) const ADDRESS: &str = "127.0.0.9";

/// The configuration that permits it.
pub(crate) const CONFIG: &str =
    "cloud_controller: {brokers: {permitted_addresses: [\"127.0.0.9\"]}}\n";

const SECRET: &str = "s3cret-of-the-broker";

/// A broker whose password is in its environment.
const APP: &str = r#"
import base64, http.server, json, os

CATALOG = {"services": [{
    "id": "cache-id", "name": "cache", "description": "A cache", "bindable": True,
    "plans": [{"id": "small-id", "name": "small", "description": "A small one"}],
    "dashboard_client": {
        "id": "cache-dashboard", "secret": os.environ["BROKER_PASSWORD"], "redirect_uri": "http://dashboard.test/back",
    },
}]}
WANTED = "Basic " + base64.b64encode(("admin:" + os.environ["BROKER_PASSWORD"]).encode()).decode()

class Broker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = 404, {}
        if self.headers.get("Authorization") != WANTED:
            status = 401
        elif self.path == "/v2/catalog" and self.headers.get("X-Broker-API-Version") == "2.17":
            status, body = 200, CATALOG
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

http.server.HTTPServer(("", int(os.environ["PORT"])), Broker).serve_forever()
"#;

fn push_broker(f: &Foundation) -> Result<()> {
    let folder = f.folder().join("cache-broker");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("app.py"), APP)?;
    std::fs::write(folder.join("Procfile"), "web: python3 app.py\n")?;
    let path = folder.display().to_string();
    let push = ["push", "cache-broker", "-p", &path, "-m", "64M", "-k"];
    f.cf_ok(&[&push[..], &["128M", "--no-start"]].concat())?;
    f.cf_ok(&["set-env", "cache-broker", "BROKER_PASSWORD", SECRET])?;
    f.cf_ok(&["start", "cache-broker"])?;
    Ok(())
}

/// Returns whether the UAA got or lost the client of the dashboard.
fn dashboard(f: &Foundation, verb: &str) -> Result<bool> {
    let path = format!("/v3/audit_events?types=audit.service_dashboard_client.{verb}");
    let events = f.cf_curl(&path)?;
    Ok(events["resources"][0]["target"]["name"] == "cache-dashboard")
}

fn an_app_is_a_broker(f: &mut Foundation) -> Result<()> {
    push_broker(f)?;
    let host = f.host("cache-broker");
    let (plain, tls) = (format!("http://{host}"), format!("https://{host}"));

    // A registration that fails leaves a broker without offerings, which can be changed.
    let text = f.cf_fails(&["create-service-broker", "caches", "admin", "wrong", &plain])?;
    ensure!(
        text.contains("Authentication with the service broker failed"),
        "{text}"
    );
    f.cf_ok(&["update-service-broker", "caches", "admin", SECRET, &plain])?;
    f.cf_ok(&["update-service-broker", "caches", "admin", SECRET, &tls])?;
    let table = f.cf_ok(&["service-brokers"])?;
    ensure!(table.contains("caches") && table.contains(&tls), "{table}");
    ensure!(dashboard(f, "create")?, "the dashboard has no client");

    // Nobody uses the plan before it is permitted; then everybody finds it, also without a login.
    let table = f.cf_ok(&["marketplace"])?;
    ensure!(table.contains("No service offerings found."), "{table}");
    f.cf_ok(&["enable-service-access", "cache", "-o", "demo"])?;
    let table = f.cf_ok(&["marketplace"])?;
    ensure!(
        table.contains("cache") && table.contains("small"),
        "{table}"
    );
    let table = f.cf_ok(&["service-access", "-e", "cache"])?;
    ensure!(
        table.contains("limited") && table.contains("demo"),
        "{table}"
    );
    let home = f.folder().join("home-of-a-guest");
    let api = f.cf_in(&home, &["api", &f.api(), "--skip-ssl-validation"])?;
    ensure!(api.status.success(), "{}", both(&api));
    let seen = both(&f.cf_in(&home, &["marketplace"])?);
    ensure!(seen.contains("No service offerings found."), "{seen}");
    f.cf_ok(&["enable-service-access", "cache"])?;
    let seen = both(&f.cf_in(&home, &["marketplace"])?);
    ensure!(seen.contains("cache") && seen.contains("small"), "{seen}");

    // The machine itself is no broker, whatever name leads there.
    let local = ["create-service-broker", "local", "u", "p"];
    for url in ["http://127.0.0.1:9500", "http://localhost:9500"] {
        let text = f.cf_fails(&[&local[..], &[url]].concat())?;
        ensure!(text.contains("does not permit"), "{text}");
        f.cf_ok(&["delete-service-broker", "local", "-f"])?;
    }

    // The password is written nowhere.
    ensure!(!is_stored(f, SECRET)?, "the password is stored in clear");
    ensure!(!f.log().contains(SECRET), "the password is in the log");

    f.cf_ok(&["purge-service-offering", "cache", "-f"])?;
    let table = f.cf_ok(&["marketplace"])?;
    ensure!(table.contains("No service offerings found."), "{table}");
    f.cf_ok(&["delete-service-broker", "caches", "-f"])?;
    ensure!(dashboard(f, "delete")?, "the dashboard still has a client");
    let table = f.cf_ok(&["service-brokers"])?;
    ensure!(table.contains("No service brokers found"), "{table}");
    f.cf_ok(&["delete", "-f", "-r", "cache-broker"])?;
    Ok(())
}

/// A broker on this machine. It answers every request with its catalog, or holds it while it hangs.
struct Local {
    address: SocketAddr,
    hangs: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Local {
    /// Starts a broker that hangs. It serves until the program of the stories ends.
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((ADDRESS, 0))?;
        let local = Self {
            address: listener.local_addr()?,
            hangs: Arc::new(AtomicBool::new(true)),
            calls: Arc::new(AtomicUsize::new(0)),
        };
        let (hangs, calls) = (local.hangs.clone(), local.calls.clone());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for mut stream in listener.incoming().flatten() {
                read_head(&mut stream);
                calls.fetch_add(1, Ordering::SeqCst);
                if hangs.load(Ordering::SeqCst) {
                    held.push(stream);
                    continue;
                }
                // A caller that is gone needs no answer.
                let _ = stream.write_all(catalog().as_bytes());
            }
        });
        Ok(local)
    }
}

/// Reads the head of a request without a body.
fn read_head(stream: &mut TcpStream) {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => head.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
}

/// Returns the whole answer with the catalog.
fn catalog() -> String {
    let plan = json!({ "id": "queue-small-id", "name": "small", "description": "A small one" });
    let offering = json!({ "id": "queue-id", "name": "queue", "description": "A queue", "bindable": true, "plans": [plan] });
    let body = json!({ "services": [offering] }).to_string();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn a_registration_survives_a_kill(f: &mut Foundation) -> Result<()> {
    let local = Local::start()?;
    let credentials = json!({ "username": "admin", "password": SECRET });
    let body = json!({
        "name": "queues",
        "url": format!("http://{}", local.address),
        "authentication": { "type": "basic", "credentials": credentials },
    });
    let body = body.to_string();
    let post = ["curl", "/v3/service_brokers", "-X", "POST", "-d"];
    f.cf_ok(&[&post[..], &[body.as_str()]].concat())?;
    wait_for("the call", 30, || {
        Ok((local.calls.load(Ordering::SeqCst) > 0).then_some(()))
    })?;
    f.kill()?;
    local.hangs.store(false, Ordering::SeqCst);
    f.up()?;
    wait_for("the offering after the kill", 90, || {
        let list = f.cf_curl("/v3/service_offerings?names=queue")?;
        Ok((list["pagination"]["total_results"] == 1).then_some(()))
    })?;
    let calls = local.calls.load(Ordering::SeqCst);
    ensure!(calls == 2, "the broker was called {calls} times");
    f.cf_ok(&["delete-service-broker", "queues", "-f"])?;
    Ok(())
}
