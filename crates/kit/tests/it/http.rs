//! Tests `kit::http` with raw sockets.

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kit::CancellationToken;
use kit::http::{Limits, serve_within};
use kit::tls::{ClientAuth, Identity, server_config};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

struct Server {
    addr: SocketAddr,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        Self::with_tls(limits, None).await
    }

    async fn with_tls(limits: Limits, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/", get(|| async { "ok" }))
            .route("/panic", get(panics))
            .route(
                "/refuse",
                post(|| async { (http::StatusCode::FORBIDDEN, "no") }),
            )
            .route("/echo", post(|body: Bytes| async move { body }))
            .layer(DefaultBodyLimit::max(1 << 20));
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve_within(limits, listener, tls, app, stop.clone()));
        Self { addr, stop, served }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    async fn finish(self) {
        self.stop.cancel();
        self.served.await.unwrap().unwrap();
    }
}

async fn panics() -> &'static str {
    panic!("on purpose")
}

/// Reads one response with a `Content-Length`, and returns its head and its body.
fn answer(stream: &mut TcpStream) -> (String, String) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut byte).unwrap();
        assert_eq!(
            read,
            1,
            "the answer ended in its head: {:?}",
            String::from_utf8_lossy(&head)
        );
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Returns whether the server closed the connection.
fn closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
    }
}

fn off_runtime<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::task::spawn_blocking(act)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_unread_body_leaves_the_connection_usable() {
    let limits = Limits {
        rest_time: Duration::from_secs(20),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut stream = server.connect();
    off_runtime(move || {
        for body in ["", "x", &"y".repeat(20_000)] {
            // The head is sent alone first, so that the response is ready before the body comes.
            write!(
                stream,
                "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .unwrap();
            stream.write_all(body.as_bytes()).unwrap();
            let (head, text) = answer(&mut stream);
            assert!(head.starts_with("http/1.1 403"), "{head}");
            assert!(!head.contains("connection: close"), "{head}");
            assert_eq!(text, "no");
        }
        // This request is chunked, and its last chunk comes late.
        write!(
            stream,
            "POST /refuse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(b"0\r\n\r\n").unwrap();
        answer(&mut stream);
        write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(answer(&mut stream).1, "ok", "the next request is answered");
    })
    .await
    .unwrap();
    server.finish().await;
}

/// Tests an upload of 6 MiB that is refused at once: the client writes it to its end and then reads the response.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_unread_body_closes_the_connection_and_the_answer_arrives() {
    let server = Server::start(Limits::default()).await;
    for path in ["/refuse", "/nothing", "/echo"] {
        let mut stream = server.connect();
        off_runtime(move || {
            const SIZE: usize = 6 << 20;
            write!(
                stream,
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n"
            )
            .unwrap();
            for _ in 0..SIZE / 65_536 {
                stream.write_all(&[b'z'; 65_536]).unwrap();
            }
            let (head, _) = answer(&mut stream);
            assert!(head.starts_with("http/1.1 4"), "{head}");
            assert!(head.contains("connection: close"), "{path}: {head}");
            assert!(closed(&mut stream));
        })
        .await
        .unwrap();
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_be_asked_for_its_body_is_not_asked_when_refused() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect();
    off_runtime(move || {
        write!(
            stream,
            "POST /refuse HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"
        )
        .unwrap();
        let (head, _) = answer(&mut stream);
        assert!(
            head.starts_with("http/1.1 403") && head.contains("connection: close"),
            "{head}"
        );
        assert!(closed(&mut stream));
    })
    .await
    .unwrap();
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_rest_delays_the_response_only_briefly() {
    let limits = Limits {
        linger_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut stream = server.connect();
    off_runtime(move || {
        write!(
            stream,
            "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
        )
        .unwrap();
        let (head, _) = answer(&mut stream);
        assert!(head.contains("connection: close"), "{head}");
        assert!(closed(&mut stream), "although the client keeps it open");
    })
    .await
    .unwrap();
    server.finish().await;
}

fn impatient() -> Limits {
    Limits {
        head: Duration::from_millis(400),
        idle: Duration::from_secs(5),
        stall: Duration::from_millis(400),
        ..Limits::default()
    }
}

/// Tests slow clients (slow loris): no bytes, half a head, a head byte by byte, half a body; on a new connection and on a used
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_disconnected() {
    let server = Server::start(impatient()).await;
    let first: [&[u8]; 5] = [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let mut clients = Vec::new();
    for used in [false, true] {
        for bytes in first {
            if used && bytes.starts_with(b"PRI") {
                continue;
            }
            let mut stream = server.connect();
            clients.push(off_runtime(move || {
                if used {
                    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                    assert_eq!(answer(&mut stream).1, "ok");
                }
                stream.write_all(bytes).unwrap();
                // The client keeps sending bytes, and the head never ends.
                let mut trickle = stream.try_clone().unwrap();
                let trickles = bytes.starts_with(b"GET");
                let began = Instant::now();
                std::thread::spawn(move || {
                    while trickles && trickle.write_all(b"z").is_ok() {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                });
                stream
                    .set_read_timeout(Some(Duration::from_secs(60)))
                    .unwrap();
                let mut rest = Vec::new();
                let end = stream.read_to_end(&mut rest);
                assert!(
                    end.is_ok() || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
                    "{:?} was not let go",
                    String::from_utf8_lossy(bytes)
                );
                began.elapsed()
            }));
        }
    }
    for client in clients {
        assert!(client.await.unwrap() < Duration::from_secs(60));
    }
    let mut stream = server.connect();
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(
        off_runtime(move || answer(&mut stream).1).await.unwrap(),
        "ok"
    );
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_do_not_end_are_disconnected() {
    let key = rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap();
    let identity = Identity {
        cert_pem: key.cert.pem(),
        key_pem: key.signing_key.serialize_pem(),
        ca_pem: key.cert.pem(),
    };
    let tls = server_config(&identity, ClientAuth::None, &["h2", "http/1.1"]).unwrap();
    let server = Server::with_tls(impatient(), Some(tls)).await;
    for bytes in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        off_runtime(move || {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        })
        .await
        .unwrap();
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_heads_are_refused() {
    let server = Server::start(Limits::default()).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n",
        "a".repeat(200_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "X-A: b\r\n".repeat(300)
    );
    for head in [long, many] {
        let mut stream = server.connect();
        off_runtime(move || {
            let _ = stream.write_all(head.as_bytes());
            let (head, _) = answer(&mut stream);
            assert!(head.starts_with("http/1.1 431"), "{head}");
            assert!(closed(&mut stream));
        })
        .await
        .unwrap();
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted() {
    let limits = Limits {
        connections: 2,
        ..impatient()
    };
    let server = Server::start(limits).await;
    // Two connections do nothing; the third is served when they are closed.
    let _held = [server.connect(), server.connect()];
    let mut third = server.connect();
    write!(third, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(
        off_runtime(move || answer(&mut third).1).await.unwrap(),
        "ok"
    );
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_answers_500_and_the_connection_continues() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect();
    off_runtime(move || {
        for _ in 0..3 {
            write!(stream, "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let (head, text) = answer(&mut stream);
            assert!(head.starts_with("http/1.1 500"), "{head}");
            assert!(!text.contains("on purpose"), "{text}");
        }
        write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(answer(&mut stream).1, "ok");
    })
    .await
    .unwrap();
    server.finish().await;
}

/// Tests that an idle HTTP/2 connection that was used ends without an error for its client.
#[tokio::test(flavor = "multi_thread")]
async fn http2_connections_end_gracefully() {
    let server = Server::start(impatient()).await;
    let stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://x/")
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let ended = tokio::time::timeout(Duration::from_secs(60), connection).await;
    ended.unwrap().unwrap().unwrap();
    server.finish().await;
}
