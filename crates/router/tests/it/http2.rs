//! HTTP/2 from clients: bodies with flow control, 1xx, trailers, WebSockets (RFC 8441), refusals, the end of connections.

use crate::backends::Backend;
use crate::http1::{app, read_until};
use crate::world::{PATIENCE, World, wait_for};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use router::Settings;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn connect(world: &World) -> SendRequest<Bytes> {
    let mut config = kit::tls::client_config(&world.ca.issue(&["client"])).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(world.https).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("app.apps.test".try_into().unwrap(), stream)
        .await
        .unwrap();
    let (sender, connection) = h2::client::Builder::new()
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn ask(method: Method, path: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = format!("https://app.apps.test{path}").parse().unwrap();
    request
}

async fn begin(
    sender: &SendRequest<Bytes>,
    request: Request<()>,
    ended: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut sender = sender.clone().ready().await.unwrap();
    sender.send_request(request, ended).unwrap()
}

async fn answer(future: ResponseFuture) -> Response<RecvStream> {
    timeout(PATIENCE, future).await.expect("an answer").unwrap()
}

async fn read(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = timeout(PATIENCE, body.data()).await.expect("data") {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_trailers_both_ways() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    world
        .register("app.apps.test", "app", 0, backend.addr)
        .await;
    let sender = connect(&world).await;
    let (response, mut body) = begin(&sender, ask(Method::POST, "/echo"), false).await;
    let size = 3 << 20;
    let upload = tokio::spawn(async move {
        let mut left = size;
        while left > 0 {
            body.reserve_capacity(left);
            let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
            let part = room.unwrap().unwrap().min(left);
            body.send_data(vec![b'u'; part].into(), false).unwrap();
            left -= part;
        }
        body.send_data(Bytes::new(), true).unwrap();
    });
    let mut response = answer(response).await;
    assert_eq!(response.status(), 200);
    assert_eq!(read(response.body_mut()).await.len(), size);
    upload.await.unwrap();

    let (response, mut body) = begin(&sender, ask(Method::POST, "/count"), false).await;
    body.send_data("abc".into(), false).unwrap();
    let trailers = [("x-sum".parse().unwrap(), "42".parse().unwrap())];
    body.send_trailers(trailers.into_iter().collect()).unwrap();
    let mut response = answer(response).await;
    let text = String::from_utf8(read(response.body_mut()).await).unwrap();
    assert_eq!(text, "3 {\"x-sum\": \"42\"}");

    let mut request = ask(Method::GET, "/trailers");
    request
        .headers_mut()
        .insert("te", "trailers".parse().unwrap());
    let (response, _) = begin(&sender, request, true).await;
    let mut response = answer(response).await;
    assert_eq!(read(response.body_mut()).await, b"data");
    let trailers = response.body_mut().trailers().await.unwrap().unwrap();
    assert_eq!(trailers["x-sum"], "42");

    let (response, _) = begin(&sender, ask(Method::HEAD, "/length"), true).await;
    let mut response = answer(response).await;
    assert_eq!(response.headers()["content-length"], "5");
    assert!(read(response.body_mut()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn informational_answers_and_an_early_one() {
    let world = World::new().await;
    let addr = app(async |mut stream| {
        read_until(&mut stream, "\r\n\r\n").await;
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        stream.write_all(hints.as_bytes()).await.unwrap();
        let early = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
        stream.write_all(early.as_bytes()).await.unwrap();
        read_until(&mut stream, "never").await;
    })
    .await;
    world.register("app.apps.test", "app", 0, addr).await;
    let sender = connect(&world).await;
    let (mut response, _body) = begin(&sender, ask(Method::POST, "/"), false).await;
    let hint = std::future::poll_fn(|cx| response.poll_informational(cx));
    let hint = timeout(PATIENCE, hint).await.unwrap().unwrap().unwrap();
    assert_eq!(
        (hint.status().as_u16(), &hint.headers()["link"]),
        (103, &"</a>".parse().unwrap())
    );
    let mut response = answer(response).await;
    assert_eq!(response.status(), 413);
    assert_eq!(response.body_mut().data().await.unwrap().unwrap(), "no");
    // The connection still works.
    let backend = Backend::start("fine").await;
    world
        .register("app.apps.test/fine", "app", 0, backend.addr)
        .await;
    let (response, _) = begin(&sender, ask(Method::GET, "/fine"), true).await;
    assert_eq!(read(answer(response).await.body_mut()).await, b"fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_over_http2() {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    use base64::Engine as _;
    let world = World::new().await;
    let addr = app(async |mut stream| {
        let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
        let lines = [
            "get /chat http/1.1\r\n",
            "\r\nupgrade: websocket\r\n",
            "\r\nconnection: upgrade\r\n",
        ];
        assert!(lines.iter().all(|line| head.contains(line)), "{head}");
        // The key's case matters, so it is read from the head as it arrived.
        let refuse = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(refuse.as_bytes()).await.unwrap();
    })
    .await;
    world.register("app.apps.test", "app", 0, addr).await;
    let echo = app(async |mut stream| {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let key = head.lines().find_map(|l| l.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let sum = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, sum.as_bytes());
        let accept = base64::prelude::BASE64_STANDARD.encode(sum);
        let yes = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: x\r\n\r\nhello");
        stream.write_all(yes.as_bytes()).await.unwrap();
        let said = read_until(&mut stream, "there").await;
        stream.write_all(said.as_bytes()).await.unwrap();
    })
    .await;
    world.register("app.apps.test/echo", "app", 0, echo).await;
    let mut sender = connect(&world).await;
    wait_for("the router's settings", async || {
        sender
            .clone()
            .ready()
            .await
            .is_ok_and(|s| s.is_extended_connect_protocol_enabled())
    })
    .await;
    sender = sender.ready().await.unwrap();
    let chat = |path: &str| {
        let mut request = ask(Method::CONNECT, path);
        request
            .extensions_mut()
            .insert(h2::ext::Protocol::from_static("websocket"));
        request
            .headers_mut()
            .insert("sec-websocket-version", "13".parse().unwrap());
        request
    };
    let (response, _) = begin(&sender, chat("/chat"), false).await;
    assert_eq!(answer(response).await.status(), 400, "a refusal passes");
    let (response, mut up) = begin(&sender, chat("/echo"), false).await;
    let mut response = answer(response).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "x");
    for absent in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!response.headers().contains_key(absent), "{absent}");
    }
    assert_eq!(response.body_mut().data().await.unwrap().unwrap(), "hello");
    up.send_data("there".into(), false).unwrap();
    assert_eq!(read(response.body_mut()).await, b"there");
    up.send_data(Bytes::new(), true).unwrap();
    let lines = world.log_lines(2).await;
    assert!(
        lines[1].contains("\"GET /echo HTTP/2.0\" 101 5 10 "),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_would_mean_something_else_in_http1_are_refused() {
    let world = World::new().await;
    let backend = Backend::start("x").await;
    world
        .register("app.apps.test", "app", 0, backend.addr)
        .await;
    let sender = connect(&world).await;
    let mut disagreeing = ask(Method::GET, "/");
    disagreeing
        .headers_mut()
        .insert("host", "other.test".parse().unwrap());
    let mut userinfo = ask(Method::GET, "/");
    *userinfo.uri_mut() = "https://u@app.apps.test/".parse().unwrap();
    for request in [disagreeing, userinfo] {
        let (response, _) = begin(&sender, request, true).await;
        assert_eq!(answer(response).await.status(), 400);
    }
    let mut short = ask(Method::POST, "/count");
    short
        .headers_mut()
        .insert("content-length", "3".parse().unwrap());
    let (response, mut body) = begin(&sender, short, false).await;
    body.send_data("abcdef".into(), true).unwrap();
    let error = timeout(PATIENCE, response).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR));
    let mut crumbs = ask(Method::GET, "/dump");
    for crumb in ["a=1", "b=2"] {
        crumbs
            .headers_mut()
            .append("cookie", crumb.parse().unwrap());
    }
    let (response, _) = begin(&sender, crumbs, true).await;
    let text = read(answer(response).await.body_mut()).await;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("cookie: a=1; b=2\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_sends_goaway_and_lets_streams_end() {
    let world = World::with(Settings {
        drain_timeout: Duration::from_secs(30),
        ..Settings::default()
    })
    .await;
    let backend = Backend::start("done").await;
    world
        .register("app.apps.test", "app", 0, backend.addr)
        .await;
    let sender = connect(&world).await;
    let (response, _) = begin(&sender, ask(Method::GET, "/slow"), true).await;
    backend.waiting.notified().await;
    world.shutdown.cancel();
    wait_for("GOAWAY", async || match sender.clone().ready().await {
        Err(_) => true,
        Ok(mut sender) => sender.send_request(ask(Method::GET, "/"), true).is_err(),
    })
    .await;
    backend.go.notify_waiters();
    backend.go.notify_one();
    assert_eq!(read(answer(response).await.body_mut()).await, b"done");
    wait_for("the router to end", async || world.running.is_finished()).await;
}

/// A plain endpoint is registered for HTTP/2, and the client speaks HTTP/1.
#[tokio::test(flavor = "multi_thread")]
async fn cleartext_http2_to_a_backend() {
    let world = World::new().await;
    let addr = app(async |stream| {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let (head, mut body) = request.into_parts();
                let read = read(&mut body).await;
                let mut early = Response::new(());
                *early.status_mut() = http::StatusCode::EARLY_HINTS;
                respond.send_informational(early).unwrap();
                let mut answer = respond.send_response(Response::new(()), false).unwrap();
                let text = format!("{} {} {}", head.method, head.uri, read.len());
                answer.send_data(text.into(), false).unwrap();
                let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
                answer
                    .send_trailers(trailers.into_iter().collect())
                    .unwrap();
            });
        }
    })
    .await;
    let mut message = crate::world::plain("app.test", "app", 0, addr);
    message["protocol"] = "http2".into();
    world.publish("router.register", message).await;
    wait_for("the route", async || world.handle.serves("app.test")).await;
    for _ in 0..3 {
        let seen = crate::client::raw(
            world.addr,
            "POST /x%2Fy HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc",
            "grpc-status: 0\r\n",
        )
        .await;
        assert!(
            seen.starts_with("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"),
            "{seen}"
        );
        assert!(
            seen.contains("POST http://app.test/x%2Fy 3\r\n0\r\ngrpc-status: 0\r\n"),
            "{seen}"
        );
    }
}

/// Returns a frame of HTTP/2 whose stream fits into a byte.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// All requests to a backend share a connection: an answer that HTTP does not permit must not end the others.
#[tokio::test(flavor = "multi_thread")]
async fn an_illegal_field_in_an_answer_costs_its_request_alone() {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const ACK: u8 = 1;
    /// END_STREAM and END_HEADERS
    const WHOLE: u8 = 5;
    static STREAMS: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let world = World::new().await;
    let addr = app(async |mut stream| {
        let (mut preface, mut head) = ([0; 24], [0; 9]);
        stream.read_exact(&mut preface).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        while stream.read_exact(&mut head).await.is_ok() {
            let [0, high, low, kind, flags, .., id] = head else {
                return;
            };
            let mut payload = vec![0; usize::from(high) << 8 | usize::from(low)];
            stream.read_exact(&mut payload).await.unwrap();
            let ok = |id| frame(HEADERS, WHOLE, id, &[0x88]);
            let bad = frame(HEADERS, WHOLE, id, &[0x88, 0x40, 1, b'X', 1, b'y']);
            let said = match (kind, id) {
                (SETTINGS, _) if flags != ACK => frame(SETTINGS, ACK, 0, &[]),
                (HEADERS, 1) => vec![],
                (HEADERS, 3) => bad,
                (HEADERS, _) => [ok(1), ok(id)].concat(),
                _ => continue,
            };
            if kind == HEADERS {
                STREAMS.lock().unwrap().push(id);
            }
            stream.write_all(&said).await.unwrap();
        }
    })
    .await;
    let mut message = crate::world::plain("app.apps.test", "app", 0, addr);
    message["protocol"] = "http2".into();
    world.publish("router.register", message).await;
    wait_for("the route", async || world.handle.serves("app.apps.test")).await;
    let sender = connect(&world).await;
    let (first, _) = begin(&sender, ask(Method::GET, "/"), true).await;
    wait_for("the first request", async || {
        !STREAMS.lock().unwrap().is_empty()
    })
    .await;
    let (second, _) = begin(&sender, ask(Method::GET, "/"), true).await;
    let second = answer(second).await;
    assert_eq!(second.status(), 502);
    let error = second.headers()["x-cf-routererror"].to_str().unwrap();
    assert!(
        error.starts_with("endpoint_failure (invalid response: "),
        "{error}"
    );
    let (third, _) = begin(&sender, ask(Method::GET, "/"), true).await;
    assert_eq!(answer(third).await.status(), 200);
    assert_eq!(answer(first).await.status(), 200);
    assert_eq!(*STREAMS.lock().unwrap(), [1, 3, 5], "one connection");
}
