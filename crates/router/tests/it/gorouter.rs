//! Behaviour of a gorouter on the wire, found by sending the same requests to both routers.

use crate::backends::Backend;
use crate::client::{raw, request};
use crate::http1::{app, read_until};
use crate::world::{World, plain, wait_for};
use router::Settings;
use tokio::io::AsyncWriteExt as _;

/// Starts an app that answers every request with these bytes and closes.
async fn saying(answer: &'static str) -> std::net::SocketAddr {
    app(async move |mut stream| {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

/// Returns the value of a field as `/dump` saw it.
fn dumped<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_gets_the_headers_that_a_gorouter_would_send() {
    let world = World::with(Settings {
        zipkin: true,
        w3c: true,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    for (method, length) in [("POST", Some("0")), ("PATCH", Some("0")), ("DELETE", None)] {
        let ask = format!(
            "{method} /dump HTTP/1.1\r\nHost: app.test\r\nConnection: close, TE\r\nTE: trailers\r\nX-Forwarded-Proto:\r\n\r\n"
        );
        let answer = raw(world.addr, &ask, "").await;
        let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(dumped(seen, "content-length"), length, "{seen}");
        assert_eq!(dumped(seen, "te"), Some("trailers"), "{seen}");
        assert_eq!(dumped(seen, "x-forwarded-proto"), Some("http"), "{seen}");
    }
    let (id, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let b3 = format!("{id}-{span}-1");
    let traceparent = format!("00-{id}-{span}-01");
    for given in [("b3", b3.as_str()), ("traceparent", &traceparent)] {
        let reply = request(world.addr, "GET", "app.test", "/dump", &[given], "").await;
        let text = reply.text();
        let wanted = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736";
        if given.0 == "b3" {
            assert_eq!(dumped(&text, "x-vcap-request-id"), Some(wanted), "{text}");
            assert_eq!(dumped(&text, "traceparent"), Some(traceparent.as_str()));
        }
        let joined = dumped(&text, "traceparent").unwrap();
        assert!(joined.starts_with(&format!("00-{id}-")), "{text}");
    }
    let text = world.get("app.test", "/dump").await.text();
    let (pair, both) = (dumped(&text, "b3"), dumped(&text, "traceparent"));
    assert_eq!(format!("00-{}-01", pair.unwrap()), both.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_instance_header_names_no_instance() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    for name in ["x-cf-app-instance", "x-cf-process-instance"] {
        let reply = request(world.addr, "GET", "app.test", "/", &[(name, "")], "").await;
        assert_eq!(reply.text(), "x", "{name}");
        let reply = request(world.addr, "GET", "app.test", "/", &[(name, "bad")], "").await;
        assert_eq!(reply.status, 400, "{name}");
        assert_eq!(reply.header("cache-control"), "no-cache, no-store");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_instance_there_is_no_sticky_cookie() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    let mut message = plain("app.test", "app", 0, backend.addr);
    message["private_instance_id"] = "".into();
    world.publish("router.register", message).await;
    wait_for("the route", async || {
        world.get("app.test", "/").await.status == 200
    })
    .await;
    let reply = world.get("app.test", "/session").await;
    let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_own_error_is_in_the_log() {
    let world = World::new().await;
    let addr =
        saying("HTTP/1.1 500 No\r\nX-Cf-RouterError: of the app\r\nContent-Length: 0\r\n\r\n")
            .await;
    world.register("app.test", "app", 0, addr).await;
    assert_eq!(
        world.get("app.test", "/").await.router_error(),
        "of the app"
    );
    let line = world.log_lines(1).await.remove(0);
    assert!(line.contains("x_cf_routererror:\"of the app\""), "{line}");
}

/// A server must not switch to a protocol that the client did not ask for: client and router would then read different things.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_protocol_that_was_asked_for_is_switched_to() {
    let world = World::new().await;
    for (host, answer) in [
        (
            "other.test",
            "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
        ),
        ("none.test", "HTTP/1.1 101 S\r\n\r\n"),
    ] {
        world.register(host, host, 0, saying(answer).await).await;
        let ask = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
        let seen = raw(world.addr, &ask, "request.\n").await;
        assert!(seen.starts_with("HTTP/1.1 502 "), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_route_is_named() {
    let world = World::with(Settings {
        max_conns_per_endpoint: 1,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let addr = world.addr;
    let slow =
        tokio::spawn(async move { request(addr, "GET", "app.test", "/slow", &[], "").await });
    backend.waiting.notified().await;
    let reply = world.get("app.test", "/").await;
    assert_eq!(
        (reply.status, reply.router_error(), reply.text().as_str()),
        (
            503,
            "Connection Limit Reached",
            "503 Service Unavailable: Requested route ('app.test') has reached the connection limit.\n"
        )
    );
    backend.go.notify_one();
    assert_eq!(slow.await.unwrap().status, 200);
}

/// Many servers ignore `Expect`, and wait for a body that the client will not send unasked.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_continue_gets_it_from_the_router_at_last() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        read_until(&mut stream, "\r\n\r\nhello").await;
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ngot";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let mut client = tokio::net::TcpStream::connect(world.addr).await.unwrap();
    let ask =
        "POST / HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    client.write_all(ask.as_bytes()).await.unwrap();
    read_until(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
    client.write_all(b"hello").await.unwrap();
    let seen = read_until(&mut client, "got").await;
    assert!(seen.contains("HTTP/1.1 200 OK\r\n"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_named_as_the_client_named_it() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    // Only a broken emitter registers a route without a host; it is no route for a host that is an address.
    world.register("", "app", 0, backend.addr).await;
    for host in ["nobody.test", "nobody.test:8080", "[::1]", "[::1]:80"] {
        let reply = world.get(host, "/").await;
        let wanted = format!("404 Not Found: Requested route ('{host}') does not exist.\n");
        assert_eq!((reply.status, reply.text()), (404, wanted));
    }
}
