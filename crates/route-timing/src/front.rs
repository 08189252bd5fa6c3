//! A router, or the load balancer before the routers, as a client sees it: requests on one kept connection of HTTP/1.1.

use crate::judge::{Answer, MARK, Owner, Response};
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The longest wait for a connection or for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest body that an app may answer with, in bytes.
const LONGEST_BODY: usize = 1 << 20;
const AGENT: &str = "cupola-bench-propagation";

/// The address to which requests for routes are sent.
#[derive(Clone, Debug)]
pub struct Front {
    /// The host, which is a name or an IP address, and the port.
    address: String,
    tls: Option<Arc<ClientConfig>>,
    /// The path of the requests.
    path: String,
}

impl Front {
    /// Reads the address of a router: `host:port`, `http://host:port` or `https://host:port`. `verifies`: whether its certificate
    /// must be valid.
    pub fn new(router: &str, path: &str, verifies: bool) -> Result<Self> {
        let url = match router.contains("://") {
            true => router.to_owned(),
            false => format!("http://{router}"),
        };
        let url = reqwest::Url::parse(&url).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
        let port = url.as_ref().and_then(reqwest::Url::port_or_known_default);
        let host = url.as_ref().and_then(reqwest::Url::host_str);
        let (Some(host), Some(port), Some(url)) = (host, port, &url) else {
            bail!(
                "--router {router:?} is not the address of a router: use host:port, http://host:port or https://host:port"
            );
        };
        ensure!(
            path.starts_with('/') && !path.contains(char::is_whitespace),
            "--path {path:?} is not a path: use one that begins with /"
        );
        let tls = (url.scheme() == "https").then(|| {
            let trusting = match verifies {
                true => {
                    let mut trusted = kit::tls::Authorities::none();
                    trusted.add_system();
                    kit::tls::trusting(trusted)
                }
                false => kit::tls::trusting_any_certificate(),
            };
            Arc::new(trusting.with_no_client_auth())
        });
        Ok(Self {
            address: format!("{host}:{port}"),
            tls,
            path: path.to_owned(),
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    async fn stream(&self) -> Result<TcpStream> {
        let connecting = tokio::time::timeout(PATIENCE, TcpStream::connect(&self.address)).await;
        let connected = connecting.with_context(|| {
            format!(
                "connect to the router at {}: no answer within {} s",
                self.address,
                PATIENCE.as_secs()
            )
        })?;
        let stream = connected.with_context(|| {
            format!(
                "connect to the router at {}: name another address with --router",
                self.address
            )
        })?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        Ok(stream)
    }

    /// Returns the address of this machine from which the router is reached.
    pub(crate) async fn own_address(&self) -> Result<IpAddr> {
        let own = self.stream().await?.local_addr();
        Ok(own.context("read the own address of a connection")?.ip())
    }

    async fn connect(&self, host: &str) -> Result<SendRequest<Empty<Bytes>>> {
        let stream = self.stream().await?;
        let Some(tls) = &self.tls else {
            return serve(stream).await;
        };
        let name = ServerName::try_from(host.to_owned())
            .with_context(|| format!("{host:?} is not a name of a server"))?;
        let handshake = TlsConnector::from(tls.clone()).connect(name, stream);
        let stream = tokio::time::timeout(PATIENCE, handshake).await;
        let stream = stream.with_context(|| format!("TLS with {}: no answer", self.address))?;
        let stream = stream.with_context(|| {
            format!(
                "TLS with the router at {} for {host}: with --skip-ssl-validation any certificate is accepted",
                self.address
            )
        })?;
        serve(stream).await
    }
}

/// Begins HTTP on a stream. The runtime of the caller drives the connection.
async fn serve<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.context("begin HTTP with the router")?;
    tokio::spawn(async move {
        // The sender reports what ended the connection.
        let _ = connection.await;
    });
    Ok(sender)
}

/// A connection that is opened when it is needed.
#[derive(Debug)]
pub(crate) struct Connection {
    front: Front,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Connection {
    pub(crate) fn new(front: Front) -> Self {
        Self {
            front,
            sender: None,
        }
    }

    /// Requests a route and reads the answer.
    ///
    /// # Errors
    /// It fails if the router cannot be reached. Whatever the router does with the request is an answer.
    pub(crate) async fn ask(&mut self, host: &str, owner: &Owner) -> Result<Answer> {
        let kept = self.sender.take();
        // A router may close a kept connection at any time, and then the request is sent on a new one.
        if let Some(sender) = kept.filter(|sender| !sender.is_closed())
            && let Ok(answer) = self.exchange(sender, host, owner).await?
        {
            return Ok(answer);
        }
        let sender = self.front.connect(host).await?;
        let answer = self.exchange(sender, host, owner).await?;
        Ok(answer.unwrap_or_else(|error| Answer::Error(format!("no answer: {error}"))))
    }

    /// Sends a request. Returns the error of the connection if it ended before an answer began.
    async fn exchange(
        &mut self,
        mut sender: SendRequest<Empty<Bytes>>,
        host: &str,
        owner: &Owner,
    ) -> Result<Result<Answer, hyper::Error>> {
        let request = hyper::Request::get(&self.front.path)
            .header(HOST, host)
            .header(USER_AGENT, AGENT)
            .body(Empty::<Bytes>::new())
            .with_context(|| format!("make a request for {host}{}", self.front.path))?;
        let answering = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LONGEST_BODY).collect().await;
            Ok::<_, hyper::Error>((head, body))
        };
        let (head, body) = match tokio::time::timeout(PATIENCE, answering).await {
            Err(_) => {
                let none = format!("no answer within {} s", PATIENCE.as_secs());
                return Ok(Ok(Answer::Error(none)));
            }
            Ok(Err(error)) => return Ok(Err(error)),
            Ok(Ok(answer)) => answer,
        };
        let body = match body {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                let broken = format!("{} with a body that is not whole: {error}", head.status);
                return Ok(Ok(Answer::Error(broken)));
            }
        };
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let answer = owner.read(Response {
            status: head.status.as_u16(),
            router_error: text("x-cf-routererror"),
            mark: text(MARK),
            body: &body,
        });
        self.sender = Some(sender);
        Ok(Ok(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_is_named_by_its_address_or_a_url() {
        let address = |router: &str| {
            let front = Front::new(router, "/", true);
            front.map(|front| (front.address().to_owned(), front.tls.is_some()))
        };
        for (router, wanted, tls) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", false),
            ("http://router.test", "router.test:80", false),
            ("https://router.test", "router.test:443", true),
            ("[::1]:80", "[::1]:80", false),
        ] {
            assert_eq!(address(router).unwrap(), (wanted.to_owned(), tls));
        }
        for wrong in ["", "ftp://a", "a b", "http://"] {
            let error = address(wrong).unwrap_err().to_string();
            assert!(error.contains("use host:port"), "{wrong}: {error}");
        }
        let error = Front::new("a:1", "x", true).unwrap_err().to_string();
        assert!(error.contains("--path \"x\""), "{error}");
    }
}
