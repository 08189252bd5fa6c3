//! Peers that speak HTTP/2: a backend that treats each stream as its path demands, and clients that share a connection.

use crate::http1::app;
use crate::world::{PATIENCE, World, plain, wait_for};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

/// The messages of a stream of `/drip`, and the bytes of each: more messages than a library keeps one by one.
pub(crate) const DRIPS: usize = 20_000;
pub(crate) const DRIP: usize = 20;

/// An app that is registered for HTTP/2 without TLS.
#[derive(Clone)]
pub(crate) struct H2Backend {
    pub(crate) addr: SocketAddr,
    /// The connections that it has accepted.
    pub(crate) connections: Arc<AtomicUsize>,
    /// The bytes of `/big` that the router has accepted.
    pub(crate) sent: Arc<AtomicUsize>,
    /// The streams that have begun.
    pub(crate) begun: Arc<AtomicUsize>,
    /// The signal at which `/slow` answers.
    pub(crate) go: Arc<Notify>,
}

impl H2Backend {
    pub(crate) async fn start(world: &World, uri: &str) -> Self {
        let mut builder = h2::server::Builder::new();
        // Small messages wait while a handler does not read.
        builder.data_frame_budget(64 << 20);
        Self::with(world, uri, builder).await
    }

    pub(crate) async fn with(world: &World, uri: &str, builder: h2::server::Builder) -> Self {
        let counter = || Arc::new(AtomicUsize::new(0));
        let mut own = Self {
            addr: world.addr,
            connections: counter(),
            sent: counter(),
            begun: counter(),
            go: Arc::new(Notify::new()),
        };
        let backend = own.clone();
        own.addr = app(move |stream| backend.clone().serve(builder.clone(), stream)).await;
        let mut message = plain(uri, "app", 0, own.addr);
        message["protocol"] = "http2".into();
        world.publish("router.register", message).await;
        wait_for("the route", async || world.handle.serves(uri)).await;
        own
    }

    async fn serve(self, builder: h2::server::Builder, stream: TcpStream) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
            return;
        };
        while let Some(Ok((request, respond))) = connection.accept().await {
            self.begun.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(self.clone().answer(request, respond));
        }
    }

    async fn answer(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (head, mut body) = request.into_parts();
        let mut status = Response::new(());
        match head.uri.path() {
            "/deaf" => std::future::pending().await,
            "/refuse" => respond.send_reset(Reason::REFUSED_STREAM),
            "/early" => {
                *status.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
                let mut answer = respond.send_response(status, false).unwrap();
                answer.send_data("too much".into(), true).unwrap();
            }
            "/big" => {
                let mut answer = respond.send_response(status, false).unwrap();
                let piece = Bytes::from(vec![b'x'; 16 << 10]);
                for _ in 0..4096 {
                    if !send(&mut answer, piece.clone()).await {
                        return;
                    }
                    self.sent.fetch_add(piece.len(), Ordering::Relaxed);
                }
                let _ = answer.send_data(Bytes::new(), true);
            }
            "/drip" => {
                let mut answer = respond.send_response(status, false).unwrap();
                for _ in 0..DRIPS {
                    if !send(&mut answer, vec![b'd'; DRIP].into()).await {
                        return;
                    }
                }
                let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
                let _ = answer.send_trailers(trailers.into_iter().collect());
            }
            path => {
                if path == "/slow" {
                    self.go.notified().await;
                }
                let count = read(&mut body).await.len();
                let mut answer = respond.send_response(status, false).unwrap();
                let _ = answer.send_data(format!("ok {count}").into(), true);
            }
        }
    }
}

/// Sends each part as soon as there is room for it; false: the peer has gone.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                let part = data.split_to(room.min(data.len()));
                if stream.send_data(part, false).is_err() {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}

/// Opens a connection whose own window no stream can shut.
pub(crate) async fn connect(world: &World) -> SendRequest<Bytes> {
    let mut config = kit::tls::client_config(&world.ca.issue(&["client"])).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(world.https).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("app.apps.test".try_into().unwrap(), stream)
        .await
        .unwrap();
    let (sender, connection) = h2::client::Builder::new()
        .initial_connection_window_size(1 << 30)
        .initial_max_send_streams(250)
        .max_concurrent_reset_streams(5000)
        .max_local_error_reset_streams(None)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) fn ask(method: Method, path: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = format!("https://app.apps.test{path}").parse().unwrap();
    request
}

pub(crate) async fn begin(
    sender: &SendRequest<Bytes>,
    request: Request<()>,
    ended: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut sender = sender.clone().ready().await.unwrap();
    sender.send_request(request, ended).unwrap()
}

pub(crate) async fn head(future: ResponseFuture) -> Response<RecvStream> {
    timeout(PATIENCE, future).await.expect("an answer").unwrap()
}

/// Returns a GET's status and body.
pub(crate) async fn get(sender: &SendRequest<Bytes>, path: &str) -> (u16, Vec<u8>) {
    let (answer, _) = begin(sender, ask(Method::GET, path), true).await;
    let mut answer = head(answer).await;
    (answer.status().as_u16(), read(answer.body_mut()).await)
}

/// Returns a POST's status and body.
pub(crate) async fn post(sender: &SendRequest<Bytes>, path: &str, size: usize) -> (u16, Vec<u8>) {
    let (answer, mut up) = begin(sender, ask(Method::POST, path), false).await;
    let upload = tokio::spawn(async move {
        send(&mut up, vec![b'u'; size].into()).await;
        let _ = up.send_data(Bytes::new(), true);
    });
    let mut answer = head(answer).await;
    let body = read(answer.body_mut()).await;
    upload.abort();
    (answer.status().as_u16(), body)
}

pub(crate) async fn read(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = timeout(PATIENCE, body.data()).await.expect("data") {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}
