//! One side of an exchange that is a stream of HTTP/2: of a client's connection, or of ours to a backend.
//!
//! Flow control is passed on to the byte: received bytes are acknowledged when the other side has accepted them, and the library
//! gets no more bytes than the peer has room for. Bytes that arrive while the other side accepts none are kept here, as one
//! piece, because the library keeps each frame by itself and ends a connection on which too many small ones wait.

use crate::load::Share;
use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The largest number of bytes of a body that are kept in case they are needed again.
const REPLAY: usize = 16 << 10;

/// The side that is one stream of HTTP/2.
#[derive(Debug, Default)]
pub struct Http2 {
    /// The handle for the answer to a client, until the last head is sent.
    respond: Option<SendResponse<Bytes>>,
    /// The answer of a backend, until its head has arrived.
    awaited: Option<ResponseFuture>,
    incoming: Option<RecvStream>,
    outgoing: Option<SendStream<Bytes>>,
    /// The bytes that were received and not yet passed on.
    pending: Bytes,
    /// The bytes that were received after `pending`, while they could not be passed on. They never exceed a stream's window.
    stock: BytesMut,
    /// The share in the load of the connection, if this is a stream to a backend.
    share: Option<Share>,
    /// The number of bytes that were passed on and not yet acknowledged.
    unreleased: usize,
    trailers: Option<HeaderMap>,
    input_ended: bool,
    /// The bytes that were passed on since the mark; `None`: there were too many, or there is no mark.
    replay: Option<BytesMut>,
    output: BytesMut,
    /// The end of the body with its trailers; set when no more data will be pushed.
    ending: Option<Option<HeaderMap>>,
    output_ended: bool,
}

/// A head of a backend's answer.
#[derive(Debug)]
pub(crate) enum AnswerHead {
    Informational(Response<()>),
    Final(Response<()>),
}

impl Http2 {
    /// Creates the side of a client's stream.
    pub fn from_client(incoming: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self {
            input_ended: incoming.is_end_stream(),
            incoming: Some(incoming),
            respond: Some(respond),
            ..Self::default()
        }
    }

    /// Creates the side of a stream to a backend; `ended`: the request has no body.
    pub fn to_backend(
        awaited: ResponseFuture,
        outgoing: SendStream<Bytes>,
        ended: bool,
        share: Share,
    ) -> Self {
        Self {
            share: Some(share),
            awaited: Some(awaited),
            outgoing: Some(outgoing),
            output_ended: ended,
            ..Self::default()
        }
    }

    /// Waits for a backend's next head. After the last one its body can be read.
    pub(crate) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<AnswerHead, h2::Error>> {
        let Some(awaited) = &mut self.awaited else {
            return Poll::Pending;
        };
        if let Poll::Ready(Some(informational)) = awaited.poll_informational(cx) {
            return Poll::Ready(informational.map(AnswerHead::Informational));
        }
        let (parts, incoming) = ready!(Pin::new(awaited).poll(cx))?.into_parts();
        self.input_ended = incoming.is_end_stream();
        self.incoming = Some(incoming);
        self.awaited = None;
        Poll::Ready(Ok(AnswerHead::Final(Response::from_parts(parts, ()))))
    }

    pub(crate) fn send_informational(&mut self, head: Response<()>) {
        if let Some(respond) = &mut self.respond {
            // A client that has gone is noticed elsewhere.
            let _ = respond.send_informational(head);
        }
    }

    /// Answers a client; `ended`: there is no body.
    pub(crate) fn send_response(&mut self, head: Response<()>, ended: bool) {
        let Some(mut respond) = self.respond.take() else {
            return;
        };
        if let Ok(outgoing) = respond.send_response(head, ended) {
            self.outgoing = Some(outgoing);
        }
        self.output_ended = ended;
    }

    /// Resets the stream.
    pub(crate) fn reset(&mut self, reason: Reason) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.send_reset(reason);
        }
        if let Some(respond) = &mut self.respond {
            respond.send_reset(reason);
        }
    }

    pub(crate) fn mark(&mut self) {
        self.replay = Some(BytesMut::new());
    }

    pub(crate) fn forget_mark(&mut self) {
        self.replay = None;
    }

    pub(crate) fn may_rewind(&self) -> bool {
        self.replay.is_some()
    }

    pub(crate) fn rewind(&mut self) -> bool {
        let Some(mut replay) = self.replay.replace(BytesMut::new()) else {
            self.replay = None;
            return false;
        };
        if !replay.is_empty() {
            replay.extend_from_slice(&self.pending);
            self.pending = replay.freeze();
        }
        true
    }

    pub(crate) fn body_ended(&self) -> bool {
        self.input_ended && self.pending.is_empty() && self.stock.is_empty()
    }

    pub(crate) fn pour(&mut self, mut each: impl FnMut(&[u8])) {
        let data = std::mem::take(&mut self.pending);
        if data.is_empty() {
            return;
        }
        match &mut self.replay {
            Some(replay) if replay.len() + data.len() <= REPLAY => replay.extend_from_slice(&data),
            _ => self.replay = None,
        }
        each(&data);
    }

    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Pending;
        };
        if self.unreleased > 0 {
            let released = std::mem::take(&mut self.unreleased);
            let _ = incoming.flow_control().release_capacity(released);
        }
        if !self.stock.is_empty() {
            self.pending = std::mem::take(&mut self.stock).freeze();
            self.unreleased = self.pending.len();
            return Poll::Ready(Ok(()));
        }
        match ready!(incoming.poll_data(cx)) {
            Some(Ok(data)) => {
                self.unreleased = data.len();
                self.pending = data;
                self.input_ended = incoming.is_end_stream();
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) => Poll::Ready(Err(broken(error))),
            None => {
                self.trailers = ready!(incoming.poll_trailers(cx)).map_err(broken)?;
                self.input_ended = true;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Reads what has arrived while it cannot be passed on.
    pub(crate) fn poll_read_ahead(&mut self, cx: &mut Context<'_>) {
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        // The end of the body, or an error, shows again when the body is read.
        while !self.input_ended
            && let Poll::Ready(Some(Ok(data))) = incoming.poll_data(cx)
        {
            self.stock.extend_from_slice(&data);
            self.input_ended = incoming.is_end_stream();
        }
    }

    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Waits until the peer has reset the stream.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match (&mut self.respond, &mut self.outgoing) {
            (Some(respond), _) => respond.poll_reset(cx),
            (None, Some(outgoing)) => outgoing.poll_reset(cx),
            (None, None) => return Poll::Pending,
        };
        reset.map(|_| ())
    }

    pub(crate) fn push(&mut self, data: &[u8]) {
        if !self.output_ended {
            self.output.extend_from_slice(data);
        }
    }

    pub(crate) fn end_body(&mut self, trailers: Option<HeaderMap>) {
        if !self.output_ended && self.ending.is_none() {
            self.ending = Some(trailers);
        }
    }

    /// Returns the number of bytes that wait for the peer.
    pub(crate) fn backlog(&self) -> usize {
        self.output.len()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.output_ended && self.output.is_empty()
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(outgoing) = &mut self.outgoing else {
            return if self.respond.is_none() && !self.output_ended {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            } else {
                Poll::Ready(Ok(()))
            };
        };
        while !self.output.is_empty() {
            outgoing.reserve_capacity(self.output.len());
            let mut capacity = outgoing.capacity();
            while capacity == 0 {
                let more = outgoing.poll_capacity(cx);
                if let Some(share) = &mut self.share {
                    share.waits(more.is_pending());
                }
                capacity = match ready!(more) {
                    Some(capacity) => capacity.map_err(broken)?,
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                };
            }
            let part = self.output.split_to(capacity.min(self.output.len()));
            let last = self.output.is_empty() && matches!(self.ending, Some(None));
            outgoing.send_data(part.freeze(), last).map_err(broken)?;
            self.output_ended = last;
        }
        if !self.output_ended
            && let Some(trailers) = self.ending.take()
        {
            match trailers {
                Some(trailers) => outgoing.send_trailers(trailers).map_err(broken)?,
                None => outgoing.send_data(Bytes::new(), true).map_err(broken)?,
            }
            self.output_ended = true;
        }
        if self.output.capacity() > 0 {
            self.output = BytesMut::new();
        }
        if self.output_ended
            && let Some(share) = &mut self.share
        {
            share.uploaded();
        }
        Poll::Ready(Ok(()))
    }

    /// Turns the stream into plain bytes, after a 2xx to an extended CONNECT.
    pub(crate) fn become_tunnel(&mut self) {
        self.output_ended = false;
        self.replay = None;
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
