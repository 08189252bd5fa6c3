//! Serving an axum router on a listener that is already bound, with or without TLS, until shutdown.
//!
//! No client holds the server up: connections are counted, heads are bounded in size and time, idle connections end, and a
//! handler that panics answers 500 ([`Limits`]). An answer that comes before its request was read whole reaches the client,
//! and its connection is reused only when nothing of that request is left on it ([`early`]).

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

/// How long connections may go on after shutdown was asked for, or after they were asked to end.
const DRAIN: Duration = Duration::from_secs(5);

/// What one listener's clients may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// From a connection's first byte, or from the first byte of a further request, to the end of the request's head. For
    /// the TLS handshake as well.
    pub head: Duration,
    /// How long a connection may stay without a request.
    pub idle: Duration,
    /// How long a client may leave a body that is wanted unsent, or an answer unread (HTTP/1), without any progress.
    pub stall: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Fields of a request's head (HTTP/1).
    pub fields: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams: u32,
    /// So much of a body that nobody read is read before the answer, so that the connection can be used again.
    pub rest_bytes: usize,
    pub rest_time: Duration,
    /// So much more is read after the answer, so that a client that still sends can read it.
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

/// Binds with `SO_REUSEADDR`; the error names the address and what to do.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("listen on {addr}: is another program using this port? stop that program and try again (`ss -ntlp` names it)"))
}

/// Serves `app` until `shutdown`; then lets requests in flight finish for at most five seconds.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: axum::Router,
    shutdown: CancellationToken,
) -> Result<()> {
    serve_within(Limits::default(), listener, tls, app, shutdown).await
}

/// [`serve`] with other limits.
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
        // A peer that is gone without a word keeps no streams open.
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
        // The router is always ready.
        let handled = async { self.app.call(request).await };
        let mut response = match AssertUnwindSafe(handled).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => {
                tracing::error!(%method, path, panic = panic_text(&*panic), "handler-panicked");
                let text = "An internal error occurred; the log says more.\n";
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        };
        if one_at_a_time {
            rest.settle(&mut response, &self.limits).await;
        }
        in_flight.until_sent(response)
    }
}

/// The text of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

/// Request extension: the peer's address.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddr(pub Option<SocketAddr>);
