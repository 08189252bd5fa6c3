//! The two sides of an exchange, client and backend, whatever version of HTTP each speaks: a connection of HTTP/1 or a stream of
//! HTTP/2, which is read and written without holding a buffer while it waits.
//!
//! ```text
//!              poll_pump(client, backend)
//!   client  ──────────────────────────────▶  backend     a body is read, decoded, framed anew, written;
//!   (Side)  ◀──────────────────────────────  (Side)      the slower of the two sets the pace
//!              poll_pump(backend, client)
//! ```
//!
//! The router calls it from the task of a connection or of a stream, which is woken by sockets, by [`timer`] and by [`drain`]. No
//! code here decides where a request goes or what an error means, and none knows settings, routes or the router's threads. What
//! is legal in a message is decided by the cores `http1` and `http2`.
//!
//! | Module | Noun |
//! |---|---|
//! | [`stream`] | the bytes of a connection: TCP, or TLS over it |
//! | [`buffers`], [`heads`] | the memory of one thread for bodies and heads |
//! | `http1` | a connection of HTTP/1: [`Http1`] |
//! | `http2` | a stream of HTTP/2: [`Http2`] |
//! | [`checked`], [`gathered`] | what is between the library for HTTP/2 and the connection: checks of what it reads, fewer writes |
//! | `convert` | heads of HTTP/2 in the form of HTTP/1, and back |
//! | [`load`] | the load of a connection of HTTP/2 to a backend |
//! | [`drain`], [`timer`] | the end of all connections; the deadline of one |

pub mod buffers;
pub mod checked;
mod convert;
pub mod drain;
pub mod gathered;
pub mod heads;
mod http1;
mod http2;
pub mod load;
pub mod stream;
pub mod timer;

pub use crate::convert::{request_from_http2, request_to_http2};
pub use crate::http1::{Http1, ReceivedHead};
pub use crate::http2::Http2;

use crate::http2::AnswerHead;
use ::http1::{Framing, Limits, Refusal, Response, Version};
use h2::Reason;
use std::io;
use std::task::{Context, Poll, ready};

/// One side of an exchange.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub enum Side {
    Http1(Http1),
    Http2(Box<Http2>),
}

/// The reason why a body did not reach its end.
#[derive(Debug)]
pub enum Unfinished {
    /// The sender has gone, or its connection failed.
    SenderGone,
    /// The body is malformed.
    Malformed(Refusal),
    /// The receiver has gone, or does not accept the body.
    ReceiverGone,
}

/// The result of a wait for an answer's head.
#[derive(Debug)]
pub enum Answered {
    Informational,
    Final,
    /// The connection ended first; `clean`: before any byte of an answer.
    End {
        clean: bool,
    },
    Refused(Refusal),
    Failed(h2::Error),
}

impl Side {
    /// Marks the current place in the received body, to which `rewind` returns, because the body may be needed again.
    pub fn mark(&mut self) {
        match self {
            Self::Http1(side) => side.mark(),
            Self::Http2(side) => side.mark(),
        }
    }

    /// Forgets the mark: the body before the current place is not needed again.
    pub fn forget_mark(&mut self) {
        match self {
            Self::Http1(side) => side.forget_mark(),
            Self::Http2(side) => side.forget_mark(),
        }
    }

    /// Returns whether all bytes of its body that were passed on since the mark can be read again.
    pub fn may_rewind(&self) -> bool {
        match self {
            Self::Http1(side) => side.may_rewind(),
            Self::Http2(side) => side.may_rewind(),
        }
    }

    /// Returns to the mark. Returns false if the bytes since the mark are not there any more.
    pub fn rewind(&mut self) -> bool {
        match self {
            Self::Http1(side) => side.rewind(),
            Self::Http2(side) => side.rewind(),
        }
    }

    /// Returns whether the received body was read and passed on to its end.
    pub fn body_ended(&self) -> bool {
        match self {
            Self::Http1(side) => side.body_ended(),
            Self::Http2(side) => side.body_ended(),
        }
    }

    fn pour(&mut self, each: impl FnMut(&[u8])) -> Result<(), Refusal> {
        match self {
            Self::Http1(side) => side.pour(each),
            Self::Http2(side) => {
                side.pour(each);
                Ok(())
            }
        }
    }

    /// Reads as [`poll_pump`] does, for a caller that discards the body.
    pub fn skip(&mut self, each: impl FnMut(&[u8])) -> Result<(), Refusal> {
        self.pour(each)
    }

    /// Reads more of the received body, or its end, for a caller that discards it with `skip`.
    pub fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_body(cx)
    }

    /// Returns whether the rest of its body is certainly no longer than `most` bytes.
    pub fn body_is_within(&self, most: u64) -> bool {
        match self {
            Self::Http1(side) => side.body_is_within(most),
            // The unread rest of a stream does not block another request, because each stream is reset by itself.
            Self::Http2(_) => true,
        }
    }

    /// Reads bytes that would otherwise wait where they block others. (A connection of HTTP/1 carries only one exchange.)
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) {
        if let Self::Http2(side) = self {
            side.poll_read_ahead(cx);
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Http1(side) => side.poll_body(cx),
            Self::Http2(side) => side.poll_body(cx),
        }
    }

    /// Appends bytes to the body that is sent.
    pub fn push(&mut self, data: &[u8]) {
        match self {
            Self::Http1(side) => side.push(data),
            Self::Http2(side) => side.push(data),
        }
    }

    fn pass(&mut self, cx: &mut Context<'_>, data: &[u8]) {
        match self {
            Self::Http1(side) => side.pass(cx, data),
            Self::Http2(side) => side.push(data),
        }
    }

    /// Ends the body that is sent, without trailers.
    pub fn end_body(&mut self) {
        match self {
            Self::Http1(side) => side.end_body(None),
            Self::Http2(side) => side.end_body(None),
        }
    }

    /// Returns the number of bytes that wait until the other end accepts them.
    pub fn backlog(&self) -> usize {
        match self {
            Self::Http1(side) => side.backlog(),
            Self::Http2(side) => side.backlog(),
        }
    }

    /// Returns whether the body that is sent has gone to its end.
    pub(crate) fn is_finished(&self) -> bool {
        match self {
            Self::Http1(side) => side.is_finished(),
            Self::Http2(side) => side.is_finished(),
        }
    }

    /// Sends what waits. Ready when the other end has accepted all of it.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Http1(side) => side.poll_flush(cx),
            Self::Http2(side) => side.poll_flush(cx),
        }
    }

    /// Waits until the other end has gone.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(side) => side.poll_gone(cx),
            Self::Http2(side) => side.poll_gone(cx),
        }
    }

    /// Breaks off a body that has no proper end. (A connection of HTTP/1 is broken off by dropping it.)
    pub fn abort(&mut self) {
        if let Self::Http2(side) = self {
            side.reset(Reason::INTERNAL_ERROR);
        }
    }

    /// Waits for the next head of a backend's answer.
    pub fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Response,
        limits: &Limits,
        to_head: bool,
    ) -> Poll<io::Result<Answered>> {
        match self {
            Self::Http1(side) => {
                let head = ready!(side.poll_response(cx, response, limits, to_head))?;
                Poll::Ready(Ok(match head {
                    ReceivedHead::Whole if matches!(response.status, 100 | 102..=199) => {
                        Answered::Informational
                    }
                    ReceivedHead::Whole => Answered::Final,
                    ReceivedHead::End { clean } => Answered::End { clean },
                    ReceivedHead::Refused(refusal) => Answered::Refused(refusal),
                }))
            }
            Self::Http2(side) => Poll::Ready(Ok(match ready!(side.poll_answer(cx)) {
                Ok(AnswerHead::Informational(head)) => {
                    convert::response_from_http2(&head, response);
                    Answered::Informational
                }
                Ok(AnswerHead::Final(head)) if head.headers().len() > limits.fields => {
                    Answered::Refused(Refusal::TooManyFields)
                }
                Ok(AnswerHead::Final(head)) => {
                    convert::response_from_http2(&head, response);
                    response.framing = if to_head || side.body_ended() {
                        Framing::None
                    } else {
                        convert::length(response)
                    };
                    Answered::Final
                }
                Err(error) => Answered::Failed(error),
            })),
        }
    }

    /// Forwards a 1xx, if the client's version has such answers.
    pub fn send_informational(&mut self, response: &Response, version: Version) {
        match self {
            Self::Http1(side) if version == Version::Http11 => side.send_informational(response),
            Self::Http1(_) => {}
            Self::Http2(side) => {
                if let Some(head) = convert::response_to_http2(response) {
                    side.send_informational(head);
                }
            }
        }
    }

    /// Begins the answer to a client. `to`: the request's version, and whether it was a HEAD.
    pub fn send_response(
        &mut self,
        response: &mut Response,
        to: (Version, bool),
        keep_alive: &mut bool,
    ) {
        match self {
            Self::Http1(side) => side.send_response(response, to, keep_alive),
            Self::Http2(side) => {
                let ended = response.framing == Framing::None || to.1;
                match convert::response_to_http2(response) {
                    Some(head) => side.send_response(head, ended),
                    None => side.reset(Reason::INTERNAL_ERROR),
                }
            }
        }
    }

    /// Turns the side into plain bytes, after both sides have agreed to switch protocols.
    pub fn become_tunnel(&mut self) {
        match self {
            Self::Http1(side) => side.become_tunnel(),
            Self::Http2(side) => side.become_tunnel(),
        }
    }
}

/// Moves a body from one side to the other, to its end; `tap` sees all of it. It must be called again whenever the task is woken.
pub fn poll_pump(
    from: &mut Side,
    to: &mut Side,
    cx: &mut Context<'_>,
    mut tap: impl FnMut(&[u8]),
) -> Poll<Result<(), Unfinished>> {
    loop {
        from.pour(|data| {
            tap(data);
            to.pass(cx, data);
        })
        .map_err(Unfinished::Malformed)?;
        if from.body_ended() && !to.is_finished() {
            convert::end_body(from, to).map_err(Unfinished::Malformed)?;
        }
        let flushed = to.poll_flush(cx);
        if flushed.is_pending() {
            from.poll_read_ahead(cx);
        }
        ready!(flushed).map_err(|_| Unfinished::ReceiverGone)?;
        if to.is_finished() {
            return Poll::Ready(Ok(()));
        }
        ready!(from.poll_body(cx)).map_err(|_| Unfinished::SenderGone)?;
    }
}
