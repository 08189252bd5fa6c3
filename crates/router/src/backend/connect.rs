//! Making a connection: dial, TLS if the endpoint was registered so, HTTP/1.1 or HTTP/2.

use super::connections::Connected;
use super::failure::Fault;
use crate::protocol::patience;
use crate::route_service::Services;
use crate::router::Worker;
use crate::side::Http1;
use crate::side::checked::Checked;
use crate::side::gathered::Gathered;
use crate::side::stream::Stream;
use bytes::Bytes;
use futures::FutureExt as _;
use h2::client::SendRequest;
use routing::registry::{Endpoint, Protocol};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

/// How an attempt got its connection, and how far it came with it: for the logs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    pub(crate) connected: bool,
    /// Another request had it before; then nothing was dialled.
    pub(crate) reused: bool,
    /// The request's head has gone out. Only told of attempts that failed.
    pub(crate) wrote_head: bool,
    pub(crate) dial: Option<Duration>,
    pub(crate) tls: Option<Duration>,
    pub(crate) local: Option<SocketAddr>,
}

/// Connects to an endpoint. `http1_only`: for upgrades, which HTTP/2 does not have; `to_service`: to a route service, for
/// which other authorities and addresses count.
pub(crate) async fn connect(
    worker: &Arc<Worker>,
    endpoint: &Endpoint,
    http1_only: bool,
    to_service: bool,
    made: &mut Made,
) -> Result<Connected, Fault> {
    let settings = &worker.shared.settings;
    let service = worker.shared.route_services.as_ref().filter(|_| to_service);
    let started = Instant::now();
    let dialled = timeout(patience(settings.dial_timeout), dial(endpoint, service)).await;
    *made = Made {
        dial: Some(started.elapsed()),
        ..Made::default()
    };
    let stream = dialled.map_err(|_| dial_fault(endpoint, "i/o timeout".into()))??;
    made.local = stream.local_addr().ok();
    let _ = stream.set_nodelay(true);
    let http2_wanted = endpoint.spec().protocol == Protocol::Http2 && !http1_only;
    if !endpoint.spec().tls {
        // Without TLS nobody can be asked whether he speaks HTTP/2: the registration says so.
        let stream = Stream::Plain(stream);
        return if http2_wanted && !worker.shared.lasting.compat_gorouter {
            http2(worker, endpoint, stream).await
        } else {
            Ok(http1(worker, stream))
        };
    }
    let config = if let Some(service) = service {
        &service.tls
    } else if http2_wanted {
        &worker.shared.tls_http2
    } else {
        &worker.shared.tls_http1
    };
    let name =
        ServerName::try_from(endpoint.tls_name().to_owned()).map_err(|_| Fault::WrongName {
            expected: endpoint.tls_name().to_owned(),
            presented: "unknown, for the registered name is not one that a certificate can carry"
                .into(),
        })?;
    let started = Instant::now();
    let shaken = timeout(
        patience(settings.tls_handshake_timeout),
        TlsConnector::from(config.clone()).connect(name, stream),
    )
    .await;
    made.tls = Some(started.elapsed());
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Fault::from_handshake(&error)),
        Err(_) => return Err(Fault::HandshakeTimeout),
    };
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Stream::Tls(Box::new(TlsStream::Client(stream)));
    if speaks_http2 {
        return http2(worker, endpoint, stream).await;
    }
    Ok(http1(worker, stream))
}

fn http1(worker: &Arc<Worker>, stream: Stream) -> Connected {
    Connected::Http1(Http1::new(worker.clone(), stream))
}

fn dial_fault(endpoint: &Endpoint, reason: String) -> Fault {
    Fault::Dial {
        address: endpoint.address().to_owned(),
        reason,
    }
}

/// The first address that takes the connection; of a route service none that is blocked.
async fn dial(endpoint: &Endpoint, service: Option<&Services>) -> Result<TcpStream, Fault> {
    let spec = endpoint.spec();
    let fault = |error: &std::io::Error| dial_fault(endpoint, format!("connect: {}", plain(error)));
    let Some(service) = service else {
        return TcpStream::connect((spec.host, spec.port))
            .await
            .map_err(|error| fault(&error));
    };
    let found = tokio::net::lookup_host((spec.host, spec.port)).await;
    let found = found.map_err(|error| fault(&error))?;
    let allowed: Vec<_> = found.filter(|a| !service.blocks(a.ip())).collect();
    if allowed.is_empty() {
        return Err(Fault::Blocked {
            host: spec.host.to_owned(),
        });
    }
    TcpStream::connect(&allowed[..])
        .await
        .map_err(|error| fault(&error))
}

/// A connection for all requests of this worker to the endpoint.
async fn http2(
    worker: &Arc<Worker>,
    endpoint: &Endpoint,
    stream: Stream,
) -> Result<Connected, Fault> {
    let settings = &worker.shared.settings;
    let limit = u32::try_from(settings.max_response_head).unwrap_or(u32::MAX);
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(limit)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    let gathered = Gathered::new(stream);
    let stream = Checked::backend(gathered.clone(), settings.max_response_head);
    let handshake = builder.handshake::<_, Bytes>(stream);
    let made: Result<(SendRequest<Bytes>, _), _> =
        match timeout(patience(settings.tls_handshake_timeout), handshake).await {
            Ok(made) => made,
            Err(_) => return Err(Fault::HandshakeTimeout),
        };
    let (sender, mut connection) = made.map_err(|error| Fault::from_http2(&error))?;
    let (transport, owner) = (endpoint.transport(), worker.clone());
    let number = owner.connections.share(transport, sender.clone());
    tokio::spawn(async move {
        let ended = std::future::poll_fn(|cx| {
            let ended = connection.poll_unpin(cx);
            let _ = gathered.poll_send(cx);
            ended
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "backend-http2-connection-ended");
        }
        owner.connections.forget_shared(transport, number);
    });
    Ok(Connected::Http2(sender))
}

/// Bytes that a backend may send before we have taken any.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of one stream that may wait for the socket.
const SEND_BUFFER: usize = 64 << 10;

/// `connection refused` instead of `Connection refused (os error 111)`.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}
