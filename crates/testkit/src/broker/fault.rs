//! The faults of a broker. Those that begin with `Act` do what was requested before they go wrong.

use super::text;
use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::stream::{self, Stream, StreamExt as _};
use serde_json::Value;
use std::io;
use std::time::Duration;

#[derive(Clone, Debug)]
pub enum Fault {
    /// It answers this and does nothing.
    Answer(u16, Value),
    /// It answers this text, which need not be JSON, and does nothing.
    Text(u16, String),
    /// It does what was requested, and answers this.
    ActAndAnswer(u16, Value),
    /// It does what was requested, and answers this text.
    ActAndText(u16, String),
    /// It never answers, and does nothing.
    Hang,
    /// It does what was requested, and never answers.
    ActAndHang,
    /// It sends a byte of a body every 100 ms, without an end.
    Drip,
    /// It does what was requested, and breaks the connection in the middle of the body.
    ActAndBreak,
    /// It sends so many bytes of JSON, and does nothing.
    Large(u16, usize),
    /// It does what was requested, and sends so many bytes of JSON.
    ActAndLarge(u16, usize),
    /// It redirects to this URL, and does nothing.
    Redirect(String),
    /// It does what was requested after this time.
    Slow(Duration),
    /// It works, and requests this pause in seconds before the next poll.
    RetryAfter(u32),
}

/// The number of bytes of a piece of a large body.
const PIECE: usize = 64 << 10;

fn large(bytes: usize) -> Body {
    let start = stream::once(async { Bytes::from_static(b"{\"x\":\"") });
    let piece = Bytes::from(vec![b'x'; PIECE]);
    let middle = stream::iter(std::iter::repeat_n(piece, bytes.div_ceil(PIECE)));
    let end = stream::once(async { Bytes::from_static(b"\"}") });
    Body::from_stream(start.chain(middle).chain(end).map(Ok::<Bytes, io::Error>))
}

fn drip() -> impl Stream<Item = Result<Bytes, io::Error>> {
    stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((Ok(Bytes::from_static(b" ")), ()))
    })
}

fn broken() -> impl Stream<Item = Result<Bytes, io::Error>> {
    let start = stream::once(async { Ok(Bytes::from_static(b"{\"dashboard_url\":")) });
    start.chain(stream::once(async { Err(io::Error::other("a fault")) }))
}

impl Fault {
    /// Answers a request with the fault. `act` does what was requested, and returns the right answer.
    pub(super) async fn answer(self, act: impl Fn() -> (u16, String)) -> Response {
        match self {
            Self::Answer(status, body) => text(status, body.to_string()),
            Self::Text(status, body) => text(status, body),
            Self::ActAndAnswer(status, body) => {
                act();
                text(status, body.to_string())
            }
            Self::ActAndText(status, body) => {
                act();
                text(status, body)
            }
            Self::Hang => std::future::pending().await,
            Self::ActAndHang => {
                act();
                std::future::pending().await
            }
            Self::Drip => text(200, Body::from_stream(drip())),
            Self::ActAndBreak => {
                act();
                text(201, Body::from_stream(broken()))
            }
            Self::Large(status, bytes) => text(status, large(bytes)),
            Self::ActAndLarge(status, bytes) => {
                act();
                text(status, large(bytes))
            }
            Self::Redirect(url) => {
                let mut answer = text(307, "{}");
                let url = url.parse().expect("tests redirect to valid URLs");
                answer.headers_mut().insert("location", url);
                answer
            }
            Self::Slow(time) => {
                tokio::time::sleep(time).await;
                let (status, body) = act();
                text(status, body)
            }
            Self::RetryAfter(seconds) => {
                let (status, body) = act();
                let mut answer = text(status, body);
                answer.headers_mut().insert("retry-after", seconds.into());
                answer
            }
        }
    }
}
