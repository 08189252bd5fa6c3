//! Tests of what the log contains about failing backends: gorouter's keys, which tools look for.

use crate::backends::Backend;
use crate::world::{World, plain, unused_address, wait_for};
use kit::tls::{ClientAuth, server_config};
use router::Settings;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, Once};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

pub(crate) type Line = BTreeMap<&'static str, String>;

/// The lines of all routers in this process.
static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// A subscriber that keeps warnings and errors of routers and registrars, and the lines of routers about the bus.
struct Keeper;

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let of = |part: &str| metadata.target().starts_with(part);
        of("router::bus::presence")
            || *metadata.level() <= Level::WARN
                && (of("router::") || of("route_registrar::") || of("clients::uaa::"))
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        LINES.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields(Line);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// Returns the line with this message about this endpoint, once it is there.
async fn line(message: &str, address: &str) -> Line {
    line_about(message, "route-endpoint.Addr", address).await
}

/// Returns the first line with this message and this value of a key, once it is there.
pub(crate) async fn line_about(message: &str, key: &str, value: &str) -> Line {
    let find = || {
        let lines = LINES.lock().unwrap();
        let found = lines.iter().find(|line| {
            line.get("message").is_some_and(|m| m == message)
                && line.get(key).is_some_and(|found| found == value)
        });
        found.cloned()
    };
    wait_for(message, async || find().is_some()).await;
    find().unwrap()
}

/// Starts to keep lines. It must be called before the line that a test looks for.
pub(crate) fn keep_lines() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Keeper).unwrap());
}

async fn world() -> World {
    keep_lines();
    World::with(Settings {
        max_attempts: 1,
        endpoint_timeout: Duration::from_millis(300),
        ..Settings::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_refuses() {
    let world = world().await;
    let addr = unused_address();
    let mut message = plain("app.test", "app", 0, addr);
    message["availability_zone"] = "z1".into();
    world.publish("router.register", message).await;
    wait_for("the route", async || world.handle.serves("app.test")).await;
    let reply = world.get("app.test", "/").await;
    assert_eq!(reply.status, 502);
    let address = addr.to_string();
    let failed = line("backend-endpoint-failed", &address).await;
    for (key, wanted) in [
        ("route-endpoint.ApplicationId", "app"),
        ("route-endpoint.AZ", "z1"),
        ("route-endpoint.RouteServiceUrl", ""),
        (
            "route-endpoint.Tags",
            r#"{"component": "route-emitter", "process_id": "app"}"#,
        ),
        ("attempt", "1"),
        ("vcap_request_id", reply.header("x-vcap-request-id")),
        ("num-endpoints", "1"),
        ("got-connection", "false"),
        ("wrote-headers", "false"),
        ("conn-reused", "false"),
        ("dns-lookup-time", "0.0"),
        ("tls-handshake-time", "0.0"),
        ("local-address", ""),
        ("retriable", "true"),
    ] {
        assert_eq!(failed[key], wanted, "{key} in {failed:?}");
    }
    assert!(failed["dial-time"].parse::<f64>().unwrap() > 0.0);
    assert!(failed["error"].starts_with(&format!("dial tcp {address}: ")));
    line("endpoint-marked-as-ineligible", &address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_of_another_name() {
    let world = world().await;
    let identity = world.ca.issue(&["other"]);
    let tls = server_config(&identity, ClientAuth::None, &["http/1.1"]).unwrap();
    let backend = Backend::start_tls("x", tls).await;
    world
        .register_tls("app.test", "app", "mine", backend.addr)
        .await;
    assert_eq!(world.get("app.test", "/").await.status, 503);
    let address = backend.addr.to_string();
    let failed = line("backend-endpoint-failed", &address).await;
    assert_eq!(failed["got-connection"], "false");
    assert!(failed["tls-handshake-time"].parse::<f64>().unwrap() > 0.0);
    assert!(failed["local-address"].starts_with("127.0.0.1:"));
    let pruned = line("prune-failed-endpoint", &address).await;
    assert_eq!(pruned["route-endpoint.ApplicationId"], "app");
    assert_eq!(pruned["expected_certificate_name"], "mine");
    assert_eq!(pruned["presented_certificate_names"], "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_no_endpoint_can_serve() {
    let world = World::with(Settings {
        sticky_for_auth_negotiate: true,
        ..Settings::default()
    })
    .await;
    keep_lines();
    let backend = Backend::start("x").await;
    world
        .register("sticky.log.test", "app", 0, backend.addr)
        .await;
    let ask = async |header, value| {
        let headers = [("authorization", "Negotiate x"), (header, value)];
        crate::client::request(world.addr, "GET", "sticky.log.test", "/", &headers, "").await
    };
    assert_eq!(ask("cookie", "__VCAP_ID__=gone").await.status, 502);
    let failed = line_about("select-endpoint-failed", "host", "sticky.log.test").await;
    assert_eq!(failed["error"], "No endpoints available");
    for (header, message) in [
        ("x-cf-app-instance", "invalid-app-instance-header"),
        ("x-cf-process-instance", "invalid-process-instance-header"),
    ] {
        assert_eq!(ask(header, "no guid").await.status, 400);
        line_about(message, "message", message).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_takes_too_long() {
    let world = world().await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    assert_eq!(world.get("app.test", "/slow").await.status, 504);
    let address = backend.addr.to_string();
    line("backend-request-timeout", &address).await;
    let failed = line("backend-endpoint-failed", &address).await;
    for (key, wanted) in [
        ("got-connection", "true"),
        ("wrote-headers", "true"),
        ("conn-reused", "false"),
        ("retriable", "false"),
        ("error", "context deadline exceeded"),
    ] {
        assert_eq!(failed[key], wanted, "{key} in {failed:?}");
    }
}
