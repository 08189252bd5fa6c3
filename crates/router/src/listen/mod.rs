//! Accepts connections and speaks HTTP on them; each request goes to [`crate::path::route`].

pub(crate) mod front_tls;
mod http1;
mod http2;
pub(crate) mod proxy_protocol;
pub(crate) mod window;

use crate::path::context::Peer;
use crate::path::protocol::patience;
use crate::worker::Worker;
use anyhow::{Context as _, Result};
use front_tls::Handshakes;
use http_sides::stream::Stream;
use kit::CancellationToken;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

/// The longest time that the TLS handshake of a client may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A socket for clients.
#[derive(Debug)]
pub(crate) enum Socket {
    Listening(TcpListener),
    /// A bound socket, to which nobody can connect yet.
    Bound(TcpSocket),
}

/// The largest number of connections that wait to be accepted.
const BACKLOG: u32 = 4096;

impl Socket {
    pub(crate) fn addr(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::Listening(listener) => listener.local_addr(),
            Self::Bound(socket) => socket.local_addr(),
        }
    }
}

/// A listening socket and the protocols that are spoken on it.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<Handshakes>>,
}

impl Front {
    pub(crate) fn open((socket, tls): (Socket, Option<Arc<Handshakes>>)) -> Result<Self> {
        let listener = match socket {
            Socket::Listening(listener) => listener,
            Socket::Bound(socket) => {
                let address = socket.local_addr().context("read a socket's address")?;
                socket
                    .listen(BACKLOG)
                    .and_then(tokio::net::TcpListener::into_std)
                    .with_context(|| format!("listen on {address}"))?
            }
        };
        Ok(Self { listener, tls })
    }

    /// Returns the same socket for another thread: the kernel hands each connection to one of them.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        self.try_clone_with(self.tls.clone())
    }

    /// Returns the same socket with another certificate, if it has one.
    pub(crate) fn try_clone_with(&self, tls: Option<Arc<Handshakes>>) -> Result<Self> {
        Ok(Self {
            listener: self
                .listener
                .try_clone()
                .context("share a listener between router threads")?,
            tls: tls.filter(|_| self.tls.is_some()),
        })
    }
}

/// Accepts connections until `stop`.
pub(crate) async fn accept(
    worker: Arc<Worker>,
    front: Front,
    stop: CancellationToken,
) -> Result<()> {
    let listener =
        tokio::net::TcpListener::from_std(front.listener).context("listen in a router thread")?;
    let acceptor = front.tls;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                worker
                    .tasks
                    .spawn(connection(worker.clone(), acceptor.clone(), stream, peer));
            }
            Err(error) => {
                // Most likely there are no file descriptors left: some requests must end first.
                tracing::warn!(%error, "accept-failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(
    worker: Arc<Worker>,
    acceptor: Option<Arc<Handshakes>>,
    stream: TcpStream,
    addr: SocketAddr,
) {
    let addr = if worker.shared.settings.proxy_protocol {
        match proxy_protocol::source(&stream).await {
            Ok(said) => said.unwrap_or(addr),
            Err(error) => return tracing::debug!(%error, client = %addr, "proxy-protocol-refused"),
        }
    } else {
        addr
    };
    let mut peer = Peer::plain(addr);
    let Some(acceptor) = acceptor else {
        let settings = &worker.shared.settings;
        let http2 = settings.http2_cleartext
            && timeout(
                patience(settings.read_header_timeout),
                begins_http2(&stream),
            )
            .await
            .is_ok_and(|begins| begins);
        let stream = Stream::Plain(stream);
        return if http2 {
            http2::spawn(worker, stream, peer);
        } else {
            http1::spawn(worker, stream, peer);
        };
    };
    let handshake = async {
        if begins_http1(&stream).await {
            let _ = answer_without_tls(stream).await;
            return Err(std::io::Error::other("HTTP without TLS"));
        }
        acceptor.accept(stream).await
    };
    let (stream, client) = match timeout(HANDSHAKE, handshake).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            return tracing::debug!(%error, client = %addr, "client-tls-handshake-failed");
        }
        Err(_) => return tracing::debug!(client = %addr, "client-tls-handshake-timed-out"),
    };
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    peer.client = Some(client.into());
    let stream = Stream::Tls(Box::new(TlsStream::Server(stream)));
    if speaks_http2 {
        http2::spawn(worker, stream, peer);
    } else {
        http1::spawn(worker, stream, peer);
    }
}

/// Returns whether a client without TLS begins with HTTP/2's preface. No request of HTTP/1 begins like it.
async fn begins_http2(stream: &TcpStream) -> bool {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut seen = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut seen).await {
            Ok(_) if seen == PREFACE => return true,
            Ok(read) if read > 0 && PREFACE.starts_with(&seen[..read]) => {
                // A peek returns the same bytes again at once.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            _ => return false,
        }
    }
}

/// Returns whether gorouter (Go's `net/http`) would take a client for one that should have spoken TLS. The first bytes decide it.
/// Waiting for the rest of a word would cost a peek every few milliseconds for each client that never sends it.
async fn begins_http1(stream: &TcpStream) -> bool {
    let mut seen = [0; 5];
    let read = stream.peek(&mut seen).await;
    read.is_ok() && matches!(&seen, b"GET /" | b"HEAD " | b"POST " | b"PUT /" | b"OPTIO")
}

/// The answer that gorouter sends.
const WITHOUT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Sends that answer and then reads the rest of the request, because a close with unread bytes would destroy the answer.
async fn answer_without_tls(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(WITHOUT_TLS).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(1 << 20);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}
