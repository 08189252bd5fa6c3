//! Requests that a backend of HTTP/2 has refused unseen are sent again, whatever their method, also to the only endpoint.

use crate::client::request;
use crate::h2peer::{H2Backend, connect, get, post};
use crate::http1::app;
use crate::world::{World, plain, wait_for};
use bytes::Bytes;
use h2::Reason;
use http::Response;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn register(world: &World, uri: &str, addr: SocketAddr) {
    let mut message = plain(uri, "app", 0, addr);
    message["protocol"] = "http2".into();
    world.publish("router.register", message).await;
    wait_for("the route", async || world.handle.serves(uri)).await;
}

async fn serve(stream: TcpStream, refuse: bool) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if refuse {
            respond.send_reset(Reason::REFUSED_STREAM);
            continue;
        }
        tokio::spawn(async move {
            let count = crate::h2peer::read(&mut request.into_body()).await.len();
            let mut answer = respond.send_response(Response::new(()), false).unwrap();
            answer
                .send_data(Bytes::from(format!("ok {count}")), true)
                .unwrap();
        });
    }
}

/// Sends GOAWAY, below the first stream, when that has arrived.
async fn go_away(mut stream: TcpStream, reason: u8) {
    let mut seen = [0; 1024];
    let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let mut all = Vec::new();
    // This matches a HEADERS frame of stream 1 with END_HEADERS, whether the stream ends or not.
    let head = |w: &[u8]| w[0] == 1 && matches!(w[1], 4 | 5) && w[2..] == [0, 0, 0, 1];
    while !all.windows(6).any(head) {
        match stream.read(&mut seen).await {
            Ok(count @ 1..) => all.extend_from_slice(&seen[..count]),
            _ => return,
        }
    }
    let frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, reason];
    let _ = stream.write_all(&frame).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_sent_again_to_the_only_endpoint() {
    let world = World::new().await;
    for (name, reason) in [
        ("refused.test", None),
        ("calm.test", Some(11)),
        ("gone.test", Some(0)),
    ] {
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        // Every second connection is refused although it is new.
        let addr = app(move |stream| {
            let first = count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            async move {
                match reason {
                    Some(reason) if first => go_away(stream, reason).await,
                    _ => serve(stream, first).await,
                }
            }
        })
        .await;
        register(&world, name, addr).await;
        for (method, body) in [("GET", ""), ("POST", "abc"), ("DELETE", "")] {
            let reply = request(world.addr, method, name, "/", &[], body).await;
            let expected = format!("ok {}", body.len());
            assert_eq!(
                (reply.status, reply.text()),
                (200, expected),
                "{name} {method}"
            );
        }
        assert!(connections.load(Ordering::Relaxed) >= 2, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_refuses_everything_is_tried_a_few_times() {
    let world = World::new().await;
    let backend = H2Backend::start(&world, "app.apps.test").await;
    let reply = world.get("app.apps.test", "/refuse").await;
    assert_eq!(reply.status, 502);
    assert!(reply.router_error().contains("refused"), "{reply:?}");
    let asked = backend.begun.load(Ordering::Relaxed);
    assert!((2..10).contains(&asked), "{asked}");
}

/// An answer before the end of an upload reaches the client, and others on the connection do not notice.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_of_http2_reaches_the_client() {
    let world = World::new().await;
    let backend = H2Backend::start(&world, "app.apps.test").await;
    let sender = connect(&world).await;
    let other = sender.clone();
    let slow = tokio::spawn(async move { get(&other, "/slow").await });
    wait_for("the other request", async || {
        backend.begun.load(Ordering::Relaxed) == 1
    })
    .await;
    for size in [1 << 10, 4 << 20] {
        let answer = post(&sender, "/early", size).await;
        assert_eq!(answer, (413, b"too much".to_vec()), "{size}");
        let body = "u".repeat(size);
        let reply = request(world.addr, "POST", "app.apps.test", "/early", &[], body).await;
        assert_eq!((reply.status, reply.text()), (413, "too much".into()));
    }
    assert_eq!(post(&sender, "/count", 4 << 20).await.0, 200);
    backend.go.notify_one();
    assert_eq!(slow.await.unwrap(), (200, b"ok 0".to_vec()));
}
