//! The connection of one drain to its peer: TCP, TLS, or requests of HTTP/1.1 over TLS.
//!
//! Every step is limited in time. A connection on which something failed is dropped; the messages that were not written whole stay with the
//! caller.

use crate::Router;
use crate::rfc5424::frame;
use crate::target::{Post, Target, Transport};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kit::reach::{ConnectError, Reach};
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// The longest time for a connection with its TLS, for one write, and for one request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest time for the farewell of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The largest answer that is read. The connection of a longer one is not used again.
const MOST_ANSWER: usize = 64 << 10;

/// The reason why messages were not delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the host cannot be resolved")]
    Unresolved,
    #[error("the operator permits no connection to its address")]
    Forbidden,
    #[error("{0}")]
    Connect(String),
    #[error("{0}")]
    Write(String),
    #[error("the server answered {0}")]
    Refused(StatusCode),
}

impl Failure {
    /// Returns the line for the log of the app.
    pub(crate) fn line(&self, shown: &str) -> String {
        match self {
            Self::Unresolved => {
                format!("Cannot resolve ip address for syslog drain with url {shown}")
            }
            Self::Forbidden => {
                format!("Resolved ip address for syslog drain with url {shown} is blacklisted")
            }
            Self::Connect(why) => format!("Failed to connect to {shown}: {why}"),
            Self::Write(why) => format!("Failed to write to {shown}: {why}"),
            Self::Refused(status) => {
                format!("Failed to write to {shown}: the server answered {status}")
            }
        }
    }
}

/// The peer of a drain, and how it is reached.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) target: Target,
    pub(crate) reach: Arc<Reach>,
    pub(crate) router: Option<Router>,
    pub(crate) tls: Arc<rustls::ClientConfig>,
}

impl Endpoint {
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.open()).await;
        connected.unwrap_or_else(|_| {
            let text = format!("no connection within {CONNECT_TIMEOUT:?}");
            Err(Failure::Connect(text))
        })
    }

    async fn open(&self) -> Result<Connection, Failure> {
        let stream = self.dial().await.map_err(|error| match error {
            ConnectError::Unresolved(_) => Failure::Unresolved,
            ConnectError::Forbidden(_) => Failure::Forbidden,
            ConnectError::Failed(error) => Failure::Connect(error.to_string()),
        })?;
        stream.set_nodelay(true).map_err(connecting)?;
        match &self.target.transport {
            Transport::Tcp => Ok(Connection::Stream(Box::new(stream))),
            Transport::Tls => Ok(Connection::Stream(Box::new(self.encrypt(stream).await?))),
            Transport::Https(post) => {
                let stream = TokioIo::new(self.encrypt(stream).await?);
                let handshake = http1::handshake(stream).await;
                let (requests, connection) = handshake.map_err(connecting)?;
                let driver = tokio::spawn(async move {
                    // The error is that of the request which it ended.
                    let _ = connection.await;
                });
                let post = post.clone();
                Ok(Connection::Http(Http {
                    requests,
                    driver,
                    post,
                }))
            }
        }
    }

    async fn dial(&self) -> Result<TcpStream, ConnectError> {
        let Target { host, port, .. } = &self.target;
        let router = self.router.as_ref().filter(|router| {
            matches!(self.target.transport, Transport::Https(_)) && router.serves(host)
        });
        match router {
            Some(router) => TcpStream::connect((router.host.as_str(), router.https_port))
                .await
                .map_err(ConnectError::Failed),
            None => self.reach.connect(host, *port).await,
        }
    }

    async fn encrypt(
        &self,
        stream: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
        let name = ServerName::try_from(self.target.host.clone()).map_err(connecting)?;
        let connector = TlsConnector::from(self.tls.clone());
        connector.connect(name, stream).await.map_err(connecting)
    }
}

fn connecting(error: impl std::fmt::Display) -> Failure {
    Failure::Connect(error.to_string())
}

fn writing(error: impl std::fmt::Display) -> Failure {
    Failure::Write(error.to_string())
}

/// A stream of bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection on which nothing has failed yet.
pub(crate) enum Connection {
    Stream(Box<dyn Stream>),
    Http(Http),
}

/// A connection of HTTP/1.1 with one request at a time.
pub(crate) struct Http {
    requests: http1::SendRequest<Full<Bytes>>,
    /// The task that reads and writes. It ends with the connection.
    driver: JoinHandle<()>,
    post: Post,
}

impl Drop for Http {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Returns when the peer has closed the connection, and the failure if it did not do so orderly. A server of TLS 1.3 refuses a client's
    /// certificate in this way, after the first messages. Bytes from the peer are discarded.
    pub(crate) async fn ended(&mut self) -> Option<Failure> {
        match self {
            Self::Stream(stream) => {
                let mut buffer = [0; 512];
                loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) => return None,
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
                        Err(error) => return Some(writing(error)),
                    }
                }
            }
            Self::Http(http) => {
                let _ = (&mut http.driver).await;
                None
            }
        }
    }

    /// Closes the connection orderly, so that a server of TLS knows that nothing is missing.
    pub(crate) async fn close(self) {
        if let Self::Stream(mut stream) = self {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
        }
    }

    /// Delivers messages in their order, and removes those that were delivered.
    pub(crate) async fn deliver(
        &mut self,
        messages: &mut VecDeque<Vec<u8>>,
    ) -> Result<(), Failure> {
        match self {
            Self::Stream(stream) => {
                let (bytes, ends) = framed(messages);
                let (written, result) = write(stream, &bytes).await;
                let delivered = ends.partition_point(|end| *end <= written);
                messages.drain(..delivered);
                result.map_err(writing)
            }
            Self::Http(http) if http.post.is_batch => {
                let body: Vec<u8> = messages.iter().flatten().copied().collect();
                http.submit(body).await?;
                messages.clear();
                Ok(())
            }
            Self::Http(http) => {
                while let Some(message) = messages.front() {
                    http.submit(message.clone()).await?;
                    messages.pop_front();
                }
                Ok(())
            }
        }
    }
}

/// Returns all messages with their lengths, and where each of them ends.
fn framed(messages: &VecDeque<Vec<u8>>) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(messages.len()));
    for message in messages {
        frame(message, &mut bytes);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// Writes until all is written or something fails. Returns how many bytes were written.
async fn write(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match in_time(stream.write(&bytes[written..])).await {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) => return (written, Err(error)),
        }
    }
    (written, in_time(stream.flush()).await)
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = tokio::time::timeout(WRITE_TIMEOUT, step).await;
    done.unwrap_or_else(|_| {
        let text = format!("the peer read nothing within {WRITE_TIMEOUT:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

impl Http {
    /// Sends a body as a request of its own.
    async fn submit(&mut self, body: Vec<u8>) -> Result<(), Failure> {
        let mut request = Request::post(&self.post.path_and_query)
            .header(header::HOST, &self.post.authority)
            .header(header::CONTENT_TYPE, "text/plain");
        if let Some(authorization) = &self.post.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(writing)?;
        let answered = tokio::time::timeout(REQUEST_TIMEOUT, self.send(request)).await;
        let status = answered.unwrap_or_else(|_| {
            let text = format!("no answer within {REQUEST_TIMEOUT:?}");
            Err(Failure::Write(text))
        })?;
        match status.is_success() {
            true => Ok(()),
            false => Err(Failure::Refused(status)),
        }
    }

    /// Sends a request, and reads the answer to its end.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<StatusCode, Failure> {
        self.requests.ready().await.map_err(writing)?;
        let answer = self.requests.send_request(request).await;
        let answer = answer.map_err(writing)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MOST_ANSWER)
            .collect()
            .await;
        if body.is_err() {
            // The connection cannot be used again, and the next request notices it.
            self.driver.abort();
        }
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    fn messages() -> VecDeque<Vec<u8>> {
        let long = "x".repeat(99) + "\n";
        let texts = ["one\n", "two\n", &long];
        texts.map(|text| text.as_bytes().to_vec()).into()
    }

    #[tokio::test]
    async fn what_was_not_written_whole_stays() {
        let (near, mut far) = duplex(10);
        let mut connection = Connection::Stream(Box::new(near));
        let mut waiting = messages();
        let read = async {
            let mut buffer = vec![0; 16];
            far.read_exact(&mut buffer).await.unwrap();
            drop(far);
            buffer
        };
        let (result, read) = tokio::join!(connection.deliver(&mut waiting), read);
        assert_eq!(read, b"4 one\n4 two\n100 ");
        assert!(matches!(result, Err(Failure::Write(_))), "{result:?}");
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].len(), 100);
    }

    #[tokio::test]
    async fn the_end_of_a_connection_is_noticed() {
        let (near, mut far) = duplex(1024);
        let mut connection = Connection::Stream(Box::new(near));
        let mut waiting = messages();
        connection.deliver(&mut waiting).await.unwrap();
        assert!(waiting.is_empty());
        far.write_all(b"noise").await.unwrap();
        let later = tokio::time::timeout(Duration::from_millis(20), connection.ended());
        assert!(later.await.is_err(), "the peer is still there");
        drop(far);
        let ended = tokio::time::timeout(Duration::from_secs(60), connection.ended());
        assert!(ended.await.unwrap().is_none(), "the end was orderly");
    }
}
