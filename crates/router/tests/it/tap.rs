//! Taps over real sockets: the phases of a request as they were, while somebody looks and never else.

use crate::backends::Backend;
use crate::client::{raw, request};
use crate::h2peer;
use crate::http1::{app, read_until};
use crate::world::{World, unused_address, wait_for};
use clients::tap::{Event, Page, Tap, Wanted};
use kit::tls::{ClientAuth, server_config};
use router::Settings;
use serde_json::json;
use std::time::Duration;
use testkit::wait::within;
use tokio::io::AsyncWriteExt as _;
use wire::router::{AttemptTrace, RequestTrace, TapEnded};

const LOGIN: [(&str, &str); 1] = [("authorization", "Basic c3RhdHVzOnNlY3JldA==")];

fn page(world: &World) -> Page {
    Page {
        url: format!("http://{}", world.status),
        user: "status".into(),
        password: "secret".into(),
    }
}

fn wanted(host: &str, limit: u64) -> Wanted {
    Wanted {
        host: host.into(),
        limit: Some(limit),
        seconds: None,
    }
}

/// Opens a tap. The router shows every request that begins when this has returned.
async fn open(world: &World, host: &str, limit: u64) -> Tap {
    let mut tap = page(world).tap(&wanted(host, limit)).await.unwrap();
    let Event::Opened(opened) = next(&mut tap).await else {
        panic!("a tap begins with what it shows")
    };
    assert_eq!((&*opened.host, opened.limit), (host, limit));
    tap
}

async fn next(tap: &mut Tap) -> Event {
    within("an event of the tap", tap.next()).await.unwrap()
}

async fn trace(tap: &mut Tap) -> RequestTrace {
    match next(tap).await {
        Event::Request(trace) => *trace,
        other => panic!("want a request, have {other:?}"),
    }
}

fn time_of(attempt: &AttemptTrace) -> f64 {
    let made = [attempt.lost_ms, attempt.connect_ms, attempt.tls_ms];
    let made: f64 = made.into_iter().flatten().sum();
    attempt.pick_ms + made + attempt.answer_ms
}

/// Asserts that the phases are together the whole time, as far as microseconds can show.
fn assert_whole(trace: &RequestTrace) {
    let attempts: f64 = trace.attempts.iter().map(time_of).sum();
    let sum = trace.router_ms + trace.held_ms + attempts + trace.body_ms.unwrap_or_default();
    assert!((sum - trace.total_ms).abs() < 0.05, "{sum}: {trace:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_http1_are_shown_with_their_phases() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 3, backend.addr).await;
    world.get("app.test", "/before").await;
    let mut tap = open(&world, "app.test", 2).await;
    world.get("other.test", "/").await;
    // Both requests come by one connection, so one worker serves them.
    let two = "GET /one?secret=1 HTTP/1.1\r\nHost: App.test:80\r\n\r\nGET /two HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
    raw(world.addr, two, "").await;
    let (one, two) = (trace(&mut tap).await, trace(&mut tap).await);
    assert_eq!((&*one.method, &*one.path, one.status), ("GET", "/one", 200));
    assert_eq!((&*one.host, &*one.version), ("App.test:80", "HTTP/1.1"));
    assert_eq!(one.sent, 1);
    assert!(one.time.ends_with('Z') && !one.request_id.is_empty());
    assert_eq!(two.path, "/two");
    for trace in [&one, &two] {
        assert_whole(trace);
        let [attempt] = &trace.attempts[..] else {
            panic!("{trace:?}")
        };
        assert_eq!(attempt.address, backend.addr.to_string());
        assert_eq!(attempt.instance_id, "app-instance-3");
        assert_eq!((&*attempt.app_id, &*attempt.instance_index), ("app", "3"));
        assert_eq!((attempt.is_tls, attempt.tls_ms), (false, None));
        assert_eq!((&attempt.fault, attempt.app_ms), (&None, None));
        assert!(trace.body_ms.is_some() && trace.held_ms == 0.0);
        assert_eq!(attempt.is_reused, attempt.connect_ms.is_none());
    }
    assert!(two.attempts[0].is_reused, "{two:?}");
    let ended = TapEnded {
        reason: "limit".into(),
        requests: 2,
        missed: 0,
    };
    assert_eq!(next(&mut tap).await, Event::Ended(ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_http2_are_shown_too() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    let host = "app.apps.test";
    world.register(host, "app", 0, backend.addr).await;
    let mut tap = open(&world, host, 9).await;
    let sender = h2peer::connect(&world).await;
    assert_eq!(h2peer::get(&sender, "/x").await.0, 200);
    assert_eq!(h2peer::post(&sender, "/count", 100_000).await.0, 200);
    let (get, post) = (trace(&mut tap).await, trace(&mut tap).await);
    assert_eq!((&*get.version, &*get.path), ("HTTP/2.0", "/x"));
    assert_eq!((&*post.method, post.received), ("POST", 100_000));
    assert_whole(&get);
    assert_whole(&post);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_shown_with_the_reason_of_the_first_attempt() {
    let world = World::new().await;
    let (nobody, backend) = (unused_address(), Backend::start("x").await);
    world.register("app.test", "app", 0, nobody).await;
    world.register("app.test", "app", 1, backend.addr).await;
    let mut tap = open(&world, "app.test", 100).await;
    // Instances are chosen in turn, so one of the first requests meets the one that is not there.
    let retried = loop {
        assert_eq!(world.get("app.test", "/").await.status, 200);
        let trace = trace(&mut tap).await;
        assert_whole(&trace);
        if trace.attempts.len() > 1 {
            break trace;
        }
    };
    let [failed, answered] = &retried.attempts[..] else {
        panic!("{retried:?}")
    };
    assert_eq!(failed.address, nobody.to_string());
    let fault = failed.fault.as_deref().unwrap();
    assert!(fault.ends_with("connection refused"), "{fault}");
    assert!(failed.is_retried && failed.connect_ms.is_some());
    assert_eq!(answered.address, backend.addr.to_string());
    assert_eq!((&answered.fault, retried.status), (&None, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_the_router_answers_itself_are_shown() {
    let world = World::new().await;
    let nobody = unused_address();
    world.register("dead.test", "app", 0, nobody).await;
    let mut tap = open(&world, "dead.test", 9).await;
    world.get("dead.test", "/").await;
    let dead = trace(&mut tap).await;
    assert_eq!((dead.status, dead.body_ms), (502, None));
    assert!(dead.router_error.starts_with("endpoint_failure (dial tcp"));
    assert!(dead.attempts.iter().all(|attempt| attempt.fault.is_some()));
    assert!(!dead.attempts.is_empty());
    let mut tap = open(&world, "nobody.test", 9).await;
    world.get("nobody.test", "/").await;
    let unknown = trace(&mut tap).await;
    assert_eq!(
        (unknown.status, &*unknown.router_error),
        (404, "unknown_route")
    );
    assert!(unknown.attempts.is_empty());
    assert!((unknown.router_ms - unknown.total_ms).abs() < 0.05);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_backend_has_a_handshake() {
    let world = World::new().await;
    let identity = world.ca.issue(&["instance-a"]);
    let tls = server_config(&identity, ClientAuth::Required, &["http/1.1"]).unwrap();
    let backend = Backend::start_tls("right", tls).await;
    world
        .register_tls("app.test", "app", "instance-a", backend.addr)
        .await;
    let mut tap = open(&world, "app.test", 9).await;
    world.get("app.test", "/").await;
    let trace = trace(&mut tap).await;
    assert_whole(&trace);
    let attempt = &trace.attempts[0];
    assert!(attempt.is_tls && attempt.connect_ms.is_some());
    assert!(attempt.tls_ms.unwrap() > 0.0, "{attempt:?}");
    assert_eq!(attempt.instance_id, "instance-a");
    assert!(trace.to_string().contains(", TLS "), "{trace}");
}

/// An Envoy that speaks HTTP writes the app's time into the answer, and the client gets it as before.
#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_s_part_is_apart_where_envoy_writes_the_app_s() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer =
            "HTTP/1.1 200 OK\r\nx-envoy-upstream-service-time: 0\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let mut tap = open(&world, "app.test", 1).await;
    let reply = world.get("app.test", "/").await;
    assert_eq!(reply.header("x-envoy-upstream-service-time"), "0");
    let trace = trace(&mut tap).await;
    let attempt = &trace.attempts[0];
    assert_eq!(attempt.app_ms, Some(0.0));
    assert_eq!(attempt.sidecar_ms, Some(attempt.answer_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_its_first_instance_is_held() {
    let world = World::with(Settings {
        hold_timeout: Duration::from_secs(30),
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world
        .publish("router.starting", json!({"uris": ["app.test"]}))
        .await;
    wait_for("the starting route", async || {
        let view = request(
            world.status,
            "GET",
            "router",
            "/route?url=app.test",
            &LOGIN,
            "",
        )
        .await;
        view.text().contains("\"is_starting\":true")
    })
    .await;
    let mut tap = open(&world, "app.test", 1).await;
    let (addr, held) = (world.addr, world.handle.clone());
    let waiting =
        tokio::spawn(async move { request(addr, "GET", "app.test", "/", &[], "").await.status });
    wait_for("the request to wait", async || held.held() == 1).await;
    world.register("app.test", "app", 0, backend.addr).await;
    assert_eq!(waiting.await.unwrap(), 200);
    let trace = trace(&mut tap).await;
    assert!(trace.held_ms > 0.0, "{trace:?}");
    assert_whole(&trace);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_has_its_reason() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        read_until(&mut stream, "\r\n\r\n").await;
        let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
        stream.write_all(half.as_bytes()).await.unwrap();
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let mut tap = open(&world, "app.test", 1).await;
    raw(world.addr, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", "").await;
    let trace = trace(&mut tap).await;
    assert_eq!((trace.status, trace.sent), (200, 4));
    assert_eq!(trace.broken, "the backend broke its answer off");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_the_password_and_a_query_within_its_bounds() {
    let world = World::new().await;
    let get = async |path: &str, headers: &[(&str, &str)]| {
        let reply = request(world.status, "GET", "router", path, headers, "").await;
        (reply.status, reply.text())
    };
    assert_eq!(get("/tap?host=a.test", &[]).await.0, 401);
    for (path, named) in [
        ("/tap", "host"),
        ("/tap?host=", "host"),
        ("/tap?host=a.test/x", "host"),
        ("/tap?host=a.test&limit=0", "limit"),
        ("/tap?host=a.test&limit=10001", "limit"),
        ("/tap?host=a.test&seconds=x", "seconds"),
        ("/tap?host=a.test&colour=red", "colour"),
    ] {
        let (status, text) = get(path, &LOGIN).await;
        assert_eq!(status, 400, "{path}: {text}");
        assert!(text.contains(named), "{path}: {text}");
    }
    let mut taps = Vec::new();
    for _ in 0..8 {
        taps.push(open(&world, "a.test", 1).await);
    }
    let (status, text) = get("/tap?host=a.test", &LOGIN).await;
    assert_eq!(status, 429, "{text}");
    taps.clear();
    // The router notices a reader that has gone when it has something to send, or soon by itself.
    wait_for("a free place", async || {
        page(&world).tap(&wanted("a.test", 1)).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_stops_ends_its_taps() {
    let world = World::new().await;
    let mut tap = open(&world, "a.test", 1).await;
    world.shutdown.cancel();
    let Event::Ended(ended) = next(&mut tap).await else {
        panic!("the tap goes on")
    };
    assert_eq!((&*ended.reason, ended.requests), ("stop", 0));
}
