//! Streams that their clients do not read: each costs only itself, and memory within bounds.

use crate::client::request;
use crate::h2peer::{DRIP, DRIPS, H2Backend, ask, begin, connect, get, head, post, read, send};
use crate::world::{World, wait_for};
use http::Method;
use router::Settings;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const STALLED: usize = 100;

async fn world() -> World {
    World::with(Settings {
        endpoint_timeout: Duration::from_secs(60),
        http2_endpoint_timeout: Duration::from_secs(60),
        ..Settings::default()
    })
    .await
}

/// Checks that all other requests are served, over both versions, and with bodies both ways.
async fn serves_others(world: &World, ours: &h2::client::SendRequest<bytes::Bytes>) {
    for sender in [ours.clone(), connect(world).await] {
        assert_eq!(get(&sender, "/").await, (200, b"ok 0".to_vec()));
        let sent = post(&sender, "/count", 1 << 20).await;
        assert_eq!(sent, (200, b"ok 1048576".to_vec()));
        let (status, body) = get(&sender, "/drip").await;
        assert_eq!((status, body.len()), (200, DRIPS * DRIP));
    }
    for _ in 0..4 {
        let body = "u".repeat(300_000);
        let reply = request(world.addr, "POST", "app.apps.test", "/count", &[], body).await;
        assert_eq!(reply.text(), "ok 300000");
        let reply = world.get("app.apps.test", "/drip").await;
        assert_eq!(reply.body.len(), DRIPS * DRIP);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_clients_do_not_read_cost_only_themselves() {
    let world = world().await;
    let backend = H2Backend::start(&world, "app.apps.test").await;
    let sender = connect(&world).await;
    let mut stalled = Vec::new();
    for n in 0..STALLED {
        let path = ["/big", "/drip"][n % 2];
        let (answer, _) = begin(&sender, ask(Method::GET, path), true).await;
        stalled.push(head(answer).await);
    }
    serves_others(&world, &sender).await;
    let sent = backend.sent.load(Ordering::Relaxed);
    let most = STALLED / 2 * (400 << 10);
    assert!(sent < most, "{sent} bytes were taken for {STALLED} streams");
    assert!(backend.connections.load(Ordering::Relaxed) < 10);
    // A client that begins to read gets everything.
    let body = read(stalled[1].body_mut()).await;
    assert_eq!(body.len(), DRIPS * DRIP);
    let trailers = stalled[1].body_mut().trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(read(stalled[0].body_mut()).await.len(), 64 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_http1_that_do_not_read_cost_only_themselves() {
    let world = world().await;
    let backend = H2Backend::start(&world, "app.apps.test").await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED / 4 {
        let mut stream = TcpStream::connect(world.addr).await.unwrap();
        let ask = "GET /big HTTP/1.1\r\nHost: app.apps.test\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    wait_for("the requests", async || {
        backend.begun.load(Ordering::Relaxed) >= STALLED / 4
    })
    .await;
    // This waits until the sockets are full.
    let mut before = usize::MAX;
    loop {
        let sent = backend.sent.load(Ordering::Relaxed);
        if sent == before {
            break;
        }
        before = sent;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sender = connect(&world).await;
    serves_others(&world, &sender).await;
}

/// The peer limits streams: those that stall must not use them up.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_takes_few_streams_gets_more_connections() {
    let world = world().await;
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(10);
    let backend = H2Backend::with(&world, "app.apps.test", builder).await;
    let sender = connect(&world).await;
    let mut stalled = Vec::new();
    for _ in 0..35 {
        let (answer, _) = begin(&sender, ask(Method::GET, "/big"), true).await;
        stalled.push(head(answer).await);
    }
    serves_others(&world, &sender).await;
    let connections = backend.connections.load(Ordering::Relaxed);
    assert!((4..30).contains(&connections), "{connections}");
}

/// With the library's windows, a body that is not read shuts the connection for all others.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_a_backend_does_not_read_cost_only_themselves() {
    let world = world().await;
    let backend = H2Backend::start(&world, "app.apps.test").await;
    let sender = connect(&world).await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let (answer, mut up) = begin(&sender, ask(Method::POST, "/deaf"), false).await;
        let upload = tokio::spawn(async move {
            // The client sends as much as is accepted, in messages as of gRPC and in large pieces.
            for _ in 0..300 {
                send(&mut up, vec![b's'; 30].into()).await;
            }
            send(&mut up, vec![b'u'; 1 << 20].into()).await;
        });
        stalled.push((answer, upload));
    }
    wait_for("the uploads", async || {
        backend.begun.load(Ordering::Relaxed) >= STALLED
    })
    .await;
    serves_others(&world, &sender).await;
    for (_, upload) in &stalled {
        assert!(!upload.is_finished(), "it is not taken whole");
    }
    // Streams that are given up leave no trace.
    stalled.clear();
    serves_others(&world, &sender).await;
}

/// A backend of HTTP/1 reads nothing, and other apps are behind the same client's connection.
#[tokio::test(flavor = "multi_thread")]
async fn one_clients_uploads_to_a_deaf_app_leave_its_others() {
    let world = world().await;
    H2Backend::start(&world, "app.apps.test").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let kept = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    world.register("app.apps.test/mute", "mute", 0, addr).await;
    let sender = connect(&world).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let (answer, mut up) = begin(&sender, ask(Method::POST, "/mute"), false).await;
        let upload = tokio::spawn(async move { send(&mut up, vec![b'u'; 32 << 20].into()).await });
        stalled.push((answer, upload));
    }
    serves_others(&world, &sender).await;
    assert!(stalled.iter().all(|(_, upload)| !upload.is_finished()));
    kept.abort();
}
