//! Stories of route services: requests for a bound route visit a service before they reach the app, whether the service is an app of the
//! foundation or a server outside of it.

use crate::cell::websocket;
use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use testkit::foundation::{Foundation, binary, both, example, sh, wait_for};
use testkit::net::free_port;

pub(crate) const STORIES: &[Story] = &[
    story(
        "route_services_story_17_a_request_visits_its_service_once",
        an_app_is_the_service,
    ),
    story(
        "route_services_a_proof_is_needed_on_the_way_back",
        forged_proofs,
    ),
    story(
        "route_services_bindings_lose_no_request",
        no_request_is_lost,
    ),
    story("route_services_websockets_pass", websockets_pass),
    story("route_services_a_server_outside_is_one_too", outside),
    story("route_services_leave_nothing", leave_nothing),
];

/// The server outside is on loopback, which is blocked by default, and has a certificate of the components' CA, which routers do not accept
/// from services.
pub(crate) const CONFIG: &str = "router: {register_interval: 5, route_services: {egress_blocklist: [169.254.0.0/16], skip_ssl_validation: true}}\n";

/// A server that shows each request with its fields.
const APP: &str = r#"
import http.server, os

class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def show(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        body = f"{self.requestline}\n{self.headers}{sent}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = show

http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

const VISITED: &str = "x-visited: gate";

/// Pushes a program of Python, unless it runs already.
fn push(f: &Foundation, app: &str, folder: &str) -> Result<()> {
    if f.guid(app).is_ok() {
        return Ok(());
    }
    f.cf_ok(&["push", app, "-p", folder, "-m", "64M", "-k", "128M"])
        .map(drop)
}

/// Pushes a program of Python that is a text.
fn push_text(f: &Foundation, app: &str, text: &str) -> Result<()> {
    let folder = f.folder().join(format!("route-services-{app}"));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("app.py"), text)?;
    std::fs::write(folder.join("Procfile"), "web: python3 app.py\n")?;
    push(f, app, &folder.display().to_string())
}

/// Pushes the app that shows requests and the service, and creates the instance of the service.
fn ready(f: &Foundation) -> Result<()> {
    push_text(f, "shows-all", APP)?;
    push(f, "gate", &example("route-service"))?;
    let url = format!("https://{}/any/path", f.host("gate"));
    if !f.cf_ok(&["services"])?.contains("gate-service") {
        f.cf_ok(&["cups", "gate-service", "-r", &url])?;
    }
    Ok(())
}

fn bind(f: &Foundation, host: &str, service: &str) -> Result<String> {
    f.cf_ok(&["bind-route-service", &f.domain, service, "--hostname", host])
}

fn unbind(f: &Foundation, host: &str, service: &str) -> Result<String> {
    let words = ["unbind-route-service", &f.domain, service, "-n", host, "-f"];
    f.cf_ok(&words)
}

/// Returns what the app shows of a request, in lower case.
fn shown(f: &Foundation, path: &str) -> Result<String> {
    let answer = f.get(&f.host("shows-all"), path)?;
    ensure!(
        answer.status == 200,
        "{path}: {} {}",
        answer.status,
        answer.body
    );
    Ok(answer.body.to_ascii_lowercase())
}

/// Waits until requests visit the service, or do not any more.
fn wait_until_visited(f: &Foundation, visited: bool) -> Result<()> {
    let what = if visited { "visited" } else { "not visited" };
    wait_for(&format!("the service is {what}"), 30, || {
        Ok((shown(f, "/")?.contains(VISITED) == visited).then_some(()))
    })
}

fn an_app_is_the_service(f: &mut Foundation) -> Result<()> {
    ready(f)?;
    ensure!(!shown(f, "/")?.contains(VISITED), "before it is bound");
    let before = f.instances(&f.guid("shows-all")?)?[0]["instance_guid"].clone();
    bind(f, "shows-all", "gate-service")?;
    wait_until_visited(f, true)?;

    let text = shown(f, "/a%20b?c=d")?;
    ensure!(text.starts_with("get /a%20b?c=d http/1.1\n"), "{text}");
    ensure!(text.matches(VISITED).count() == 1, "{text}");
    ensure!(
        !text.contains("x-cf-proxy") && !text.contains("x-cf-forwarded-url"),
        "the proof reaches the app: {text}"
    );
    let port = f.plan["http_port"].to_string();
    let host = f.host("shows-all");
    let posted = sh(&format!(
        "curl -sS --max-time 20 -H 'Host: {host}' -d 'a body' http://127.0.0.1:{port}/"
    ))?;
    ensure!(posted.ends_with("a body"), "{posted}");
    ensure!(posted.to_ascii_lowercase().contains(VISITED), "{posted}");

    // Everybody who looks sees the binding.
    let table = f.cf_ok(&["routes"])?;
    let row = table.lines().find(|line| line.contains("shows-all"));
    let row = row.with_context(|| table.clone())?;
    ensure!(row.contains("gate-service"), "{table}");
    let url = f.table()?[&host][0]["route_service_url"].clone();
    ensure!(
        url == format!("https://{}/any/path", f.host("gate")),
        "{url}"
    );
    wait_for("the service's log", 30, || {
        let logs = f.cf_ok(&["logs", "gate", "--recent"])?;
        Ok(logs.contains(&format!("GET https://{host}")).then_some(()))
    })?;

    // The instance that runs is the one from before; another address is used from now on.
    let moved = format!("https://{}/", f.host("gate"));
    f.cf_ok(&["uups", "gate-service", "-r", &moved])?;
    wait_for("the new address", 30, || {
        Ok((f.table()?[&host][0]["route_service_url"] == moved).then_some(()))
    })?;
    wait_until_visited(f, true)?;
    let after = f.instances(&f.guid("shows-all")?)?[0]["instance_guid"].clone();
    ensure!(before == after, "the app was restarted");
    let text = f.cf_fails(&["uups", "gate-service", "-r", ""])?;
    ensure!(text.contains("is bound to 1 route(s)"), "{text}");

    // A service that is away closes its routes; the app is not reached without it.
    f.cf_ok(&["stop", "gate"])?;
    wait_for("the route is closed", 30, || {
        let answer = f.get(&host, "/")?;
        ensure!(
            answer.status != 200 || answer.body.to_ascii_lowercase().contains(VISITED),
            "a request passed without a visit"
        );
        Ok((answer.status >= 400).then_some(()))
    })?;
    f.cf_ok(&["start", "gate"])?;
    wait_for("the route is open again", 30, || {
        Ok((f.get(&host, "/")?.status == 200).then_some(()))
    })?;
    wait_until_visited(f, true)
}

fn forged_proofs(f: &mut Foundation) -> Result<()> {
    ready(f)?;
    bind(f, "shows-all", "gate-service")?;
    wait_until_visited(f, true)?;
    let (host, port) = (f.host("shows-all"), f.plan["http_port"].to_string());
    let fields = [
        "X-CF-Proxy-Signature: AAAA",
        "X-CF-Proxy-Metadata: e30=",
        &format!("X-CF-Forwarded-Url: https://{host}/"),
    ];
    let fields: Vec<String> = fields.iter().map(|field| format!("-H '{field}'")).collect();
    let status = sh(&format!(
        "curl -sS -o /dev/null -w '%{{http_code}}' --max-time 20 {} -H 'Host: {host}' http://127.0.0.1:{port}/",
        fields.join(" ")
    ))?;
    ensure!(status == "502", "a forged proof: {status}");
    Ok(())
}

/// Tests that no request fails while a route is bound and unbound.
fn no_request_is_lost(f: &mut Foundation) -> Result<()> {
    ready(f)?;
    for _ in 0..3 {
        unbind(f, "shows-all", "gate-service")?;
        for _ in 0..20 {
            shown(f, "/")?;
        }
        wait_until_visited(f, false)?;
        bind(f, "shows-all", "gate-service")?;
        for _ in 0..20 {
            shown(f, "/")?;
        }
        wait_until_visited(f, true)?;
    }
    Ok(())
}

fn websockets_pass(f: &mut Foundation) -> Result<()> {
    ready(f)?;
    push_text(f, "rs-socket", include_str!("websocket.py"))?;
    bind(f, "rs-socket", "gate-service")?;
    let host = f.host("rs-socket");
    wait_for("the binding", 30, || {
        let is_bound = f.table()?[&host][0]["route_service_url"].is_string();
        Ok(is_bound.then_some(()))
    })?;
    wait_for("a WebSocket", 30, || websocket(f, &host).map(Some))?;
    wait_for("the visit in the service's log", 30, || {
        let logs = f.cf_ok(&["logs", "gate", "--recent"])?;
        Ok(logs.contains(&format!("GET https://{host}")).then_some(()))
    })?;
    unbind(f, "rs-socket", "gate-service")?;
    f.cf_ok(&["delete", "-f", "-r", "rs-socket"]).map(drop)
}

/// A server outside of the foundation, which is killed when it is dropped.
struct Outside {
    child: Child,
    port: u16,
}

impl Outside {
    fn start(f: &Foundation) -> Result<Self> {
        let folder = f.folder().join("outside");
        let (data, out) = (f.data.display().to_string(), folder.display().to_string());
        let made = Command::new(binary())
            .args(["certs", "outside", "--host", "127.0.0.1", "--out", &out])
            .args(["--data", &data])
            .output()?;
        ensure!(made.status.success(), "{}", both(&made));
        let port = free_port();
        let program = PathBuf::from(example("route-service")).join("app.py");
        let child = Command::new("python3")
            .arg(program)
            .env("NAME", "outside")
            .env("PORT", port.to_string())
            .env("CERT", folder.join("outside.crt"))
            .env("KEY", folder.join("outside.key"))
            .env("CA", f.data.join("certs/edge_ca.crt"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start the service outside")?;
        Ok(Self { child, port })
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn outside(f: &mut Foundation) -> Result<()> {
    ready(f)?;
    let server = Outside::start(f)?;
    unbind(f, "shows-all", "gate-service")?;
    let url = format!("https://127.0.0.1:{}/", server.port);
    f.cf_ok(&["cups", "outside", "-r", &url])?;
    bind(f, "shows-all", "outside")?;
    wait_for("the visit outside", 30, || {
        Ok(shown(f, "/")?.contains("x-visited: outside").then_some(()))
    })?;
    // The operator's list is checked after the name is resolved.
    f.cf_ok(&["uups", "outside", "-r", "https://169.254.7.7/"])?;
    let host = f.host("shows-all");
    wait_for("the blocked address", 30, || {
        let answer = f.get(&host, "/")?;
        let is_blocked = answer.status == 502 && answer.head.contains("blocked address");
        Ok(is_blocked.then_some(()))
    })?;
    f.cf_ok(&["delete-service", "outside", "-f"])?;
    wait_until_visited(f, false)
}

fn leave_nothing(f: &mut Foundation) -> Result<()> {
    ready(f)?;
    bind(f, "shows-all", "gate-service")?;
    wait_until_visited(f, true)?;
    f.cf_ok(&["delete-service", "gate-service", "-f"])?;
    wait_until_visited(f, false)?;
    let bindings = f.cf_curl("/v3/service_route_bindings")?;
    ensure!(bindings["pagination"]["total_results"] == 0, "{bindings}");
    for app in ["shows-all", "gate"] {
        f.cf_ok(&["delete", "-f", "-r", app])?;
    }
    Ok(())
}
