//! Tests of what operators see: pages behind gorouter's flag, custom error pages, logs as JSON.

use crate::backends::Backend;
use crate::client::request;
use crate::world::{World, plain, unused_address, wait_for};
use router::{ErrorPage, LogField, LogFormat, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn varz(world: &World) -> serde_json::Value {
    let login = [("authorization", "Basic c3RhdHVzOnNlY3JldA==")];
    let reply = request(world.status, "GET", "router", "/varz", &login, "").await;
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn varz_counts_what_passed() {
    let world = World::with(Settings {
        index: 3,
        deprecated_pages: true,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    world.register("other.test", "app", 0, backend.addr).await;
    world.get("app.test", "/").await;
    world.get("nobody.test", "/").await;
    world.log_lines(2).await;
    let reply = request(world.status, "GET", "router", "/varz", &[], "").await;
    assert_eq!(reply.status, 401);
    wait_for("a rate", async || varz(&world).await["rate"][0] != 0.0).await;
    let varz = varz(&world).await;
    for of in [&varz, &varz["tags"]["component"]["route-emitter"]] {
        for (key, wanted) in [
            ("requests", 1),
            ("responses_2xx", 1),
            ("responses_4xx", 0),
            ("responses_xxx", 0),
        ] {
            assert_eq!(of[key], wanted, "{key} in {of}");
        }
        // A machine that stood still for five seconds read the counter before the request, or once more after it.
        let rates = of["rate"].as_array().unwrap();
        let plausible =
            |rate: &serde_json::Value| rate.as_f64().is_some_and(|r| r > 0.0 && r <= 0.2);
        assert!(rates.len() == 3 && rates.iter().all(plausible), "{of}");
        let latency = &of["latency"];
        assert_eq!(latency["samples"], 1);
        let [median, most] = ["50", "99"].map(|part| latency[part].as_f64().unwrap());
        assert!(median > 0.0 && median == most && most < 10.0, "{latency}");
        let value = latency["value"].as_f64().unwrap();
        assert!((value - median * 1e3).abs() < 1e-9, "{latency}");
    }
    for (key, wanted) in [
        ("type", serde_json::json!("Router")),
        ("index", 3.into()),
        ("bad_requests", 1.into()),
        ("bad_gateways", 0.into()),
        ("urls", 2.into()),
        ("droplets", 1.into()),
        ("requests_per_sec", varz["rate"][0].clone()),
        ("log_counts", serde_json::json!({})),
        (
            "top10_app_requests",
            serde_json::json!([{"application_id": "app", "rps": 0, "rpm": 1}]),
        ),
    ] {
        assert_eq!(varz[key], wanted, "{key} in {varz}");
    }
    assert!(varz["uuid"].as_str().unwrap().starts_with("3-"));
    assert!(varz["mem"].as_u64().unwrap() > 0);
    assert!(varz["cpu"].as_f64().unwrap() > 0.0);
    let healthz = request(world.status, "GET", "router", "/healthz", &[], "").await;
    assert_eq!((healthz.status, healthz.text().as_str()), (200, "ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_gorouters_names_and_true_values() {
    let world = World::with(Settings {
        per_app_metrics: true,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    for _ in 0..3 {
        world.get("app.test", "/").await;
    }
    world.log_lines(3).await;
    let text = world.handle.metrics_text();
    for line in [
        "total_routes 1\n",
        "total_requests{component=\"route-emitter\"} 3\n",
        "responses{status_group=\"2xx\"} 3\n",
        "latency_count{component=\"route-emitter\"} 3\n",
        "gorouter_time_count 3\n",
        "http_latency_seconds_count{source_id=\"app\"} 3\n",
        "endpoints_per_pool{route=\"app.test\",lb_algorithm=\"round-robin\"} 1\n",
        "route_registration_latency_count 0\n",
        "registry_message{component=\"route-emitter\",action=\"added\"} 1\n",
        "routes_registered 1\n",
        "responses_route_services{status_group=\"2xx\"} 0\n",
        "# TYPE total_dropped_messages gauge\n",
        "promhttp_metric_handler_errors_total{cause=\"gathering\"} 0\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let open = text
        .lines()
        .find_map(|line| line.strip_prefix("file_descriptors "))
        .unwrap();
    assert!(open.parse::<u32>().unwrap() > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_gorouter_has_and_seldom_moves() {
    let world = World::with(Settings {
        per_request_metrics: false,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    world.get("app.test", "/").await;
    let mut client = TcpStream::connect(world.addr).await.unwrap();
    let empty = b"GET / HTTP/1.1\r\nHost: app.test\r\nContent-Length:\r\n\r\n";
    client.write_all(empty).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let gone = plain("app.test", "app", 0, backend.addr);
    world.publish("router.unregister", gone).await;
    wait_for("the route to go", async || world.handle.routes() == 0).await;
    world.log_lines(1).await;
    let text = world.handle.metrics_text();
    for line in [
        "empty_content_length_header 1\n",
        "rejected_requests 0\n",
        "unregistry_message{component=\"route-emitter\"} 1\n",
        "routes_unregistered 1\n",
        "total_requests{component=\"route-emitter\"} 1\n",
        "responses{status_group=\"2xx\"} 1\n",
        "latency_count{component=\"route-emitter\"} 0\n",
        "gorouter_time_count 0\n",
        "route_lookup_time_count 0\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_use_the_operators_template() {
    let template =
        "<p>{{.Status}} {{.StatusText}}: {{.Message}} {{.Header.Get \"X-Cf-RouterError\"}}";
    let world = World::with(Settings {
        error_page: Some(ErrorPage::parse(template).unwrap()),
        ..Settings::default()
    })
    .await;
    let reply = world.get("nobody.test", "/").await;
    assert_eq!(
        reply.text(),
        "<p>404 Not Found: Requested route (&#39;nobody.test&#39;) does not exist. unknown_route"
    );
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    let addr = unused_address();
    world.register("app.test", "app", 0, addr).await;
    let reply = world.get("app.test", "/").await;
    assert_eq!(
        reply.text(),
        "502 Bad Gateway: Registered endpoint failed to handle the request.\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_request_and_the_command_that_explains_them() {
    let world = World::with(Settings {
        error_help: true,
        ..Settings::default()
    })
    .await;
    let reply = world.get("nobody.test", "/some/path/?secret=1").await;
    let expected = format!(
        "404 Not Found: Requested route ('nobody.test') does not exist.\nRequest id: {}\nAsk why: cupola why nobody.test/some/path\n",
        reply.header("x-vcap-request-id")
    );
    assert_eq!(reply.text(), expected);
    // A path that a shell would interpret does not become part of a command.
    let reply = world.get("nobody.test", "/$(id)").await;
    assert!(!reply.text().contains("Ask why"), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_as_json() {
    let world = World::with(Settings {
        log_format: LogFormat {
            json: true,
            extra_fields: vec![LogField::FailedAttempts, LogField::TlsSni],
            ..LogFormat::default()
        },
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 2, backend.addr).await;
    let headers = [("user-agent", "a \"b\"")];
    request(world.addr, "GET", "app.test", "/a?b", &headers, "").await;
    let line: serde_json::Value = serde_json::from_str(&world.log_lines(1).await[0]).unwrap();
    for (key, wanted) in [
        ("host", serde_json::json!("app.test")),
        ("uri", "/a?b".into()),
        ("status", 200.into()),
        ("user_agent", "a \"b\"".into()),
        ("referer", serde_json::Value::Null),
        ("backend", backend.addr.to_string().into()),
        ("app_id", "app".into()),
        ("app_index", "2".into()),
        ("failed_attempts", 0.into()),
        ("tls_sni", serde_json::Value::Null),
    ] {
        assert_eq!(line[key], wanted, "{key} in {line}");
    }
    assert!(line["response_time"].as_f64().unwrap() > 0.0);
}

/// The query contains a `;`, at which frameworks once split.
#[tokio::test(flavor = "multi_thread")]
async fn a_quirk_of_gorouter_exists_in_compatibility() {
    for compat in [true, false] {
        let world = World::with(Settings {
            compat_gorouter: compat,
            ..Settings::default()
        })
        .await;
        let backend = Backend::start("x").await;
        world.register("app.test", "app", 0, backend.addr).await;
        let reply = world.get("app.test", "/?a=1;b=2").await;
        assert_eq!((reply.status, reply.router_error()), (200, ""));
        let line = world.log_lines(1).await.remove(0);
        let reported = line.contains("x_cf_routererror:\"deprecated-semicolon-params\"");
        assert_eq!(reported, compat, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_is_ready_with_its_bus_until_it_drains() {
    let mut world = World::new().await;
    let observed = world.handle.observed();
    wait_for("readiness", async || observed.readiness.unmet().is_empty()).await;
    assert_eq!(
        testkit::metrics::value(&observed.metrics.text(), "total_routes"),
        Some(0.0)
    );
    drop(world.nats.take());
    wait_for("the loss of the bus", async || {
        let unmet = observed.readiness.unmet();
        matches!(unmet.as_slice(), [only] if only.starts_with("the message bus: "))
    })
    .await;
    world.shutdown.cancel();
    wait_for("the drain", async || {
        let unmet = observed.readiness.unmet();
        unmet.iter().any(|need| need.starts_with("the listeners: "))
    })
    .await;
}
