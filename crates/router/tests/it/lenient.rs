//! Oddities of apps and clients that other proxies accept, and that the router accepts as well.

use crate::backends::Backend;
use crate::client::raw;
use crate::h2peer::{ask, begin, connect, get, head};
use crate::http1::{app, read_until};
use crate::world::{World, wait_for};
use futures::FutureExt as _;
use http::Method;
use router::Settings;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// Starts an app that answers each connection's requests with the same bytes.
async fn answering(answer: String) -> SocketAddr {
    app(move |mut stream| {
        let answer = answer.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn blanks_in_an_answer_are_removed() {
    let world = World::new().await;
    let addr = answering("HTTP/1.1 200 OK\r\nX-Padded : 1\r\nTransfer-Encoding\t: chunked\r\nTrailer: X-Sum\r\n\r\n5   \r\nhello\r\n6\t\r\n world\r\n0 \r\nX-Sum : 2\r\n\r\n".into()).await;
    world.register("app.test", "app", 0, addr).await;
    let ask = "GET / HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n";
    let seen = raw(world.addr, ask, "").await;
    assert!(seen.starts_with("HTTP/1.1 200 OK\r\n"), "{seen}");
    assert!(seen.contains("\r\nX-Padded: 1\r\n"), "{seen}");
    assert!(seen.contains("hello") && seen.contains(" world"), "{seen}");
    assert!(seen.ends_with("0\r\nX-Sum: 2\r\n\r\n"), "{seen}");
    // From a client these would be smuggling.
    for bad in [
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ] {
        let seen = raw(world.addr, bad, "").await;
        assert!(seen.starts_with("HTTP/1.1 400 "), "{bad} {seen}");
    }
}

fn fields(count: usize) -> String {
    (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_not_counted_unless_they_are_to_be() {
    const MANY: usize = 3000;
    for most in [0, MANY / 2] {
        let world = World::with(Settings {
            max_request_headers: most,
            max_response_headers: most,
            ..Settings::default()
        })
        .await;
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok",
            fields(MANY)
        );
        let addr = answering(many).await;
        world.register("app.apps.test", "app", 0, addr).await;
        let few = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into()).await;
        world.register("app.apps.test/few", "app", 0, few).await;
        let sender = connect(&world).await;
        let (request, response) = if most == 0 { (200, 200) } else { (431, 502) };

        assert_eq!(get(&sender, "/").await.0, response, "HTTP/2, {most}");
        let plain = "GET / HTTP/1.1\r\nHost: app.apps.test\r\n\r\n";
        let seen = raw(world.addr, plain, "\r\n\r\n").await;
        assert!(
            seen.starts_with(&format!("HTTP/1.1 {response} ")),
            "{seen:.100}"
        );
        let asked = format!(
            "GET /few HTTP/1.1\r\nHost: app.apps.test\r\n{}\r\n",
            fields(MANY)
        );
        let seen = raw(world.addr, &asked, "\r\n\r\n").await;
        assert!(seen.starts_with(&format!("HTTP/1.1 {request} ")), "{seen}");
        let mut asked = ask(Method::GET, "/few");
        for n in 0..MANY {
            let name: http::HeaderName = format!("x-{n}").parse().unwrap();
            asked.headers_mut().append(name, "v".parse().unwrap());
        }
        let (answer, _) = begin(&sender, asked, true).await;
        assert_eq!(head(answer).await.status(), request, "HTTP/2, {most}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_end_with_a_dot() {
    for compat_gorouter in [false, true] {
        let world = World::with(Settings {
            compat_gorouter,
            ..Settings::default()
        })
        .await;
        let backend = Backend::start("found").await;
        world
            .register("app.apps.test", "app", 0, backend.addr)
            .await;
        let status = if compat_gorouter { 404 } else { 200 };
        for host in ["app.apps.test.", "app.apps.test.:80", "APP.apps.test."] {
            assert_eq!(world.get(host, "/").await.status, status, "{host}");
        }
        let sender = connect(&world).await;
        for authority in ["app.apps.test.", "app.apps.test.:443"] {
            let mut asked = ask(Method::GET, "/");
            *asked.uri_mut() = format!("https://{authority}/").parse().unwrap();
            let (answer, _) = begin(&sender, asked, true).await;
            assert_eq!(head(answer).await.status(), status, "{authority}");
        }
        assert_eq!(world.get("app.apps.test..", "/").await.status, 404);
        assert_eq!(world.get("app.apps.test", "/").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_keeps_no_connection_announces_close() {
    for (max_idle_per_endpoint, closes) in [(0, true), (2, false)] {
        let world = World::with(Settings {
            max_idle_per_endpoint,
            ..Settings::default()
        })
        .await;
        let backend = Backend::start("x").await;
        world.register("app.test", "app", 0, backend.addr).await;
        for connection in ["keep-alive", "close"] {
            let asked =
                format!("GET /dump HTTP/1.1\r\nHost: app.test\r\nConnection: {connection}\r\n\r\n");
            let seen = raw(world.addr, &asked, "x-request-start").await;
            assert_eq!(seen.contains("\nconnection: close\n"), closes, "{seen}");
        }
    }
}

/// A request for a tunnel may last like a tunnel, also when the backend does not switch.
#[tokio::test(flavor = "multi_thread")]
async fn another_answer_to_an_upgrade_is_not_cut() {
    let world = World::with(Settings {
        endpoint_timeout: Duration::from_secs(4),
        ..Settings::default()
    })
    .await;
    let addr = app(async |mut stream| {
        read_until(&mut stream, "\r\n\r\n").await;
        let begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
        stream.write_all(begin.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let _ = stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await;
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let asked = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let seen = raw(world.addr, asked, "two\r\n0\r\n\r\n").await;
    assert!(seen.ends_with("two\r\n0\r\n\r\n"), "{seen}");
}

/// A client of HTTP/2 has that version's time, whatever its backend speaks.
#[tokio::test(flavor = "multi_thread")]
async fn a_clients_version_decides_how_long_an_endpoint_may_take() {
    for http2_is_longer in [true, false] {
        let (short, long) = (Duration::from_millis(200), Duration::from_secs(60));
        let (endpoint_timeout, http2_endpoint_timeout) = if http2_is_longer {
            (short, long)
        } else {
            (long, short)
        };
        let world = World::with(Settings {
            endpoint_timeout,
            http2_endpoint_timeout,
            ..Settings::default()
        })
        .await;
        let backend = Backend::start("late").await;
        world
            .register("app.apps.test", "app", 0, backend.addr)
            .await;
        let sender = connect(&world).await;
        let by_http2 = async move { get(&sender, "/slow").await.0 }.boxed();
        let router = world.addr;
        let by_http1 = async move {
            let host = "app.apps.test";
            let reply = crate::client::request(router, "GET", host, "/slow", &[], "").await;
            reply.status
        }
        .boxed();
        let (hasty, patient) = if http2_is_longer {
            (by_http1, by_http2)
        } else {
            (by_http2, by_http1)
        };
        let patient = tokio::spawn(patient);
        backend.waiting.notified().await;
        // The router may give this one up before the backend sees it.
        assert_eq!(hasty.await, 504, "{http2_is_longer}");
        wait_for("the answer", async || {
            backend.go.notify_waiters();
            patient.is_finished()
        })
        .await;
        assert_eq!(patient.await.unwrap(), 200, "{http2_is_longer}");
    }
}

/// The targets that pass do not depend on the version that a client speaks; all are logged.
#[tokio::test(flavor = "multi_thread")]
async fn targets_pass_over_http2_as_over_http1() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        loop {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let length = target.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    world.register("app.apps.test", "app", 0, addr).await;
    crate::h2peer::H2Backend::start(&world, "h2.apps.test").await;
    let mut wire = crate::cancels::Wire::open(&world).await;
    let long = format!("/long?{}", "q".repeat(70_000));
    let targets = [
        ("/a?\"x\"=<y>&z=`", 200),
        ("/<b>`\"{}|^\\", 200),
        ("/<b>`\"{}|^\\", 200),
        ("/\u{e9}", 200),
        (&long, 200),
        ("/a#b", 400),
        ("/?a#", 400),
        ("#", 400),
        ("/a b", 400),
        ("/a\tb", 400),
        ("/a\u{1}", 400),
    ];
    for (n, (target, status)) in targets.into_iter().enumerate() {
        let by_http2 = wire.ask(2 * n as u32 + 1, target, n % 2 == 0).await;
        assert_eq!(by_http2, status, "{target:.20}");
        let asked =
            format!("GET {target} HTTP/1.1\r\nHost: app.apps.test\r\nConnection: close\r\n\r\n");
        let by_http1 = raw(world.addr, &asked, "").await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(by_http1.starts_with(&expected), "{target:.20} {by_http1}");
        if status == 200 {
            assert!(by_http1.ends_with(target), "{target:.20} {by_http1:.200}");
            assert_eq!(wire.body(), target.as_bytes(), "{target:.20}");
        }
    }
    // Towards a backend of HTTP/2, bytes that the library does not send are encoded.
    let asked = "GET /<a> HTTP/1.1\r\nHost: h2.apps.test\r\nConnection: close\r\n\r\n";
    let seen = raw(world.addr, asked, "").await;
    assert!(seen.starts_with("HTTP/1.1 200 "), "{seen}");
    // HTTP/1 logs the targets that pass: five of these, and the last.
    let lines = world.log_lines(targets.len() + 6).await;
    for (target, status) in targets {
        let logged =
            |line: &&String| line.contains("HTTP/2.0\"") && line.contains(&format!("\" {status} "));
        let logged = lines.iter().filter(logged).count();
        let sent = targets.iter().filter(|(_, s)| *s == status).count();
        assert_eq!(logged, sent, "{target:.20}");
    }
}
