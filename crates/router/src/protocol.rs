//! What a request must be to go on: a known version, a framing that leaves no doubt, an upgrade that may be.

use crate::body::RequestBody;
use crate::rejection::Rejection;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An upgrade that the client asked for.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) token: HeaderValue,
    pub(crate) client: OnUpgrade,
}

pub(crate) fn check(
    request: &Request<Incoming>,
    watch: Option<&HeadWatch>,
) -> Result<(), Rejection> {
    if !matches!(
        request.version(),
        Version::HTTP_10 | Version::HTTP_11 | Version::HTTP_2
    ) {
        return Err(Rejection::BadRequest("unsupported HTTP version"));
    }
    if request.method() == Method::CONNECT {
        return Err(Rejection::BadRequest("CONNECT is not for a reverse proxy"));
    }
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err(Rejection::BadRequest("more than one Host header"));
    }
    let chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let ambiguous = watch.is_some_and(|watch| watch.head_seen(chunked));
    if ambiguous {
        return Err(Rejection::BadRequest(
            "both Content-Length and Transfer-Encoding",
        ));
    }
    Ok(())
}

/// The upgrade that the request asks for by `Connection: upgrade` and any `Upgrade` token.
pub(crate) fn upgrade(request: &mut Request<Incoming>) -> Option<Upgrade> {
    if request.version() != Version::HTTP_11 || !lists(request.headers(), "upgrade") {
        return None;
    }
    let token = request.headers().get(UPGRADE)?.clone();
    Some(Upgrade {
        token,
        client: hyper::upgrade::on(request),
    })
}

fn lists(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Towards a backend every request has a path, a `Host` and an explicit framing; path and query stay as they came.
pub(crate) fn origin_form(parts: &mut Parts, body: &RequestBody) {
    if !parts.headers.contains_key(HOST)
        && let Some(host) = parts
            .uri
            .authority()
            .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    {
        parts.headers.insert(HOST, host);
    }
    if parts.uri.authority().is_some() || parts.uri.scheme().is_some() {
        let path = parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
    }
    if !body.is_end_stream() && !parts.headers.contains_key(CONTENT_LENGTH) {
        parts
            .headers
            .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    parts.version = Version::HTTP_11;
}

/// Keeps the head of the current request as it came, for the one thing that the HTTP library does not tell: whether a
/// chunked request also had a `Content-Length`. Such a request is how smuggling begins. (The library ignores the length
/// and closes the connection afterwards, so what this misses, a head pipelined behind another request, is harmless.)
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadWatch(Arc<Mutex<Head>>);

#[derive(Debug, Default)]
struct Head {
    bytes: Vec<u8>,
    /// What comes now is body, or too long: nothing is kept.
    closed: bool,
}

/// Heads longer than this are not watched.
const LONGEST: usize = 64 << 10;

impl HeadWatch {
    pub(crate) fn around<S>(&self, stream: S) -> Watched<S> {
        Watched {
            stream,
            watch: self.clone(),
        }
    }

    /// A request was parsed: forget its head; true when it was framed in two ways.
    fn head_seen(&self, chunked: bool) -> bool {
        let mut head = self.lock();
        let ambiguous = chunked && has_content_length(&head.bytes);
        head.bytes.clear();
        head.closed = true;
        ambiguous
    }

    /// The request's body is read to its end: what comes now is the next head.
    pub(crate) fn body_read(&self) {
        self.lock().closed = false;
    }

    fn read(&self, new: &[u8]) {
        let mut head = self.lock();
        if !head.closed {
            head.bytes.extend_from_slice(&new[..new.len().min(LONGEST)]);
            head.closed = head.bytes.len() >= LONGEST;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Head> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_content_length(head: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .skip_while(|line| line.is_empty() || *line == b"\r")
        .skip(1);
    lines
        .by_ref()
        .take_while(|line| !line.is_empty() && *line != b"\r")
        .any(|line| line.len() >= NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))
}

/// A stream whose incoming bytes a [`HeadWatch`] sees.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    watch: HeadWatch,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() && buf.filled().len() > before {
            self.watch.read(&buf.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_framed_twice_is_seen_across_reads() {
        let watch = HeadWatch::default();
        for piece in [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-",
            "Length: 3\r\nTransfer-Encoding: chunked\r\n\r",
            "\n0\r\n\r\n",
        ] {
            watch.read(piece.as_bytes());
        }
        assert!(watch.head_seen(true));
        watch.read(b"a body that says\r\nContent-Length: 3\r\n");
        watch.body_read();
        watch.read(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\ncontent-length: 3");
        assert!(!watch.head_seen(true));
    }
}
