//! Serves an axum router on a listener that is already bound, with or without TLS, until shutdown.
//!
//! No client can block the server: connections are counted, heads are limited in size and time, idle connections end, and a
//! handler that panics answers 500 ([`Limits`]). A response that comes before its request was read whole reaches the client, and
//! its connection is reused only when no byte of that request is left on it ([`early`]).

mod early;
mod watch;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::response::IntoResponse as _;
use early::Rest;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::any::Any;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;
use watch::{Activity, End, InFlight, Watched};

/// The time for which connections may continue after shutdown was requested, or after they were asked to end.
const DRAIN: Duration = Duration::from_secs(5);

/// The limits for the clients of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The highest number of concurrent connections. Further ones wait in the kernel's queue.
    pub connections: usize,
    /// The time from a connection's first byte, or from the first byte of a further request, to the end of the request's head. It
    /// also limits the TLS handshake.
    pub head: Duration,
    /// The time that a connection may last without a request.
    pub idle: Duration,
    /// The time without any progress in which a client may leave a body that is expected unsent, or a response unread (HTTP/1).
    pub stall: Duration,
    /// The highest number of bytes of a request's head.
    pub head_bytes: usize,
    /// The highest number of fields of a request's head (HTTP/1).
    pub fields: usize,
    /// The highest number of concurrent requests on one HTTP/2 connection.
    pub streams: u32,
    /// The number of bytes of an unread body that are read before the response, so that the connection can be used again.
    pub rest_bytes: usize,
    pub rest_time: Duration,
    /// The number of bytes that are read after the response, so that a client that is still sending can read the response.
    pub linger_bytes: usize,
    pub linger_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(15),
            idle: Duration::from_secs(120),
            stall: Duration::from_secs(60),
            head_bytes: 128 << 10,
            fields: 200,
            streams: 250,
            rest_bytes: 64 << 10,
            rest_time: Duration::from_millis(200),
            linger_bytes: 64 << 20,
            linger_time: Duration::from_secs(10),
        }
    }
}

/// Binds with `SO_REUSEADDR`. The error names the address and a remedy.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("listen on {addr}: is another program using this port? stop that program and try again (`ss -ntlp` names it)"))
}

/// Serves `app` until `shutdown`. Requests in flight then have at most five seconds to finish.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: axum::Router,
    shutdown: CancellationToken,
) -> Result<()> {
    serve_within(Limits::default(), listener, tls, app, shutdown).await
}

/// Serves as [`serve`], with other limits.
pub async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: axum::Router,
    shutdown: CancellationToken,
) -> Result<()> {
    let acceptor = tls.map(TlsAcceptor::from);
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accept = async {
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept-failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let served = connection(
            limits,
            stream,
            acceptor.clone(),
            app.clone(),
            shutdown.clone(),
        );
        connections.spawn(async move {
            served.await;
            drop(permit);
        });
    }
    connections.close();
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
    Ok(())
}

async fn connection(
    limits: Limits,
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    app: axum::Router,
    shutdown: CancellationToken,
) {
    let peer = PeerAddr(stream.peer_addr().ok());
    let activity = Arc::new(Activity::new(limits));
    let requests = Requests {
        app,
        peer,
        activity: activity.clone(),
        limits,
    };
    let Some(acceptor) = acceptor else {
        return http(Watched::new(stream, activity), requests, shutdown).await;
    };
    match tokio::time::timeout(limits.head, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => http(Watched::new(stream, activity), requests, shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, "tls-handshake-failed"),
        Err(_) => tracing::debug!("tls-handshake-timeout"),
    }
}

async fn http<S>(stream: Watched<S>, requests: Requests, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (activity, builder) = (requests.activity.clone(), builder(&requests.limits));
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), requests);
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
        end = activity.overdue() => {
            tracing::debug!(?end, "connection-overdue");
            if end == End::Close {
                return;
            }
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN, served).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection-ended");
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.fields);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams)
        // With keep-alives, a peer that vanished keeps no streams open.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// The requests of one connection.
#[derive(Clone)]
struct Requests {
    app: axum::Router,
    peer: PeerAddr,
    activity: Arc<Activity>,
    limits: Limits,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<InFlight<Body>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answered = self.clone().answer(request);
        Box::pin(async move { Ok(answered.await) })
    }
}

impl Requests {
    async fn answer(mut self, request: Request<Incoming>) -> Response<InFlight<Body>> {
        let one_at_a_time = request.version() < Version::HTTP_2;
        let in_flight = self.activity.begin(one_at_a_time);
        let (mut request, rest) =
            Rest::watch(request, one_at_a_time.then(|| self.activity.clone()));
        request.extensions_mut().insert(self.peer);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        // The router does not need to be polled for readiness, because it is always ready.
        let handled = async { self.app.call(request).await };
        let mut response = match AssertUnwindSafe(handled).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => {
                tracing::error!(%method, path, panic = panic_text(&*panic), "handler-panicked");
                let text = "An internal error occurred; see the log.\n";
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        };
        if one_at_a_time {
            rest.finish_request(&mut response, &self.limits).await;
        }
        in_flight.until_sent(response)
    }
}

/// Returns the text of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

/// A request extension that contains the peer's address.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddr(pub Option<SocketAddr>);
