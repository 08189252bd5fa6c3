//! Accepting connections and speaking HTTP on them; each request goes to [`crate::route`].

use crate::protocol::HeadWatch;
use crate::proxy_protocol;
use crate::route::{self, Peer};
use crate::router::Worker;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kit::CancellationToken;
use rustls_pki_types::CertificateDer;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Longest TLS handshake of a client.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// An address for clients.
#[derive(Debug)]
pub(crate) enum Socket {
    Listening(TcpListener),
    /// Nobody can connect yet.
    Bound(TcpSocket),
}

/// Most connections that wait to be accepted.
const BACKLOG: u32 = 4096;

impl Socket {
    pub(crate) fn addr(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::Listening(listener) => listener.local_addr(),
            Self::Bound(socket) => socket.local_addr(),
        }
    }
}

/// A listening socket and what is spoken on it.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

impl Front {
    pub(crate) fn open((socket, tls): (Socket, Option<Arc<rustls::ServerConfig>>)) -> Result<Self> {
        let listener = match socket {
            Socket::Listening(listener) => listener,
            Socket::Bound(socket) => {
                let address = socket.local_addr();
                socket
                    .listen(BACKLOG)
                    .and_then(tokio::net::TcpListener::into_std)
                    .with_context(|| format!("listen on {address:?}"))?
            }
        };
        Ok(Self { listener, tls })
    }

    /// The same socket for another thread: the kernel hands each connection to one of them.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            listener: self
                .listener
                .try_clone()
                .context("share a listener between router threads")?,
            tls: self.tls.clone(),
        })
    }
}

/// Accepts until `stop`.
pub(crate) async fn accept(
    worker: Arc<Worker>,
    front: Front,
    stop: CancellationToken,
) -> Result<()> {
    let listener =
        tokio::net::TcpListener::from_std(front.listener).context("listen in a router thread")?;
    let acceptor = front.tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                worker.tasks.spawn(connection(
                    worker.clone(),
                    acceptor.clone(),
                    stream,
                    peer,
                    stop.clone(),
                ));
            }
            Err(error) => {
                // Out of file descriptors, most likely: let some requests end first.
                tracing::warn!(%error, "accept-failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(
    worker: Arc<Worker>,
    acceptor: Option<TlsAcceptor>,
    stream: TcpStream,
    addr: SocketAddr,
    stop: CancellationToken,
) {
    let addr = if worker.shared.settings.proxy_protocol {
        match proxy_protocol::source(&stream).await {
            Ok(said) => said.unwrap_or(addr),
            Err(error) => return tracing::debug!(%error, client = %addr, "proxy-protocol-refused"),
        }
    } else {
        addr
    };
    let Some(acceptor) = acceptor else {
        return serve_http1(worker, stream, Peer::plain(addr), stop).await;
    };
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(%error, client = %addr, "client-tls-handshake-failed");
        }
        Err(_) => return tracing::debug!(client = %addr, "client-tls-handshake-timed-out"),
    };
    let peer = Peer {
        addr,
        tls: true,
        certificate: stream.get_ref().1.peer_certificates().and_then(first),
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(worker, stream, peer, stop).await;
    } else {
        serve_http1(worker, stream, peer, stop).await;
    }
}

/// The client's own certificate, for a header.
fn first(chain: &[CertificateDer<'_>]) -> Option<HeaderValue> {
    HeaderValue::from_str(&BASE64_STANDARD.encode(chain.first()?)).ok()
}

async fn serve_http1<S>(worker: Arc<Worker>, stream: S, peer: Peer, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let addr = peer.addr;
    let watch = HeadWatch::default();
    let io = TokioIo::new(watch.around(stream));
    let settings = &worker.shared.settings;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(settings.frontend_idle_timeout)
        .max_buf_size(settings.max_request_head)
        .max_headers(settings.max_request_headers)
        .title_case_headers(true);
    let service = service_fn(move |request| {
        let (worker, peer, watch) = (worker.clone(), peer.clone(), watch.clone());
        async move { Ok::<_, Infallible>(route::serve(&worker, peer, Some(&watch), request).await) }
    });
    let served = builder.serve_connection(io, service).with_upgrades();
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, client = %addr, "client-connection-ended");
    }
}

async fn serve_http2<S>(worker: Arc<Worker>, stream: S, peer: Peer, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let addr = peer.addr;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(
            u32::try_from(worker.shared.settings.max_request_head).unwrap_or(u32::MAX),
        )
        .adaptive_window(true);
    let service = service_fn(move |request| {
        let (worker, peer) = (worker.clone(), peer.clone());
        async move { Ok::<_, Infallible>(route::serve(&worker, peer, None, request).await) }
    });
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, client = %addr, "client-connection-ended");
    }
}
