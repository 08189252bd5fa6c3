//! Traces to a receiver of OTLP: of marked requests alone, and never at the cost of a request.

use crate::backends::Backend;
use crate::client::{Reply, raw, request};
use crate::world::{World, unused_address, wait_for};
use axum::extract::State;
use axum::routing::post;
use kit::CancellationToken;
use router::{Otlp, Settings};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use testkit::http::serve;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A receiver that accepts everything, and what it got.
struct Receiver {
    url: String,
    messages: Arc<Mutex<Vec<Value>>>,
    stop: CancellationToken,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Receiver {
    async fn start() -> Self {
        let messages = Arc::<Mutex<Vec<Value>>>::default();
        let keep = async |State(messages): State<Arc<Mutex<Vec<Value>>>>,
                          body: axum::Json<Value>| {
            messages.lock().unwrap().push(body.0);
            axum::Json(json!({}))
        };
        let app = axum::Router::new()
            .route("/v1/traces", post(keep))
            .with_state(messages.clone());
        let stop = CancellationToken::new();
        let peer = serve(app, None, stop.clone()).await;
        Self {
            url: peer.url,
            messages,
            stop,
        }
    }

    /// Returns all spans that have arrived.
    fn spans(&self) -> Vec<Value> {
        let messages = self.messages.lock().unwrap();
        let spans = messages.iter().flat_map(|message| {
            let resource = &message["resourceSpans"][0];
            let spans = resource["scopeSpans"][0]["spans"].as_array();
            spans.cloned().unwrap_or_default()
        });
        spans.collect()
    }

    /// Waits for the span of the router's that belongs to a trace.
    async fn root(&self, trace: &str) -> Value {
        wait_for("the request's span", async || {
            let spans = self.spans();
            let mut found = spans.iter().filter(|span| span["traceId"] == trace);
            found.find(|span| span["kind"] == 2).cloned()
        })
        .await
    }
}

fn exporting_to(url: &str) -> Settings {
    Settings {
        zipkin: true,
        w3c: true,
        otlp: Some(Otlp::parse(url).unwrap()),
        ..Settings::default()
    }
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    found.map_or(&Value::Null, |attribute| &attribute["value"])
}

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> Reply {
    request(world.addr, "GET", "app.test", path, headers, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marked_request_is_one_trace_from_the_client_to_the_app() {
    let receiver = Receiver::start().await;
    let world = World::with(exporting_to(&receiver.url)).await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 3, backend.addr).await;
    get(&world, "/unmarked", &[]).await;
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    get(&world, "/unsampled", &[("traceparent", &unsampled)]).await;
    let sampled = format!("00-{TRACE}-{SPAN}-01");
    let headers = [("traceparent", sampled.as_str())];
    let seen = get(&world, "/dump?secret=1", &headers).await.text();

    let root = receiver.root(TRACE).await;
    assert_eq!(root["parentSpanId"], SPAN);
    let own = root["spanId"].as_str().unwrap();
    let passed_on = format!("traceparent: 00-{TRACE}-{own}-01\n");
    assert!(seen.contains(&passed_on), "{passed_on} in {seen}");
    assert_eq!(attribute(&root, "url.path")["stringValue"], "/dump");
    let status = attribute(&root, "http.response.status_code");
    assert_eq!(status["intValue"], "200");

    let spans = receiver.spans();
    assert!(
        spans.iter().all(|span| span["traceId"] == TRACE),
        "{spans:?}"
    );
    let parts = |of: &Value| -> Vec<Value> {
        let of_it = spans.iter().filter(|span| span["parentSpanId"] == *of);
        of_it.cloned().collect()
    };
    let attempts = parts(&root["spanId"]);
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    let attempt = &attempts[0];
    assert_eq!(
        (&attempt["name"], &attempt["kind"]),
        (&json!("attempt"), &json!(3))
    );
    assert_eq!(
        attribute(attempt, "cloudfoundry.app.id")["stringValue"],
        "app"
    );
    let names: Vec<Value> = parts(&attempt["spanId"])
        .iter()
        .map(|part| part["name"].clone())
        .collect();
    assert!(
        names.contains(&json!("answer")) && names.contains(&json!("body")),
        "{names:?}"
    );
    wait_for("the count", async || {
        let metrics = world.handle.metrics_text();
        metrics
            .contains("otlp_traces_sent 1\n")
            .then_some(())
            .ok_or(metrics)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_s_debug_flag_asks_for_a_trace_whose_ids_the_backend_gets() {
    let receiver = Receiver::start().await;
    let world = World::with(exporting_to(&receiver.url)).await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let seen = get(&world, "/dump", &[("x-b3-flags", "1")]).await.text();
    let line = seen.lines().find_map(|line| line.strip_prefix("b3: "));
    let (trace, span) = line.unwrap().split_once('-').unwrap();
    let root = receiver.root(trace).await;
    assert_eq!(
        (&root["spanId"], &root["parentSpanId"]),
        (&json!(span), &Value::Null)
    );
    // The client's own ids go on unchanged, so the router's span has another id.
    let b3 = format!("{TRACE}-{SPAN}-1");
    get(&world, "/", &[("b3", &b3)]).await;
    let root = receiver.root(TRACE).await;
    assert_eq!(root["parentSpanId"], SPAN);
    assert_ne!(root["spanId"], SPAN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_costs_traces_and_no_request() {
    let world = World::with(exporting_to(&format!("http://{}", unused_address()))).await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    for _ in 0..5 {
        assert_eq!(get(&world, "/", &[("b3", "d")]).await.status, 200);
    }
    // The receiver is tried a few times first.
    wait_for("the losses", async || {
        let metrics = world.handle.metrics_text();
        metrics
            .contains("otlp_traces_dropped 5\n")
            .then_some(())
            .ok_or(metrics)
    })
    .await;
    assert!(world.handle.metrics_text().contains("otlp_traces_sent 0\n"));
    assert_eq!(get(&world, "/", &[("b3", "d")]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_is_behind_a_bounded_queue() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            open.push(tokio::spawn(async move {
                let mut room = [0; 4096];
                while stream.read(&mut room).await.is_ok_and(|read| read > 0) {}
            }));
        }
    });
    let world = World::with(exporting_to(&url)).await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let one = "GET / HTTP/1.1\r\nHost: app.test\r\nX-B3-Flags: 1\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
    // More than the queue and two batches hold. Each connection brings some of them, one after the other.
    for _ in 0..15 {
        let requests = one.repeat(200) + last;
        let answers = raw(world.addr, &requests, "").await;
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 201);
    }
    let metrics = world.handle.metrics_text();
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("otlp_traces_dropped "))
        .map(|count| count.parse::<u64>().unwrap());
    assert!(dropped.unwrap() > 0, "{metrics}");
    silent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_receiver_there_are_no_numbers_of_it() {
    let world = World::new().await;
    assert!(!world.handle.metrics_text().contains("otlp"));
}
