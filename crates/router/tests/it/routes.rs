//! Tests of registration, selection, refusal, and the status page.

use crate::backends::Backend;
use crate::client::request;
use crate::world::{World, plain, tls, wait_for};
use router::Settings;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_two_apps_is_spread_and_ends_with_unregistration() {
    let world = World::new().await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let before = Instant::now();
    world
        .publish("router.register", plain("app.test", "app-1", 0, one.addr))
        .await;
    wait_for("the first 200", async || {
        world.get("app.test", "/").await.status == 200
    })
    .await;
    assert!(
        before.elapsed() < Duration::from_secs(20),
        "registration took {:?}",
        before.elapsed()
    );
    world.register("app.test", "app-2", 0, two.addr).await;
    let mut counts = BTreeMap::new();
    for _ in 0..40 {
        *counts
            .entry(world.get("APP.test:8080", "/").await.text())
            .or_insert(0) += 1;
    }
    assert_eq!(
        counts,
        BTreeMap::from([("one".to_owned(), 20), ("two".to_owned(), 20)])
    );
    assert!(
        one.connections.load(Ordering::Relaxed) <= 2,
        "connections are reused: at most one per worker"
    );

    for (app, backend) in [("app-1", &one), ("app-2", &two)] {
        world
            .publish("router.unregister", plain("app.test", app, 0, backend.addr))
            .await;
    }
    wait_for("404", async || {
        world.get("app.test", "/").await.status == 404
    })
    .await;
    let reply = world.get("app.test:80", "/").await;
    assert_eq!(reply.router_error(), "unknown_route");
    assert_eq!(
        reply.text(),
        "404 Not Found: Requested route ('app.test:80') does not exist.\n"
    );
    assert_eq!(reply.header("cache-control"), "no-cache, no-store");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(world.handle.routes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_shown_in_gorouters_form() {
    let world = World::new().await;
    world.publish("router.register", serde_json::json!({"host": "10.0.0.9", "tls_port": 61001, "port": 61000, "uris": ["Secure.test/Path/", "*.wild.test"], "app": "g", "private_instance_id": "i",
        "server_cert_domain_san": "i", "protocol": "http2", "tags": {"component": "route-emitter"}, "availability_zone": "z1", "isolation_segment": "seg", "stale_threshold_in_seconds": 60})).await;
    wait_for("two routes", async || world.handle.routes() == 2).await;
    let row = serde_json::json!([{"address": "10.0.0.9:61001", "availability_zone": "z1", "protocol": "http2", "tls": true, "ttl": 60, "tags": {"component": "route-emitter"},
        "isolation_segment": "seg", "private_instance_id": "i", "server_cert_domain_san": "i"}]);
    assert_eq!(
        world.table().await,
        serde_json::json!({"*.wild.test": row, "secure.test/path": row})
    );
    assert_eq!(
        request(world.status, "GET", "x", "/routes", &[], "")
            .await
            .status,
        401
    );
    assert_eq!(
        request(world.status, "GET", "x", "/health", &[], "")
            .await
            .text(),
        "ok\n"
    );
    let health = request(world.status, "POST", "x", "/health", &[], "").await;
    assert_eq!(health.status, 200, "by any method");
    let metrics = request(world.status, "GET", "x", "/metrics", &[], "")
        .await
        .text();
    assert!(metrics.contains("\ntotal_routes 2\n"), "{metrics}");
    assert!(
        metrics.contains("registry_message{component=\"route-emitter\",action=\"added\"} 2"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_cost_only_themselves() {
    let world = World::new().await;
    let backend = Backend::start("good").await;
    for bad in [
        "",
        "{",
        "[]",
        r#"{"uris":["x.test"],"host":"h","port":"80"}"#,
        r#"{"uris":["x.test"],"host":"h","port":80,"route_service_url":"http://x"}"#,
    ] {
        world
            .bus
            .publish("router.register", bad.into())
            .await
            .unwrap();
    }
    let mut message = plain("app.test", "app", 0, backend.addr);
    message["options"] = serde_json::json!({"loadbalancing": "no such thing"});
    world.publish("router.register", message).await;
    wait_for("the good route", async || world.handle.serves("app.test")).await;
    assert_eq!(world.handle.routes(), 1);
    assert_eq!(world.get("app.test", "/").await.text(), "good");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_endpoints_that_fall_silent_leave() {
    let world = World::with(Settings {
        prune_interval: Duration::from_millis(20),
        stale_threshold: Duration::from_millis(300),
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    let message = plain("app.test", "app", 0, backend.addr);
    world.register_for_a_moment(message).await;
    wait_for("pruning", async || world.handle.routes() == 0).await;
    assert_eq!(world.get("app.test", "/").await.status, 404);
}

/// With gorouter a TLS endpoint stays until it is unregistered or fails.
#[tokio::test(flavor = "multi_thread")]
async fn silent_tls_endpoints_leave_only_without_compatibility() {
    for (keep_silent_tls_endpoints, left) in [(false, 0), (true, 1)] {
        let world = World::with(Settings {
            keep_silent_tls_endpoints,
            prune_interval: Duration::from_millis(20),
            stale_threshold: Duration::from_millis(300),
            ..Settings::default()
        })
        .await;
        let addr = "127.0.0.1:9".parse().unwrap();
        let message = tls("tls.test", "app", "instance", addr);
        world.register_for_a_moment(message).await;
        // This one was registered later, so when it is pruned the other one has had its time.
        let message = plain("plain.test", "app", 0, addr);
        world.register_for_a_moment(message).await;
        wait_for("pruning", async || !world.handle.serves("plain.test")).await;
        wait_for("pruning", async || world.handle.routes() == left).await;
    }
    let own = Settings::default();
    assert!(!own.keep_silent_tls_endpoints, "what `cupola up` has");
}

#[tokio::test(flavor = "multi_thread")]
async fn instance_headers_choose_or_refuse() {
    const APP: &str = "0a1b2c3d-0000-1111-2222-0123456789ab";
    let world = World::new().await;
    let backends = [Backend::start("zero").await, Backend::start("one").await];
    for (index, backend) in (0..).zip(&backends) {
        world.register("app.test", APP, index, backend.addr).await;
    }
    let ask = async |name: &str, value: &str| {
        request(world.addr, "GET", "app.test", "/dump", &[(name, value)], "").await
    };
    for _ in 0..4 {
        let reply = ask("x-cf-app-instance", &format!("{APP}:1")).await.text();
        assert!(
            reply.contains("x-cf-instanceindex: 1\n") && !reply.contains("x-cf-app-instance:"),
            "{reply}"
        );
        let reply = ask("x-cf-process-instance", &format!("{APP}:0"))
            .await
            .text();
        assert!(
            reply.contains("x-cf-instanceindex: 0\n") && !reply.contains("x-cf-process-instance:"),
            "{reply}"
        );
    }
    for (name, value, error) in [
        ("x-cf-app-instance", format!("{APP}:7"), "unknown_route"),
        (
            "x-cf-app-instance",
            APP.to_owned(),
            "invalid_cf_app_instance_header",
        ),
        (
            "x-cf-process-instance",
            "nonsense".to_owned(),
            "invalid_cf_process_instance_header",
        ),
    ] {
        let reply = ask(name, &value).await;
        assert_eq!(
            (reply.status, reply.router_error()),
            (400, error),
            "{name}: {value}"
        );
    }
}

/// Only gorouter's compatibility keeps this header.
#[tokio::test(flavor = "multi_thread")]
async fn in_compatibility_the_app_sees_the_process_header() {
    const APP: &str = "0a1b2c3d-0000-1111-2222-0123456789ab";
    let world = World::with(Settings {
        compat_gorouter: true,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("zero").await;
    world.register("app.test", APP, 0, backend.addr).await;
    let headers = [("x-cf-process-instance", APP)];
    let reply = request(world.addr, "GET", "app.test", "/dump", &headers, "").await;
    assert!(
        reply.text().contains("x-cf-process-instance: "),
        "{reply:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_stick_to_their_instance() {
    let world = World::new().await;
    let backends = [Backend::start("zero").await, Backend::start("one").await];
    for (index, backend) in (0..).zip(&backends) {
        world
            .register("app.test/ctx", "app", index, backend.addr)
            .await;
    }
    world.register("app.test", "app", 0, backends[0].addr).await;
    let first = world.get("app.test", "/session").await;
    let cookies: Vec<&str> = first
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    assert_eq!(
        cookies[1],
        "__VCAP_ID__=app-instance-0; Path=/; HttpOnly; Secure; SameSite=Strict"
    );
    for _ in 0..6 {
        let reply = request(
            world.addr,
            "GET",
            "app.test",
            "/ctx",
            &[("cookie", "JSESSIONID=s1; __VCAP_ID__=app-instance-1")],
            "",
        )
        .await;
        assert_eq!(reply.text(), "one");
        assert_eq!(reply.header("set-cookie"), "");
    }
    let moved = request(
        world.addr,
        "GET",
        "app.test",
        "/ctx",
        &[("cookie", "JSESSIONID=s1; __VCAP_ID__=gone")],
        "",
    )
    .await;
    assert!(
        moved
            .header("set-cookie")
            .starts_with("__VCAP_ID__=app-instance-"),
        "{moved:?}"
    );
    assert!(
        moved.header("set-cookie").contains("; Path=/ctx; HttpOnly"),
        "{moved:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_counts_until_its_end() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::with(router::Settings {
        max_conns_per_endpoint: 1,
        ..router::Settings::default()
    })
    .await;
    // This app accepts every upgrade, and then stays silent.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let app = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let answer =
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            open.push(stream);
        }
    });
    world.register("app.test", "app", 0, addr).await;
    let upgrade = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    let mut client = tokio::net::TcpStream::connect(world.addr).await.unwrap();
    client.write_all(upgrade.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    wait_for("the limit to be reached by the tunnel", async || {
        let reply = world.get("app.test", "/").await;
        (reply.status, reply.router_error()) == (503, "Connection Limit Reached")
    })
    .await;
    drop(client);
    wait_for("the tunnel's place to be free", async || {
        crate::client::raw(world.addr, upgrade, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 101")
    })
    .await;
    app.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_by_hash_keeps_tenants_together() {
    let world = World::new().await;
    let backends = [
        Backend::start("one").await,
        Backend::start("two").await,
        Backend::start("three").await,
    ];
    for (index, backend) in backends.iter().enumerate() {
        let mut message = crate::world::plain("app.test", "app", index as u32, backend.addr);
        message["options"] =
            serde_json::json!({"loadbalancing": "hash", "hash_header": "X-Tenant"});
        world.publish("router.register", message).await;
    }
    wait_for("three endpoints", async || {
        world.table().await["app.test"]
            .as_array()
            .is_some_and(|rows| rows.len() == 3)
    })
    .await;
    let row = &world.table().await["app.test"][0];
    assert_eq!(row["load_balancing_algorithm"], "hash");
    assert_eq!(row["hash_header"], "x-tenant");
    assert_eq!(row["hash_balance"], 0.0);
    let mut all = std::collections::BTreeSet::new();
    for tenant in 0..20 {
        let tenant = format!("tenant-{tenant}");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let headers = [("x-tenant", tenant.as_str())];
            let reply =
                crate::client::request(world.addr, "GET", "app.test", "/", &headers, "").await;
            seen.insert(reply.text());
        }
        assert_eq!(seen.len(), 1, "{tenant}");
        all.extend(seen);
    }
    assert_eq!(all.len(), 3);
}

/// Like gorouter, the table shows the options of an endpoint's own registration, also when they are the default, and none where
/// it had none.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_shows_the_options_of_each_registration() {
    let world = World::new().await;
    let with = async |index: u32, options: serde_json::Value| {
        let addr = std::net::SocketAddr::from(([10, 0, 0, 1], 8000 + index as u16));
        let mut message = crate::world::plain("app.test", "app", index, addr);
        message["options"] = options;
        world.publish("router.register", message).await;
    };
    with(0, serde_json::json!({"loadbalancing": "least-connection"})).await;
    with(1, serde_json::json!({"loadbalancing": "round-robin"})).await;
    let policy =
        serde_json::json!({"route_policy_scope": "org", "route_policy_sources": "cf:app:a,cf:any"});
    with(2, policy).await;
    with(3, serde_json::Value::Null).await;
    wait_for("four endpoints", async || {
        let table = world.table().await;
        table["app.test"]
            .as_array()
            .is_some_and(|rows| rows.len() == 4)
    })
    .await;
    let table = world.table().await;
    let row = |port: u16| {
        let address = format!("10.0.0.1:{port}");
        let mut rows = table["app.test"].as_array().unwrap().iter();
        rows.find(|row| row["address"] == address.as_str()).unwrap()
    };
    assert_eq!(row(8000)["load_balancing_algorithm"], "least-connection");
    assert_eq!(row(8001)["load_balancing_algorithm"], "round-robin");
    assert_eq!(row(8002)["route_policy_scope"], "org");
    assert_eq!(
        row(8002)["route_policies"],
        serde_json::json!(["cf:app:a", "cf:any"])
    );
    for key in [
        "load_balancing_algorithm",
        "hash_balance",
        "route_policy_scope",
        "route_policies",
    ] {
        assert!(row(8003).get(key).is_none(), "{key}");
    }
}
