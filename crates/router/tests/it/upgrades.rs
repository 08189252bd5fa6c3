//! Tests of WebSockets and other upgrades.

use crate::client::raw;
use crate::world::{World, wait_for};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_echoes() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    });
    world.register("ws.test", "app", 0, addr).await;
    let stream = TcpStream::connect(world.addr).await.unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async("ws://ws.test/chat", stream)
        .await
        .unwrap();
    assert_eq!(response.status(), 101);
    for text in ["one".to_owned(), "x".repeat(200_000)] {
        socket.send(Message::text(text.clone())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
    }
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    drop(socket);
    let line = &world.log_lines(1).await[0];
    assert!(
        line.contains("\"GET /chat HTTP/1.1\" 101 200"),
        "logged at the end, with the tunnel's bytes: {line}"
    );
    wait_for("the metric", async || {
        world
            .handle
            .metrics_text()
            .contains("\nwebsocket_upgrades 1\n")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_token_upgrades_and_a_refusal_passes_through() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = crate::http1::read_until(&mut stream, "\r\n\r\n").await;
            let head = head.to_lowercase();
            if head.contains("get /yes") {
                assert!(
                    head.contains("upgrade: my-proto/2\r\n")
                        && head.contains("connection: upgrade\r\n"),
                    "{head}"
                );
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: my-proto/2\r\nConnection: Upgrade\r\n\r\nhello").await.unwrap();
                let mut more = [0; 5];
                stream.read_exact(&mut more).await.unwrap();
                stream.write_all(&more).await.unwrap();
            } else {
                stream
                    .write_all(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
                    .await
                    .unwrap();
            }
        }
    });
    world.register("up.test", "app", 0, addr).await;
    let ask = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: up.test\r\nConnection: keep-alive\r\nConnection: UPGRADE\r\nUpgrade: my-proto/2\r\n\r\n"
        )
    };
    let refused = raw(world.addr, &ask("/no"), "no").await;
    assert!(
        refused.starts_with("HTTP/1.1 426 ") && refused.ends_with("\r\n\r\nno"),
        "{refused}"
    );
    let mut stream = TcpStream::connect(world.addr).await.unwrap();
    stream.write_all(ask("/yes").as_bytes()).await.unwrap();
    let mut seen = String::new();
    while !seen.ends_with("hello") {
        let mut buffer = [0; 1024];
        let n = stream.read(&mut buffer).await.unwrap();
        assert_ne!(n, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(seen.starts_with("HTTP/1.1 101 "), "{seen}");
    stream.write_all(b"12345").await.unwrap();
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).await.unwrap();
    assert_eq!(echoed, b"12345");
}

/// When the router stops, both ends of a WebSocket get a close frame, between two frames.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_websockets_with_a_close_frame() {
    let world = World::with(router::Settings {
        drain_timeout: std::time::Duration::from_millis(200),
        ..router::Settings::default()
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let app = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        socket.send(Message::text("hello")).await.unwrap();
        socket.next().await.unwrap().unwrap()
    });
    world.register("ws.test", "app", 0, addr).await;
    let stream = TcpStream::connect(world.addr).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://ws.test/", stream)
        .await
        .unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("hello")
    );
    world.shutdown.cancel();
    let received = tokio::time::timeout(crate::world::PATIENCE, socket.next()).await;
    for message in [received.unwrap().unwrap().unwrap(), app.await.unwrap()] {
        let Message::Close(Some(frame)) = message else {
            panic!("want a close frame, have {message:?}")
        };
        assert_eq!(u16::from(frame.code), 1001);
    }
    wait_for("the router to end", async || world.running.is_finished()).await;
    assert!(world.log_lines(1).await[0].contains(" 101 "));
}

/// Ten thousand idle connections must not hold ten thousand buffers.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_hold_no_buffer() {
    let world = World::new().await;
    let addr = crate::http1::app(async |mut stream| {
        crate::http1::read_until(&mut stream, "\r\n\r\n").await;
        let yes = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
        stream.write_all(yes.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..read]).await.unwrap();
        }
    })
    .await;
    world.register("up.test", "app", 0, addr).await;
    let backend = crate::backends::Backend::start("plain").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let mut open = Vec::new();
    for n in 0..200 {
        let mut client = TcpStream::connect(world.addr).await.unwrap();
        let (ask, until) = match n % 2 {
            0 => (
                "GET / HTTP/1.1\r\nHost: up.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
                "\r\n\r\n",
            ),
            _ => ("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", "plain"),
        };
        client.write_all(ask.as_bytes()).await.unwrap();
        crate::http1::read_until(&mut client, until).await;
        if n % 2 == 0 {
            client.write_all(b"ping").await.unwrap();
            crate::http1::read_until(&mut client, "ping").await;
        }
        open.push(client);
    }
    wait_for("all buffers to be given back", async || {
        world.handle.metrics_text().contains("\nbuffers_held 0\n")
    })
    .await;
    drop(open);
}
