//! A client that adds nothing of its own: one connection per request.

use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn router_error(&self) -> &str {
        self.header("x-cf-routererror")
    }
}

pub(crate) async fn request(
    addr: SocketAddr,
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<bytes::Bytes>,
) -> Reply {
    let stream = TcpStream::connect(addr).await.unwrap();
    exchange(stream, method, host, path, headers, body)
        .await
        .unwrap()
}

/// Sends one request on an open connection.
pub(crate) async fn exchange<S>(
    stream: S,
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<bytes::Bytes>,
) -> hyper::Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, body) = sender
        .send_request(request.body(Full::new(body.into())).unwrap())
        .await?
        .into_parts();
    let body = body.collect().await?;
    connection.abort();
    Ok(Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        trailers: body.trailers().cloned(),
        body: body.to_bytes().to_vec(),
    })
}

/// Sends bytes and reads until the other side closes (or `until` appears).
pub(crate) async fn raw(addr: SocketAddr, bytes: &str, until: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = tokio::time::timeout(crate::world::PATIENCE, stream.read(&mut buffer))
            .await
            .expect("an answer")
            .unwrap_or(0);
        seen.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        if n == 0 || (!until.is_empty() && text.contains(until)) {
            return text;
        }
    }
}
