//! Makes a connection to a backend: dial, TLS if the endpoint was registered so, HTTP/1.1 or HTTP/2.

use super::connections::{Connected, Need};
use super::fault::Fault;
use super::made::Made;
use crate::path::protocol::patience;
use crate::path::route_service::services::Services;
use crate::worker::Worker;
use bytes::Bytes;
use futures::FutureExt as _;
use h2::client::SendRequest;
use http_sides::checked::Checked;
use http_sides::gathered::Gathered;
use http_sides::stream::Stream;
use route_table::registry::{Endpoint, Protocol};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

/// Connects to an endpoint.
pub(crate) async fn connect(
    worker: &Arc<Worker>,
    endpoint: &Endpoint,
    need: Need,
    made: &mut Made,
) -> Result<Connected, Fault> {
    let settings = &worker.shared.settings;
    let service = worker.shared.route_services.as_ref();
    let service = service.filter(|_| need.to_service);
    let started = Instant::now();
    let dialled = timeout(patience(settings.dial_timeout), dial(endpoint, service)).await;
    *made = Made {
        dial: Some(started.elapsed()),
        lost: made.lost,
        ..Made::default()
    };
    let stream = dialled.map_err(|_| dial_fault(endpoint, "i/o timeout".into()))??;
    made.local = stream.local_addr().ok();
    let _ = stream.set_nodelay(true);
    let http2_wanted = endpoint.spec().protocol == Protocol::Http2 && !need.http1_only;
    if !endpoint.spec().tls {
        // Without TLS there is no ALPN that would negotiate HTTP/2, so the registration decides.
        let stream = Stream::Plain(stream);
        return if http2_wanted && !worker.shared.lasting.compat_gorouter {
            http2(worker, endpoint, stream, need.body).await
        } else {
            Ok(Connected::Http1(worker.http1(stream)))
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
        return http2(worker, endpoint, stream, need.body).await;
    }
    Ok(Connected::Http1(worker.http1(stream)))
}

fn dial_fault(endpoint: &Endpoint, reason: String) -> Fault {
    Fault::Dial {
        address: endpoint.address().to_owned(),
        reason,
    }
}

/// Connects to the first address that accepts. Blocked addresses are skipped for a route service.
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

/// Makes a connection for many requests of this worker to the endpoint. `body`: whether the first of them has one.
async fn http2(
    worker: &Arc<Worker>,
    endpoint: &Endpoint,
    stream: Stream,
    body: bool,
) -> Result<Connected, Fault> {
    let settings = &worker.shared.settings;
    let limit = u32::try_from(settings.max_response_head).unwrap_or(u32::MAX);
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(limit)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(SMALL_FRAMES)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .max_local_error_reset_streams(Some(MOST_RESETS))
        .max_send_buffer_size(SEND_BUFFER);
    let gathered = Gathered::new(stream);
    let (stream, resets) = Checked::backend(gathered.clone(), settings.max_response_head);
    let handshake = builder.handshake::<_, Bytes>(stream);
    let made: Result<(SendRequest<Bytes>, _), _> =
        match timeout(patience(settings.tls_handshake_timeout), handshake).await {
            Ok(made) => made,
            Err(_) => return Err(Fault::HandshakeTimeout),
        };
    let (sender, mut connection) = made.map_err(|error| Fault::from_http2(&error))?;
    let (transport, owner) = (endpoint.transport(), worker.clone());
    let (number, lane) = owner.connections.share(transport, sender, body);
    tokio::spawn(async move {
        let mut retired = false;
        let ended = std::future::poll_fn(|cx| {
            let ended = connection.poll_unpin(cx);
            let _ = gathered.poll_send(cx);
            if !retired && resets.sent() >= RETIRED_AFTER {
                retired = true;
                owner.connections.forget_shared(transport, number);
            }
            ended
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "backend-http2-connection-ended");
        }
        owner.connections.forget_shared(transport, number);
    });
    Ok(Connected::Http2(lane))
}

/// The bytes of one stream that a backend may send before its client has read any. The connection's window is practically
/// unlimited, so that streams which no client reads do not shut it for the others.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// The bytes that small frames which arrived together may cost. (They are read from the library whether their client reads or
/// not.)
const SMALL_FRAMES: usize = 16 << 20;
/// The streams that are remembered for a second after the router broke them off, because frames for them are on their way
/// already.
const REMEMBERED_RESETS: usize = 1024;
/// The number of streams broken off after which a connection gets no new request. The library counts illegal frames over the
/// connection's whole life, and ends it with all its streams when they are too many.
const RETIRED_AFTER: u32 = 4096;
const MOST_RESETS: usize = 16384;
/// The bytes of one stream that may wait for the socket.
const SEND_BUFFER: usize = 64 << 10;

/// Returns an error's text without its number: `connection refused` instead of `Connection refused (os error 111)`.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}
