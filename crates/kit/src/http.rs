//! Serving an axum router on a listener that is already bound, with or without TLS, until shutdown.

use anyhow::{Context as _, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long connections may go on after shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(5);

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
    let acceptor = tls.map(TlsAcceptor::from);
    let connections = TaskTracker::new();
    loop {
        let (stream, _) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept-failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        connections.spawn(connection(
            stream,
            acceptor.clone(),
            app.clone(),
            shutdown.clone(),
        ));
    }
    connections.close();
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    app: axum::Router,
    shutdown: CancellationToken,
) {
    let peer = stream.peer_addr().ok();
    let app = app.layer(axum::Extension(PeerAddr(peer)));
    match acceptor {
        None => http(TokioIo::new(stream), app, shutdown).await,
        Some(acceptor) => {
            match tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await {
                Ok(Ok(stream)) => http(TokioIo::new(stream), app, shutdown).await,
                Ok(Err(error)) => tracing::debug!(%error, "tls-handshake-failed"),
                Err(_) => tracing::debug!("tls-handshake-timeout"),
            }
        }
    }
}

async fn http<IO>(io: IO, app: axum::Router, shutdown: CancellationToken)
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection_with_upgrades(io, TowerToHyperService::new(app));
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection-ended");
    }
}

/// Request extension: the peer's address.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddr(pub Option<SocketAddr>);
