//! Making a connection: dial, TLS if the endpoint was registered so, HTTP/1.1 or HTTP/2.

use super::failure::Fault;
use crate::body::RequestBody;
use crate::config::Settings;
use crate::route_service::Services;
use crate::router::Worker;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use routing::registry::{Endpoint, Protocol};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The end of a connection that takes requests.
#[derive(Debug)]
pub(crate) enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// How a connection came to be, for the access log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
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
) -> Result<Sender, Fault> {
    let settings = &worker.shared.settings;
    let spec = endpoint.spec();
    let service = worker.shared.route_services.as_ref().filter(|_| to_service);
    let started = Instant::now();
    let stream = match timeout(settings.dial_timeout, dial(endpoint, service)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(dial_fault(endpoint, "i/o timeout".into())),
    };
    *made = Made {
        dial: Some(started.elapsed()),
        tls: None,
        local: stream.local_addr().ok(),
    };
    let _ = stream.set_nodelay(true);
    if !spec.tls {
        return http1(stream, settings).await;
    }
    let http2_wanted = spec.protocol == Protocol::Http2 && !http1_only;
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
    let stream = match timeout(
        settings.tls_handshake_timeout,
        TlsConnector::from(config.clone()).connect(name, stream),
    )
    .await
    {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Fault::from_handshake(&error)),
        Err(_) => return Err(Fault::HandshakeTimeout),
    };
    made.tls = Some(started.elapsed());
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let sender = http2(stream).await?;
        worker
            .connections
            .share(endpoint.transport(), sender.clone());
        return Ok(Sender::Http2(sender));
    }
    http1(stream, settings).await
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

async fn http1<S>(stream: S, settings: &Settings) -> Result<Sender, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(settings.max_response_head)
        .max_headers(settings.max_response_headers)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Fault::from_request(&error, false))?;
    tokio::spawn(connection.with_upgrades());
    Ok(Sender::Http1(sender))
}

async fn http2<S>(stream: S) -> Result<http2::SendRequest<RequestBody>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .adaptive_window(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Fault::from_request(&error, false))?;
    tokio::spawn(connection);
    Ok(sender)
}

/// `connection refused` instead of `Connection refused (os error 111)`.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}
