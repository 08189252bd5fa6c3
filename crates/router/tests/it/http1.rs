//! HTTP/1 byte by byte: the bytes that apps send and clients see, in which order and when.

use crate::client::raw;
use crate::world::{PATIENCE, World, wait_for};
use router::Settings;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Starts an app that treats every connection in the same way.
pub(crate) async fn app<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    addr
}

/// Reads until the text appears; returns everything so far.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(text) {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await;
        let read = read.unwrap_or_else(|_| panic!("{text:?} did not come after {seen:?}"));
        let read = read.unwrap_or(0);
        assert_ne!(read, 0, "{text:?} did not come after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    seen
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.addr).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn informational_answers_pass_and_the_last_one_counts() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        send(&mut stream, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n").await;
        if !head.contains("body") {
            read_until(&mut stream, "body").await;
        }
        send(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        read_until(&mut stream, "\r\n\r\n").await;
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let ask =
        "POST / HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let (mut client, seen) = loop {
        let (began, mut client) = (Instant::now(), connect(&world).await);
        send(&mut client, ask).await;
        let seen = read_until(&mut client, "100 Continue\r\n\r\n").await;
        // After a second without an answer the router gives leave itself, because some servers never do.
        if began.elapsed() < Duration::from_secs(1) {
            break (client, seen);
        }
    };
    assert_eq!(
        seen,
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    );
    send(&mut client, "body").await;
    let seen = read_until(&mut client, "\r\n\r\nok").await;
    assert!(seen.starts_with("HTTP/1.1 200 OK\r\n"), "{seen}");
    let old = "GET / HTTP/1.0\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbody";
    let seen = raw(world.addr, old, "").await;
    assert!(
        seen.starts_with("HTTP/1.0 200 OK\r\n"),
        "no 1xx in HTTP/1.0: {seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_flow_at_once() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        read_until(&mut stream, "1\r\na\r\n").await;
        send(
            &mut stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n",
        )
        .await;
        read_until(&mut stream, "1\r\nb\r\n").await;
        send(&mut stream, "1\r\nB\r\n").await;
        read_until(&mut stream, "0\r\n\r\n").await;
        send(&mut stream, "0\r\nX-Sum: 2\r\n\r\n").await;
        read_until(&mut stream, "never").await;
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let mut client = connect(&world).await;
    send(
        &mut client,
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    )
    .await;
    read_until(&mut client, "1\r\nA\r\n").await;
    send(&mut client, "1\r\nb\r\n").await;
    read_until(&mut client, "1\r\nB\r\n").await;
    send(&mut client, "0\r\n\r\n").await;
    read_until(&mut client, "0\r\nX-Sum: 2\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        loop {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let length = path.len();
            send(
                &mut stream,
                &format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{path}"),
            )
            .await;
        }
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let mut client = connect(&world).await;
    let three: String = ["/one", "/two", "/three"]
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n"))
        .concat();
    send(&mut client, &three).await;
    let seen = read_until(&mut client, "\r\n\r\n/three").await;
    let (one, two) = (
        seen.find("\r\n\r\n/one").unwrap(),
        seen.find("\r\n\r\n/two").unwrap(),
    );
    assert!(one < two, "{seen}");
    // An unread body does not become the next request.
    send(&mut client, "POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 40\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\nGET /after HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let seen = read_until(&mut client, "\r\n\r\n/after").await;
    assert!(
        seen.starts_with("HTTP/1.1 404 ") && !seen.contains("smuggled"),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_keep_their_spelling_unless_gorouter_is_to_be_matched() {
    for compat in [false, true] {
        let world = World::with(Settings {
            compat_gorouter: compat,
            ..Settings::default()
        })
        .await;
        let addr = app(async |mut stream| {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let length = head.len();
            send(
                &mut stream,
                &format!(
                    "HTTP/1.1 299 My Words\r\nx-ANSWER: 1\r\ncontent-length: {length}\r\n\r\n{head}"
                ),
            )
            .await;
        })
        .await;
        world.register("app.test", "app", 0, addr).await;
        let ask = "GET / HTTP/1.1\r\nhost: app.test\r\nx-mINE: 1\r\nConnection: close\r\n\r\n";
        let seen = raw(world.addr, ask, "").await;
        let (mine, answer) = match compat {
            false => ("\r\nhost: app.test\r\nx-mINE: 1\r\n", "\r\nx-ANSWER: 1\r\n"),
            true => ("\r\nHost: app.test\r\nX-Mine: 1\r\n", "\r\nX-Answer: 1\r\n"),
        };
        assert!(seen.starts_with("HTTP/1.1 299 My Words\r\n"), "{seen}");
        assert!(seen.contains(mine) && seen.contains(answer), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_its_connection() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        read_until(&mut stream, "\r\n\r\n").await;
        send(&mut stream, "HTTP/1.0 200 OK\r\n\r\nall of it").await;
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let new = raw(
        world.addr,
        "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "0\r\n\r\n",
    )
    .await;
    assert!(new.contains("\r\nTransfer-Encoding: chunked\r\n"), "{new}");
    assert!(
        new.ends_with("\r\n\r\n9\r\nall of it\r\n0\r\n\r\n"),
        "{new}"
    );
    let old = raw(
        world.addr,
        "GET / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n",
        "",
    )
    .await;
    assert!(old.contains("\r\nConnection: close\r\n"), "{old}");
    assert!(old.ends_with("\r\n\r\nall of it"), "{old}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_answer_is_not_seen_as_whole() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        read_until(&mut stream, "\r\n\r\n").await;
        send(
            &mut stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        )
        .await;
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let seen = raw(world.addr, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", "").await;
    assert!(seen.ends_with("3\r\nabc\r\n"), "no last chunk: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_timed_out() {
    let world = World::with(Settings {
        read_header_timeout: Duration::from_millis(150),
        frontend_idle_timeout: Duration::from_millis(400),
        ..Settings::default()
    })
    .await;
    for start in ["", "GET / HTTP/1.1\r\nHost: a"] {
        let seen = raw(world.addr, start, "").await;
        assert_eq!(seen, "", "{start:?}");
    }
    // This router waits for the head as long as it takes.
    let world = World::with(Settings {
        body_idle_timeout: Duration::from_millis(150),
        ..Settings::default()
    })
    .await;
    let addr = app(async |mut stream| {
        read_until(&mut stream, "never").await;
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let body = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nabc";
    let seen = raw(world.addr, body, "").await;
    assert!(
        seen.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_body_ends_its_connection() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        read_until(&mut stream, "never").await;
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let bad = "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let seen = raw(world.addr, bad, "").await;
    assert!(seen.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{seen}");
    assert_eq!(seen.matches("HTTP/1.1").count(), 1, "{seen}");
    assert!(world.handle.serves("app.test"), "the app is not blamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_draining_idle_connections_close_and_answers_announce_it() {
    let world = World::with(Settings {
        drain_timeout: Duration::from_secs(30),
        ..Settings::default()
    })
    .await;
    let backend = crate::backends::Backend::start("done").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let mut idle = connect(&world).await;
    send(&mut idle, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    read_until(&mut idle, "done").await;
    let mut busy = connect(&world).await;
    send(&mut busy, "GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    backend.waiting.notified().await;
    world.shutdown.cancel();
    let mut rest = Vec::new();
    timeout(PATIENCE, idle.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(rest.is_empty());
    wait_for("all workers to stop", async || {
        TcpStream::connect(world.addr).await.is_err()
    })
    .await;
    backend.go.notify_one();
    let seen = read_until(&mut busy, "done").await;
    assert!(seen.contains("\r\nConnection: close\r\n"), "{seen}");
    wait_for("the router to end", async || world.running.is_finished()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded_in_both_directions() {
    let world = World::with(Settings {
        max_request_head: 8 << 10,
        max_request_headers: 20,
        max_response_head: 8 << 10,
        max_response_headers: 20,
        ..Settings::default()
    })
    .await;
    let addr = app(async |mut stream| {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let fields = match head.contains("/many") {
            true => "X-A: 1\r\n".repeat(30),
            false => format!("X-A: {}\r\n", "x".repeat(9 << 10)),
        };
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
        send(&mut stream, &answer).await;
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let long = "x".repeat(9 << 10);
    for (target, fields) in [
        (format!("/{long}"), String::new()),
        ("/".into(), format!("X-A: {long}\r\n")),
        ("/".into(), "X-A: 1\r\n".repeat(30)),
    ] {
        let ask = format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n");
        let seen = raw(world.addr, &ask, "").await;
        assert!(seen.starts_with("HTTP/1.1 431 "), "{seen}");
        let named = "\r\nX-Cf-RouterError: max-request-size-exceeded\r\n";
        assert!(seen.contains(named), "{seen}");
    }
    // A head without an end is refused as well, before much more is read than is permitted.
    let endless = format!(
        "GET / HTTP/1.1\r\nHost: app.test\r\nX-A: {}",
        long.repeat(9)
    );
    let seen = raw(world.addr, &endless, "").await;
    assert!(seen.starts_with("HTTP/1.1 431 "), "{seen}");
    for path in ["/many", "/long"] {
        let ask = format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let seen = raw(world.addr, &ask, "request.\n").await;
        assert!(seen.starts_with("HTTP/1.1 502 "), "{seen}");
        let words = match path {
            "/many" => "endpoint_failure (invalid response: too many fields)",
            _ => {
                "endpoint_failure (net/http: HTTP/1.x transport connection broken: net/http: server response headers exceeded 8192 bytes; aborted)"
            }
        };
        assert!(seen.contains(words), "{seen}");
    }
}

/// The limit may be smaller than a buffer. A request that is too large has its line in the log, which names the app.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_heads_counts_to_the_byte() {
    let world = World::with(Settings {
        max_request_head: 100,
        max_request_headers: 3,
        max_response_head: 80,
        ..Settings::default()
    })
    .await;
    let addr = app(async |mut stream| {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let wanted = head.split(['/', ' ']).nth(2).unwrap_or_default();
        let size: usize = wanted.parse().unwrap_or(80);
        let rest = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: \r\n\r\n";
        let padding = "x".repeat(size - rest.len());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: {padding}\r\n\r\nok");
        send(&mut stream, &answer).await;
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let rest = "GET /80 HTTP/1.1\r\nHost: app.test\r\nX-A: \r\n\r\n";
    for (size, status) in [(100, 200), (101, 431), (3000, 431)] {
        let padding = "x".repeat(size - rest.len());
        let ask = format!("GET /80 HTTP/1.1\r\nHost: app.test\r\nX-A: {padding}\r\n\r\n");
        assert_eq!(ask.len(), size);
        let until = if status == 200 { "ok" } else { "" };
        let seen = raw(world.addr, &ask, until).await;
        assert!(
            seen.starts_with(&format!("HTTP/1.1 {status} ")),
            "{size}: {seen}"
        );
    }
    // The host is not counted.
    for (fields, status) in [(3, 200), (4, 431)] {
        let fields = "A: 1\r\n".repeat(fields);
        let ask = format!("GET / HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n");
        let until = if status == 200 { "ok" } else { "" };
        let seen = raw(world.addr, &ask, until).await;
        assert!(seen.starts_with(&format!("HTTP/1.1 {status} ")), "{seen}");
    }
    for (size, status) in [(80, 200), (81, 502)] {
        let ask = format!("GET /{size} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let until = if status == 200 { "ok" } else { "request.\n" };
        let seen = raw(world.addr, &ask, until).await;
        assert!(
            seen.starts_with(&format!("HTTP/1.1 {status} ")),
            "{size}: {seen}"
        );
    }
    let lines = world.log_lines(7).await;
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("\" 431 "))
        .collect();
    assert_eq!(refused.len(), 3, "{lines:?}");
    for line in refused {
        assert!(
            line.contains("x_cf_routererror:\"max-request-size-exceeded\""),
            "{line}"
        );
        assert!(line.contains("app_id:\"app\""), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_do_not_pass() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let length = head.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}");
        send(&mut stream, &answer).await;
    })
    .await;
    world.register("app.test", "app", 0, addr).await;
    let ask = "GET / HTTP/1.1\r\nHost: app.test\r\nX_Forwarded_For: 6.6.6.6\r\nContent_Length: 5\r\nmy_own: 1\r\nConnection: Upgrade, X-Vcap-Request-Id, close\r\nUpgrade: h2c\r\n\r\n";
    let seen = raw(world.addr, ask, "").await;
    for absent in ["6.6.6.6", "Content_Length", "h2c", "Upgrade"] {
        assert!(!seen.contains(absent), "{absent}: {seen}");
    }
    let body = seen.split_once("\r\n\r\n").unwrap().1;
    assert!(
        body.contains("my_own: 1\r\n") && body.contains("X-Vcap-Request-Id: "),
        "{seen}"
    );
}
