//! The servers of drains: syslog over TCP and TLS, and HTTPS.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use kit::CancellationToken;
use kit::tls::{ClientAuth, Identity, server_config};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use testkit::net::listener;
use testkit::wait::until;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The messages that a server received, over all of its connections.
pub(crate) type Messages = Arc<Mutex<Vec<String>>>;

/// A server of syslog.
pub(crate) struct Syslog {
    pub(crate) address: SocketAddr,
    pub(crate) messages: Messages,
    pub(crate) connections: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for Syslog {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Syslog {
    pub(crate) async fn start() -> Self {
        Self::start_on(listener().await, None)
    }

    /// Starts a server with TLS. Whether it demands a certificate of its clients is `auth`.
    pub(crate) async fn start_tls(identity: &Identity, auth: ClientAuth) -> Self {
        let tls = server_config(identity, auth, &[]).unwrap();
        Self::start_on(listener().await, Some(TlsAcceptor::from(tls)))
    }

    pub(crate) fn start_on(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (messages, connections) = (Messages::default(), Arc::<AtomicUsize>::default());
        let serving = serve(listener, tls, messages.clone(), connections.clone());
        let ended = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = serving => {}
            }
        });
        Self {
            address,
            messages,
            connections,
            stop,
        }
    }

    /// Waits until the server has received so many messages, and returns them.
    pub(crate) async fn received(&self, count: usize) -> Vec<String> {
        received(&self.messages, count).await
    }
}

pub(crate) async fn received(messages: &Messages, count: usize) -> Vec<String> {
    until(&format!("{count} messages"), || {
        let messages = messages.lock().unwrap();
        match messages.len() >= count {
            true => Ok(messages.clone()),
            false => Err(format!(
                "{} messages, the last {:?}",
                messages.len(),
                messages.last()
            )),
        }
    })
    .await
}

/// Serves until the future is dropped, which also ends all connections.
async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    messages: Messages,
    connections: Arc<AtomicUsize>,
) {
    let mut open = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.fetch_add(1, Ordering::Relaxed);
        let (tls, messages) = (tls.clone(), messages.clone());
        open.spawn(async move {
            match tls {
                None => read(stream, &messages).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        read(stream, &messages).await;
                    }
                }
            }
        });
    }
}

/// Reads messages behind their lengths until the connection ends.
async fn read(mut stream: impl AsyncRead + Unpin, messages: &Messages) {
    let mut waiting = Vec::new();
    loop {
        match stream.read_buf(&mut waiting).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        while let Some(at) = waiting.iter().position(|byte| *byte == b' ') {
            let length: usize = std::str::from_utf8(&waiting[..at])
                .unwrap()
                .parse()
                .unwrap();
            let (begin, end) = (at + 1, at + 1 + length);
            if waiting.len() < end {
                break;
            }
            let message = String::from_utf8(waiting[begin..end].to_vec()).unwrap();
            assert!(message.ends_with('\n'), "{message:?}");
            messages.lock().unwrap().push(message);
            waiting.drain(..end);
        }
    }
}

/// A request that a server of HTTPS received.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A server of HTTPS.
#[derive(Clone)]
pub(crate) struct Https {
    pub(crate) requests: Arc<Mutex<Vec<Posted>>>,
    /// The number of requests that are refused before one is accepted.
    pub(crate) refusals: Arc<AtomicUsize>,
}

async fn accept(
    State(server): State<Https>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let refusals = &server.refusals;
    let refused = refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    if refused.is_ok() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    server.requests.lock().unwrap().push(Posted {
        uri: uri.to_string(),
        headers,
        body,
    });
    StatusCode::NO_CONTENT
}

impl Https {
    /// Starts a server, and returns its address.
    pub(crate) async fn start(identity: &Identity, stop: CancellationToken) -> (Self, SocketAddr) {
        let server = Self {
            requests: Arc::default(),
            refusals: Arc::default(),
        };
        let app = Router::new()
            .route("/{*path}", post(accept))
            .with_state(server.clone());
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let tls = server_config(identity, ClientAuth::None, &["http/1.1"]).unwrap();
        tokio::spawn(kit::http::serve(listener, Some(tls), app, stop));
        (server, address)
    }

    pub(crate) async fn received(&self, count: usize) -> Vec<Posted> {
        until(&format!("{count} requests"), || {
            let requests = self.requests.lock().unwrap();
            match requests.len() >= count {
                true => Ok(requests.clone()),
                false => Err(format!("{} requests", requests.len())),
            }
        })
        .await
    }
}
