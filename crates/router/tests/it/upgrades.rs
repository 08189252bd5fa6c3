//! WebSockets and other upgrades.

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
            let mut head = vec![0; 4096];
            let n = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..n]).to_lowercase();
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
