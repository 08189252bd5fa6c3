//! Tests of bodies: large, chunked, aborted, early, late.

use crate::backends::{BIG, Backend};
use crate::client::{raw, request};
use crate::world::{World, wait_for};
use router::Settings;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn big_bodies_stream_both_ways() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let upload = vec![b'u'; BIG];
    assert_eq!(
        request(
            world.addr,
            "POST",
            "app.test",
            "/count",
            &[],
            upload.clone()
        )
        .await
        .text(),
        format!("{BIG} ")
    );
    assert_eq!(
        request(world.addr, "PUT", "app.test", "/echo", &[], upload)
            .await
            .body
            .len(),
        BIG
    );
    assert_eq!(world.get("app.test", "/big").await.body.len(), BIG);
    // There are two workers, so any line may be first.
    let lines = world.log_lines(3).await;
    let both = format!("\" 200 {BIG} {BIG} ");
    let echoed = lines.iter().find(|line| line.contains("\"PUT /echo "));
    assert!(echoed.unwrap().contains(&both), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn framing_is_kept() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let chunked = "POST /count HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 42\r\n\r\n";
    let answer = raw(world.addr, chunked, "").await;
    assert!(answer.ends_with("7 {\"x-sum\": \"42\"}"), "{answer}");
    let get_with_body = "GET /count HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert!(raw(world.addr, get_with_body, "").await.ends_with("3 "));
    let reply = request(
        world.addr,
        "GET",
        "app.test",
        "/trailers",
        &[("te", "trailers")],
        "",
    )
    .await;
    assert_eq!(
        (
            reply.text().as_str(),
            reply.trailers.unwrap()["x-sum"].to_str().unwrap()
        ),
        ("data", "42")
    );
    let head = request(world.addr, "HEAD", "app.test", "/length", &[], "").await;
    assert_eq!(
        (
            head.header("content-length"),
            head.header("x-method"),
            head.body.len()
        ),
        ("5", "HEAD", 0)
    );
    let answer = raw(world.addr, "POST /count HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", "\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 100 Continue\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_to_an_upload_arrives() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let answer = raw(
        world.addr,
        "POST /early HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100000000\r\n\r\nsome of it",
        "too much",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_is_logged_as_499() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let mut client = TcpStream::connect(world.addr).await.unwrap();
    client
        .write_all(b"GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n")
        .await
        .unwrap();
    backend.waiting.notified().await;
    drop(client);
    let lines = world.log_lines(1).await;
    assert!(
        lines[0].contains("\"GET /slow HTTP/1.1\" 499 0 0 "),
        "{}",
        lines[0]
    );
    assert!(
        lines[0].ends_with("x_cf_routererror:\"endpoint_failure (context canceled)\""),
        "{}",
        lines[0]
    );

    let mut client = TcpStream::connect(world.addr).await.unwrap();
    client
        .write_all(b"POST /count HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nabc")
        .await
        .unwrap();
    wait_for("the upload to have begun", async || {
        backend
            .connections
            .load(std::sync::atomic::Ordering::Relaxed)
            > 1
    })
    .await;
    drop(client);
    assert!(
        world.log_lines(2).await[1].contains("\"POST /count HTTP/1.1\" 499 "),
        "{:?}",
        world.log_lines(2).await
    );
    assert_eq!(
        world.get("app.test", "/").await.status,
        200,
        "the endpoint is not blamed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_backend_is_timed_out() {
    for (compat_gorouter, status) in [(false, 504), (true, 502)] {
        let world = World::with(Settings {
            endpoint_timeout: Duration::from_millis(100),
            compat_gorouter,
            ..Settings::default()
        })
        .await;
        let backend = Backend::start("x").await;
        world.register("app.test", "app", 0, backend.addr).await;
        let reply = world.get("app.test", "/slow").await;
        assert_eq!(
            (reply.status, reply.router_error()),
            (status, "endpoint_failure (context deadline exceeded)")
        );
    }
}

/// Starts a server that answers each connection once, announces keep-alive, and closes.
async fn fickle() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut buffer, mut seen) = ([0; 4096], String::new());
                // The head and the body may come apart.
                while !seen.contains("\r\n\r\n")
                    || seen.to_lowercase().contains("content-length: 12\r\n")
                        && !seen.ends_with("a small body")
                {
                    match stream.read(&mut buffer).await {
                        Ok(read @ 1..) => seen.push_str(&String::from_utf8_lossy(&buffer[..read])),
                        _ => return,
                    }
                }
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
            });
        }
    });
    addr
}

/// A request that may be repeated is sent again on a new connection. (A POST that was written when the close arrived is not,
/// because the backend may have seen it.)
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closed_while_idle_costs_nothing() {
    let world = World::new().await;
    world.register("app.test", "app", 0, fickle().await).await;
    for n in 0..100 {
        let (method, headers, body): (_, &[(&str, &str)], _) = match n % 3 {
            0 => ("GET", &[], ""),
            1 => ("POST", &[("idempotency-key", "k")], ""),
            _ => ("POST", &[("idempotency-key", "k")], "a small body"),
        };
        let reply = request(world.addr, method, "app.test", "/", headers, body).await;
        assert_eq!(reply.text(), "ok", "{method}");
    }
}
