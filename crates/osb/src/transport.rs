//! Sends one request on a connection of its own, within the limits of a call.
//!
//! A connection is made only to an address that was checked, so the name cannot mean another one a moment later. Redirects are
//! answers like any other, and nothing is sent twice.

use crate::API_VERSION;
use crate::error::{Error, ErrorKind};
use crate::request::Request;
use crate::settings::{Broker, Caller, Settings};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// The longest time for a connection to one address, so that the next one is tried as well.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest pause that a broker can request before the next poll.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// The number of addresses of a name that are tried.
const TRIED: usize = 4;

/// An answer whose body is complete.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
    /// The pause that the broker requests before the next poll.
    pub retry_after: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Transport {
    settings: Settings,
    tls: Arc<ClientConfig>,
}

/// The host of a URL and where to connect.
struct Target {
    host: String,
    port: u16,
    is_tls: bool,
    /// The value of the header `Host`.
    authority: String,
}

impl Transport {
    pub(crate) fn new(settings: Settings, tls: Arc<ClientConfig>) -> Self {
        Self { settings, tls }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends a request and reads the answer, in the time of a call.
    pub(crate) async fn send(
        &self,
        broker: &Broker,
        caller: &Caller,
        request: &Request,
    ) -> Result<Answer, Error> {
        let url = format!("{}{}", broker.url.trim_end_matches('/'), request.path);
        let was_sent = AtomicBool::new(false);
        let exchange = self.exchange(&url, broker, caller, request, &was_sent);
        let result = tokio::time::timeout(self.settings.timeout, exchange).await;
        let result = result.unwrap_or_else(|_| {
            Err(Error {
                was_sent: was_sent.load(Ordering::Relaxed),
                ..Error::new(
                    ErrorKind::Timeout,
                    "The request to the service broker timed out",
                )
            })
        });
        match &result {
            Ok(answer) => {
                let status = answer.status.as_u16();
                tracing::info!(method = %request.method, url, status, "broker-called");
            }
            Err(error) => tracing::warn!(method = %request.method, url, %error, "broker-failed"),
        }
        result
    }

    async fn exchange(
        &self,
        url: &str,
        broker: &Broker,
        caller: &Caller,
        request: &Request,
        was_sent: &AtomicBool,
    ) -> Result<Answer, Error> {
        let uri: Uri = url.parse().map_err(|_| forbidden("its URL is not valid"))?;
        let target = Target::of(&uri)?;
        let message = self.message(&uri, &target, broker, caller, request)?;
        let stream = self.connect(&target).await?;
        if !target.is_tls {
            return self.converse(stream, message, was_sent).await;
        }
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| forbidden("its URL has no valid host"))?;
        let handshake = TlsConnector::from(self.tls.clone()).connect(name, stream);
        let stream = handshake.await.map_err(|error| {
            Error::unsent(
                ErrorKind::Unreachable,
                format!("The service broker could not be reached: TLS failed: {error}"),
            )
        })?;
        self.converse(stream, message, was_sent).await
    }

    fn message(
        &self,
        uri: &Uri,
        target: &Target,
        broker: &Broker,
        caller: &Caller,
        request: &Request,
    ) -> Result<http::Request<Full<Bytes>>, Error> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let credentials = STANDARD.encode(format!("{}:{}", broker.username, broker.password));
        let body = request.body.as_ref();
        let content = body
            .map(|body| Bytes::from(body.text()))
            .unwrap_or_default();
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(path)
            .header(HOST, &target.authority)
            .header(AUTHORIZATION, format!("Basic {credentials}"))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "cupola")
            .header("X-Broker-API-Version", API_VERSION)
            .header(
                "X-Broker-API-Request-Identity",
                uuid::Uuid::new_v4().to_string(),
            )
            .header("X-Api-Info-Location", &self.settings.api_info_location);
        if body.is_some() {
            message = message.header(CONTENT_TYPE, "application/json");
        }
        if let Some(user) = &caller.user_guid {
            let identity = serde_json::json!({ "user_id": user }).to_string();
            let identity = format!("cloudfoundry {}", STANDARD.encode(identity));
            message = message.header("X-Broker-API-Originating-Identity", identity);
        }
        if let Some(id) = &caller.request_id {
            message = message.header("X-Vcap-Request-Id", id);
        }
        message
            .body(Full::new(content))
            .map_err(|_| forbidden("the request has a value that no header can have"))
    }

    /// Connects to the first address that accepts it. All addresses of a name are checked before.
    async fn connect(&self, target: &Target) -> Result<TcpStream, Error> {
        let addresses = self.addresses(target).await?;
        let mut failure = "it has no address".to_owned();
        for address in addresses.into_iter().take(TRIED) {
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it small requests may wait for acknowledgements; the call works in both cases.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => failure = format!("{address}: {error}"),
                Err(_) => failure = format!("{address}: no answer within {CONNECT:?}"),
            }
        }
        tracing::info!(host = target.host, failure, "broker-not-connected");
        Err(Error::unsent(
            ErrorKind::Unreachable,
            "The service broker could not be reached",
        ))
    }

    /// Returns the addresses of a host that a call may use.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Error> {
        if let Some((host, port)) = self.router_for(target) {
            return look_up(host, port).await;
        }
        let found = look_up(&target.host, target.port).await?;
        let known = !found.is_empty();
        let permitted: Vec<SocketAddr> = found
            .into_iter()
            .filter(|address| self.settings.reach.permits(*address))
            .collect();
        if known && permitted.is_empty() {
            return Err(forbidden(
                "it is on an address that the operator does not permit, e.g. of a component or of the Cloud Controller's own machine",
            ));
        }
        Ok(permitted)
    }

    /// Returns the router's host and port if the host is of this foundation.
    fn router_for(&self, target: &Target) -> Option<(&str, u16)> {
        let router = self.settings.router.as_ref()?;
        let is_own = self.settings.own_domains.iter().any(|domain| {
            let below = target.host.strip_suffix(domain.as_str());
            below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
        });
        let port = match target.is_tls {
            true => router.https_port?,
            false => router.http_port,
        };
        is_own.then_some((router.host.as_str(), port))
    }

    async fn converse<S>(
        &self,
        stream: S,
        message: http::Request<Full<Bytes>>,
        was_sent: &AtomicBool,
    ) -> Result<Answer, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: &dyn std::fmt::Display| {
            tracing::info!(%error, "broker-connection-broke");
            Error {
                was_sent: was_sent.load(Ordering::Relaxed),
                ..Error::new(
                    ErrorKind::Unreachable,
                    "The service broker could not be reached: the connection broke before the answer was complete",
                )
            }
        };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|error| broken(&error))?;
        // The connection ends with the call, whatever the broker does.
        let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // The sender reports what ended the connection.
            let _ = connection.await;
        }));
        was_sent.store(true, Ordering::Relaxed);
        let answer = sender
            .send_request(message)
            .await
            .map_err(|error| broken(&error))?;
        let (status, retry_after) = (answer.status(), retry_after(answer.headers()));
        let most = self.settings.answer_bytes;
        match Limited::new(answer.into_body(), most).collect().await {
            Ok(body) => Ok(Answer {
                status,
                body: body.to_bytes(),
                retry_after,
            }),
            Err(error) if error.is::<LengthLimitError>() => Err(Error {
                status: Some(status.as_u16()),
                reason: status.canonical_reason().unwrap_or_default(),
                ..Error::new(
                    ErrorKind::TooLarge,
                    format!(
                        "The service broker returned an invalid response: the body has more than {most} bytes"
                    ),
                )
            }),
            Err(error) => Err(broken(&error)),
        }
    }
}

fn forbidden(reason: &str) -> Error {
    Error::unsent(
        ErrorKind::Forbidden,
        format!("The service broker could not be reached: {reason}"),
    )
}

async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => {
            tracing::info!(host, %error, "broker-not-found");
            Err(Error::unsent(
                ErrorKind::Unreachable,
                "The service broker could not be reached: its host has no address",
            ))
        }
    }
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => {
                return Err(forbidden(
                    "its URL begins with neither http:// nor https://",
                ));
            }
        };
        let authority = uri
            .authority()
            .ok_or_else(|| forbidden("its URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(forbidden("its URL contains authentication"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(forbidden("its URL has no host"));
        }
        Ok(Self {
            host: host.trim_end_matches('.').to_ascii_lowercase(),
            port: authority
                .port_u16()
                .unwrap_or(if is_tls { 443 } else { 80 }),
            is_tls,
            authority: authority.to_string(),
        })
    }
}

/// Reads the seconds of `Retry-After`. A date, which the API does not use, counts as none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Router;

    fn target(url: &str) -> Result<Target, Error> {
        Target::of(&url.parse().unwrap())
    }

    #[test]
    fn the_host_and_port_of_a_url_are_found() {
        for (url, host, port, is_tls) in [
            ("http://Broker.test", "broker.test", 80, false),
            ("https://broker.test/base", "broker.test", 443, true),
            ("https://broker.test:8443", "broker.test", 8443, true),
            ("http://[::1]:81/", "::1", 81, false),
            ("http://10.0.0.1.", "10.0.0.1", 80, false),
        ] {
            let found = target(url).unwrap();
            assert_eq!(
                (found.host.as_str(), found.port, found.is_tls),
                (host, port, is_tls),
                "{url}"
            );
        }
        for url in ["ftp://a.test", "/v2", "http://u:p@a.test"] {
            assert!(target(url).is_err(), "{url}");
        }
    }

    #[test]
    fn hosts_of_the_foundation_go_to_its_router() {
        let settings = Settings {
            own_domains: vec!["apps.test".to_owned()],
            router: Some(Router {
                host: "127.0.0.1".to_owned(),
                http_port: 8080,
                https_port: None,
            }),
            ..Settings::default()
        };
        let tls = kit::tls::trusting_any_certificate().with_no_client_auth();
        let transport = Transport::new(settings, Arc::new(tls));
        let router = |url: &str| {
            transport
                .router_for(&target(url).unwrap())
                .map(|(_, port)| port)
        };
        assert_eq!(router("http://broker.apps.test"), Some(8080));
        assert_eq!(router("http://apps.test:81"), Some(8080));
        assert_eq!(router("http://myapps.test"), None);
        assert_eq!(router("https://broker.apps.test"), None);
    }

    #[test]
    fn pauses_are_read_and_bounded() {
        let pause = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(pause(" 7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("999999999"), Some(LONGEST_PAUSE));
        assert_eq!(pause("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
