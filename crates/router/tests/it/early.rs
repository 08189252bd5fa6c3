//! Answers that come before the request's body has gone: they reach the client, and the connection is not used again.

use crate::backends::Backend;
use crate::client::{raw, request};
use crate::world::{PATIENCE, World, wait_for};
use bytes::Bytes;
use router::Settings;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A size that is far larger than all buffers on the way.
const UPLOAD: usize = 16 << 20;
const REFUSAL: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 16\r\n\r\nFeature Disabled";

/// The way in which an impatient server treats a connection after its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// The server closes it with the body unread, so that the kernel resets it.
    Closes,
    /// The server reads no more, and keeps it open.
    Stays,
}

/// A server that answers a request's head and never reads a body. It counts connections and requests.
struct Impatient {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Impatient {
    async fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            let mut kept = tokio::task::JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                kept.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let _ = stream.write_all(REFUSAL).await;
                    if then == Then::Stays {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self {
            addr,
            connections,
            task,
        }
    }
}

impl Drop for Impatient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tls(world: &World) -> TlsStream<TcpStream> {
    let mut config = kit::tls::client_config(&world.ca.issue(&["client"])).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(world.https).await.unwrap();
    let name = "app.apps.test".try_into().unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

/// Sends all parts before it reads the answer, as simple clients do. It reads until `until` comes, or until the end. `None` means
/// that this machine stood still so long that the router, which waits two seconds for a silent client, may have given it up.
async fn send_all_then_read(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    parts: Vec<&[u8]>,
    until: &str,
) -> Option<String> {
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let exchange = async {
        for part in parts {
            let sent = stream.write_all(part).await;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            sent?;
        }
        stream.flush().await?;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while until.is_empty() || !answer.ends_with(until.as_bytes()) {
            match stream.read(&mut piece).await? {
                0 if until.is_empty() => break,
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => answer.extend_from_slice(&piece[..read]),
            }
        }
        Ok::<_, std::io::Error>(String::from_utf8(answer).unwrap())
    };
    let answer = timeout(PATIENCE, exchange).await;
    match answer.expect("an answer in time") {
        Ok(answer) => Some(answer),
        Err(_) if longest > Duration::from_millis(1500) => None,
        Err(error) => panic!("the upload is taken and answered: {error}"),
    }
}

/// Uploads until the refusal has come.
async fn refusal<S: AsyncRead + AsyncWrite + Unpin>(
    connect: impl AsyncFn() -> S,
    chunked: bool,
) -> String {
    let framing = if chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {UPLOAD}")
    };
    let head = format!("POST /upload HTTP/1.1\r\nHost: app.apps.test\r\n{framing}\r\n\r\n");
    let piece = vec![b'u'; 64 << 10];
    loop {
        let mut parts = vec![head.as_bytes()];
        for _ in 0..UPLOAD / piece.len() {
            if chunked {
                parts.extend([&b"10000\r\n"[..], piece.as_slice(), b"\r\n"]);
            } else {
                parts.push(&piece);
            }
        }
        if chunked {
            parts.push(b"0\r\n\r\n");
        }
        let answer = send_all_then_read(connect().await, parts, "Disabled").await;
        if let Some(answer) = answer {
            return answer;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_refusal_reaches_a_client_that_is_still_uploading() {
    for then in [Then::Closes, Then::Stays] {
        for chunked in [false, true] {
            let world = World::new().await;
            let backend = Impatient::start(then).await;
            world
                .register("app.apps.test", "app", 0, backend.addr)
                .await;
            let plain = async || TcpStream::connect(world.addr).await.unwrap();
            let answer = refusal(plain, chunked).await;
            assert!(
                answer.starts_with("HTTP/1.1 403 "),
                "{then:?} {chunked}: {answer}"
            );
            assert!(
                answer.contains("\r\nConnection: close\r\n"),
                "the client learns that the connection ends: {answer}"
            );
            let answer = refusal(async || tls(&world).await, chunked).await;
            assert!(
                answer.starts_with("HTTP/1.1 403 "),
                "TLS {then:?} {chunked}: {answer}"
            );
        }
    }
}

/// The router's own refusals reach such a client as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_routers_own_refusal_reaches_a_client_that_is_still_uploading() {
    let world = World::new().await;
    for framing in [
        format!("Content-Length: {UPLOAD}"),
        format!("Content-Length: {UPLOAD}\r\nTransfer-Encoding: chunked"),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: nobody.test\r\n{framing}\r\n\r\n");
        let piece = vec![b'u'; 64 << 10];
        let answer = loop {
            let stream = TcpStream::connect(world.addr).await.unwrap();
            let mut parts = vec![head.as_bytes()];
            parts.extend(vec![piece.as_slice(); UPLOAD / piece.len()]);
            if let Some(answer) = send_all_then_read(stream, parts, "").await {
                break answer;
            }
        };
        assert!(answer.starts_with("HTTP/1.1 40"), "{framing}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_refusal_leaves_a_connection_of_http2_usable() {
    let world = World::new().await;
    let backend = Impatient::start(Then::Closes).await;
    world
        .register("app.apps.test", "app", 0, backend.addr)
        .await;
    let mut config = kit::tls::client_config(&world.ca.issue(&["client"])).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(world.https).await.unwrap();
    let name = "app.apps.test".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let mut sender = sender.clone().ready().await.unwrap();
        let request = http::Request::post("https://app.apps.test/upload")
            .body(())
            .unwrap();
        let (answer, mut body) = sender.send_request(request, false).unwrap();
        let upload = tokio::spawn(async move {
            let mut left = UPLOAD;
            while left > 0 {
                body.reserve_capacity(left.min(64 << 10));
                let Some(Ok(room)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else {
                    return;
                };
                let part = room.min(left);
                if body
                    .send_data(Bytes::from(vec![b'u'; part]), part == left)
                    .is_err()
                {
                    return;
                }
                left -= part;
            }
        });
        let answer = timeout(PATIENCE, answer).await.expect("an answer").unwrap();
        assert_eq!(answer.status(), 403);
        let mut body = answer.into_body();
        let mut text = Vec::new();
        while let Some(data) = timeout(PATIENCE, body.data()).await.expect("a body") {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            text.extend_from_slice(&data);
        }
        assert_eq!(text, b"Feature Disabled");
        timeout(PATIENCE, upload)
            .await
            .expect("the upload ends")
            .unwrap();
    }
}

/// Another client's request never meets the close of a connection whose request was not read whole, whatever its size. Some
/// bodies fit into the socket's buffer, and look as if the backend had read them.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_to_a_connection_with_an_early_answer() {
    let world = World::new().await;
    let backend = Impatient::start(Then::Closes).await;
    world.register("app.test", "app", 0, backend.addr).await;
    for round in 0..300 {
        let size = [1, 900, 9_000, 70_000, 200_000][round % 5];
        let reply = request(world.addr, "POST", "app.test", "/", &[], vec![b'x'; size]).await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (403, "Feature Disabled"),
            "round {round}, {size} bytes: {}",
            reply.router_error()
        );
    }
}

/// Many clients send such requests at once to a real server that closes connections with unread bytes.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_many_clients_is_lost() {
    let world = Arc::new(World::new().await);
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8 {
        let addr = world.addr;
        clients.spawn(async move {
            for round in 0..60 {
                let size = 200 + client * 7_000 + round * 100;
                let early =
                    request(addr, "POST", "app.test", "/early", &[], vec![b'x'; size]).await;
                assert_eq!(early.status, 413, "{}", early.router_error());
                let next = request(addr, "POST", "app.test", "/count", &[], "abc").await;
                assert_eq!(
                    (next.status, next.text().trim()),
                    (200, "3"),
                    "{}",
                    next.router_error()
                );
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

/// A connection whose request was read whole is reused as usual.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_request_was_sent_whole_is_reused() {
    let world = World::with(Settings {
        workers: 1,
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("x").await;
    world.register("app.test", "app", 0, backend.addr).await;
    for _ in 0..20 {
        let reply = request(
            world.addr,
            "POST",
            "app.test",
            "/count",
            &[],
            "a small body",
        )
        .await;
        assert_eq!(reply.status, 200);
    }
    let made = backend.connections.load(Ordering::Relaxed);
    assert!(made <= 2, "one for each worker, not {made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_refused_100_continue_gets_connection_close() {
    let world = World::new().await;
    let backend = Impatient::start(Then::Stays).await;
    world.register("app.test", "app", 0, backend.addr).await;
    let head =
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    let answer = raw(world.addr, head, "Disabled").await;
    // After a second without an answer the router gives leave itself, because some servers never do.
    let leave = "HTTP/1.1 100 Continue\r\n\r\n";
    let answer = answer.strip_prefix(leave).unwrap_or(&answer);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    // The next request uses another connection.
    let reply = request(world.addr, "POST", "app.test", "/", &[], "x").await;
    assert_eq!(reply.status, 403);
    assert_eq!(backend.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_a_client_that_never_ends_is_bounded() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.addr).await.unwrap();
    let head =
        format!("POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: {UPLOAD}\r\n\r\nsome");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 404 "));
    // The client sends nothing more, and after two seconds the router closes its other half as well. Any byte extends that, so
    // the client looks seldom.
    wait_for("the close", async || {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        // The first byte after the close is answered with a reset.
        let _ = stream.try_write(b"x");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut probe = [0; 1];
        stream.try_write(b"x").is_err() || matches!(stream.try_read(&mut probe), Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset)
    })
    .await;
    // A drain does not wait for clients that linger.
    let mut stream = TcpStream::connect(world.addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    wait_for("the second request", async || {
        world.log_lines(2).await.len() == 2
    })
    .await;
    world.shutdown.cancel();
    let ended = async {
        while !world.running.is_finished() {
            let _ = stream.write_all(b"x").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("the router ends");
}
