//! One side of an exchange that speaks HTTP/1: a connection, the body that it receives, and the body that it sends.

use crate::buffers::{Buffers, Input};
use crate::stream::Stream;
use http1::chunked::{self, Decoder, Sender};
use http1::{Fields, Framing, Known, Limits, Refusal, Request, Response, Version};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite as _;

/// The size in bytes from which a piece is worth a system call of its own.
const LARGE: usize = 4 << 10;

/// The state of a body that is received.
#[derive(Clone, Debug, Default)]
enum Reading {
    /// There is no body, or its end was read.
    #[default]
    Ended,
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

/// The state of a body that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writing {
    /// There is no body, or its end was written.
    #[default]
    Ended,
    Length(u64),
    Chunked,
    /// The body is sent as it comes; the end of the connection is its end.
    UntilClose,
}

/// The side that is a connection of HTTP/1.
#[derive(Debug)]
pub struct Http1 {
    buffers: Arc<Buffers>,
    stream: Stream,
    input: Input,
    output: Vec<u8>,
    /// The number of output bytes that are written.
    written: usize,
    reading: Reading,
    writing: Writing,
    /// The state of `reading` at the input's mark.
    marked: Reading,
    /// The number of input bytes that were searched for the end of a head.
    seen: usize,
    /// Whether TLS has accepted bytes that the socket may not have yet.
    unflushed: bool,
    /// An error of writing, which the next flush returns.
    failed: Option<io::Error>,
    shut: bool,
    /// Whether heads have the names of their fields in canonical spelling.
    canonical: bool,
    lingered: u64,
}

/// The result of a wait for a head.
#[derive(Debug)]
pub enum ReceivedHead {
    Whole,
    /// The other side has ended; `clean`: before the first byte of a head.
    End {
        clean: bool,
    },
    Refused(Refusal),
}

impl Http1 {
    /// Creates the side of a connection. `canonical`: whether the heads that it sends have the names of their fields in canonical
    /// spelling.
    pub fn new(buffers: Arc<Buffers>, stream: Stream, canonical: bool) -> Self {
        Self {
            buffers,
            stream,
            input: Input::default(),
            output: Vec::new(),
            written: 0,
            reading: Reading::Ended,
            writing: Writing::Ended,
            marked: Reading::Ended,
            seen: 0,
            unflushed: false,
            failed: None,
            shut: false,
            canonical,
            lingered: 0,
        }
    }

    /// Returns whether nothing is left of the last exchange, so that the connection can wait for another.
    pub fn is_done(&mut self) -> bool {
        self.forget_mark();
        self.body_ended()
            && self.writing == Writing::Ended
            && self.output.is_empty()
            && self.input.is_empty()
    }

    /// Returns the router's own address on the connection.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.local_addr()
    }

    /// Returns whether the other side of an idle connection is silent and present, as far as the last look at the socket shows.
    pub fn is_quiet(&mut self) -> bool {
        self.stream.is_quiet(self.input.is_drained())
    }

    /// Returns whether some bytes of a head have arrived.
    pub fn has_begun(&self) -> bool {
        !self.input.is_empty()
    }

    /// Waits for the head of the next request.
    pub fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request,
        limits: &Limits,
    ) -> Poll<io::Result<ReceivedHead>> {
        loop {
            // One client in a thousand ends a body with a superfluous line.
            while self.input.data().starts_with(b"\r\n") {
                self.input.consume(2);
            }
            if self.head_may_be_whole(limits.bytes) {
                match request.parse(self.input.data(), limits) {
                    Ok(Some(size)) => {
                        self.begin_reading(size, request.framing, Sender::Client);
                        return Poll::Ready(Ok(ReceivedHead::Whole));
                    }
                    Ok(None) => self.seen = self.input.data().len(),
                    Err(refusal) => return Poll::Ready(Ok(ReceivedHead::Refused(refusal))),
                }
            }
            let clean = self.input.is_empty();
            if ready!(self.poll_fill(cx, limits.bytes))? == 0 {
                return Poll::Ready(Ok(ReceivedHead::End { clean }));
            }
        }
    }

    pub(crate) fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Response,
        limits: &Limits,
        to_head: bool,
    ) -> Poll<io::Result<ReceivedHead>> {
        loop {
            if self.head_may_be_whole(limits.bytes) {
                match response.parse(self.input.data(), limits, to_head) {
                    Ok(Some(size)) => {
                        self.begin_reading(size, response.framing, Sender::Server);
                        return Poll::Ready(Ok(ReceivedHead::Whole));
                    }
                    Ok(None) => self.seen = self.input.data().len(),
                    Err(refusal) => return Poll::Ready(Ok(ReceivedHead::Refused(refusal))),
                }
            }
            let clean = self.input.is_empty();
            if ready!(self.poll_fill(cx, limits.bytes))? == 0 {
                return Poll::Ready(Ok(ReceivedHead::End { clean }));
            }
        }
    }

    /// Returns whether it is worth parsing the head: not after each byte of a slow client, but once it is complete or longer than
    /// `most`.
    fn head_may_be_whole(&self, most: usize) -> bool {
        let data = self.input.data();
        !matches!(data, b"" | b"\r")
            && (self.seen == 0 || data.len() >= most || http1::head_ends(data, self.seen))
    }

    fn begin_reading(&mut self, head: usize, framing: Framing, sender: Sender) {
        self.seen = 0;
        self.input.consume(head);
        self.input.release(&self.buffers);
        self.reading = match framing {
            Framing::None => Reading::Ended,
            Framing::Length(length) => Reading::Length(length),
            Framing::Chunked => Reading::Chunked(Decoder::of(sender)),
            Framing::UntilClose => Reading::UntilClose,
        };
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        self.input
            .poll_fill(cx, &mut self.stream, &self.buffers, most)
    }

    // The body that is received.

    /// Keeps the body from here on, because it may be needed again: it goes to a backend that may fail.
    pub(crate) fn mark(&mut self) {
        self.input.mark();
        self.marked = self.reading.clone();
    }

    /// Forgets the mark.
    pub fn forget_mark(&mut self) {
        self.input.forget_mark();
        self.input.release(&self.buffers);
    }

    /// Returns whether the body since the mark is still complete.
    pub(crate) fn may_rewind(&self) -> bool {
        self.input.may_rewind()
    }

    pub(crate) fn rewind(&mut self) -> bool {
        let rewound = self.input.rewind();
        if rewound {
            self.reading = self.marked.clone();
        }
        rewound
    }

    /// Returns whether the received body was read and passed on to its end.
    pub fn body_ended(&self) -> bool {
        match &self.reading {
            Reading::Ended => true,
            Reading::Chunked(decoder) => decoder.ended(),
            Reading::Length(left) => *left == 0,
            Reading::UntilClose => false,
        }
    }

    /// Returns whether the rest of the body is known to be no longer than that.
    pub(crate) fn body_is_within(&self, most: u64) -> bool {
        match &self.reading {
            Reading::Ended => true,
            Reading::Length(left) => *left <= most,
            Reading::Chunked(decoder) => decoder.ended(),
            Reading::UntilClose => false,
        }
    }

    /// Passes on the part of the body that was read already.
    pub(crate) fn pour(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), Refusal> {
        if self.input.is_empty() {
            return Ok(());
        }
        match &mut self.reading {
            Reading::Ended => return Ok(()),
            Reading::Length(left) => {
                let data = self.input.data();
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                if take > 0 {
                    each(&data[..take]);
                }
                *left -= take as u64;
                self.input.consume(take);
            }
            Reading::Chunked(decoder) => {
                while !self.input.is_empty() && !decoder.ended() {
                    let data = self.input.data();
                    let step = decoder.decode(data)?;
                    if step.data > 0 {
                        each(&data[step.consumed - step.data..step.consumed]);
                    }
                    self.input.consume(step.consumed);
                }
            }
            Reading::UntilClose => {
                let data = self.input.data();
                each(data);
                let all = data.len();
                self.input.consume(all);
            }
        }
        self.input.release(&self.buffers);
        Ok(())
    }

    /// Reads more of the body, or its end.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if ready!(self.poll_fill(cx, 0))? == 0 {
            if !matches!(self.reading, Reading::UntilClose) {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.reading = Reading::Ended;
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn take_trailers(&mut self) -> Result<Option<Fields>, Refusal> {
        let Reading::Chunked(decoder) = &mut self.reading else {
            return Ok(None);
        };
        let trailers = decoder.take_trailers()?;
        Ok(Some(trailers).filter(|trailers| !trailers.is_empty()))
    }

    /// Waits until the other side has gone, while no bytes are expected of it. Bytes that it sends ahead are kept.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.input.is_empty() {
            return Poll::Pending;
        }
        match self.poll_fill(cx, 0) {
            Poll::Ready(Ok(1..)) | Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(()),
        }
    }

    // The output.

    /// Writes a request's head to a backend.
    pub fn send_request(&mut self, request: &Request) {
        self.take_output();
        request.write_to(&mut self.output, self.canonical);
        self.writing = match request.framing {
            Framing::None => Writing::Ended,
            Framing::Length(length) => Writing::Length(length),
            Framing::Chunked | Framing::UntilClose => Writing::Chunked,
        };
    }

    /// Writes an answer's head. `to`: the request's version, and whether the method is HEAD. `keep_alive` becomes false if the
    /// body ends with the connection.
    pub(crate) fn send_response(
        &mut self,
        response: &mut Response,
        to: (Version, bool),
        keep_alive: &mut bool,
    ) {
        let (version, to_head) = to;
        self.writing = match response.framing {
            _ if to_head || matches!(response.status, 204 | 304) => Writing::Ended,
            Framing::None => {
                if !response.fields.contains(Known::ContentLength) {
                    response.fields.append(Known::ContentLength, b"0");
                }
                Writing::Ended
            }
            Framing::Length(length) => Writing::Length(length),
            Framing::Chunked | Framing::UntilClose if version == Version::Http11 => {
                Writing::Chunked
            }
            Framing::Chunked | Framing::UntilClose => {
                *keep_alive = false;
                Writing::UntilClose
            }
        };
        self.take_output();
        response.write_to(&mut self.output, version, self.canonical);
        if self.writing == Writing::Chunked {
            self.output
                .extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if !*keep_alive {
            self.output.extend_from_slice(b"Connection: close\r\n");
        } else if version == Version::Http10 {
            self.output.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        self.output.extend_from_slice(b"\r\n");
    }

    /// Writes a head that is not the last: 1xx.
    pub fn send_informational(&mut self, response: &Response) {
        self.take_output();
        response.write_to(&mut self.output, Version::Http11, self.canonical);
        self.output.extend_from_slice(b"\r\n");
    }

    /// Writes bytes that already are a whole message.
    pub fn write_message(&mut self, bytes: &[u8]) {
        self.take_output();
        self.output.extend_from_slice(bytes);
    }

    fn take_output(&mut self) {
        if self.output.capacity() == 0 {
            self.output = self.buffers.output();
        }
    }

    pub(crate) fn push(&mut self, data: &[u8]) {
        self.take_output();
        match &mut self.writing {
            Writing::Ended => {}
            Writing::Length(left) => {
                // The other side's length is the same, and was counted there.
                *left = left.saturating_sub(data.len() as u64);
                self.output.extend_from_slice(data);
            }
            Writing::Chunked => chunked::write_chunk(&mut self.output, data),
            Writing::UntilClose => self.output.extend_from_slice(data),
        }
    }

    /// Pushes data with as little copying as possible: large pieces go to the socket as they are, as far as it accepts them.
    pub(crate) fn pass(&mut self, cx: &mut Context<'_>, data: &[u8]) {
        let bare = matches!(self.writing, Writing::Length(_) | Writing::UntilClose);
        if !bare || data.len() < LARGE || !self.output.is_empty() || self.failed.is_some() {
            return self.push(data);
        }
        let taken = match Pin::new(&mut self.stream).poll_write(cx, data) {
            Poll::Ready(Ok(taken)) => taken,
            Poll::Ready(Err(error)) => {
                self.failed = Some(error);
                return;
            }
            Poll::Pending => 0,
        };
        self.unflushed = self.stream.is_tls();
        if let Writing::Length(left) = &mut self.writing {
            *left = left.saturating_sub(taken as u64);
        }
        if taken < data.len() {
            self.push(&data[taken..]);
        }
    }

    pub(crate) fn end_body(&mut self, trailers: Option<&Fields>) {
        if self.writing == Writing::Chunked {
            self.take_output();
            chunked::write_end(&mut self.output, trailers);
        }
        if self.writing != Writing::UntilClose {
            self.writing = Writing::Ended;
        } else {
            self.shut = true;
        }
    }

    /// Returns the number of bytes that wait for the peer.
    pub(crate) fn backlog(&self) -> usize {
        self.output.len() - self.written
    }

    /// Returns whether everything is written, including the end of the body.
    pub(crate) fn is_finished(&self) -> bool {
        (self.writing == Writing::Ended || self.shut) && self.output.is_empty()
    }

    /// Sends what waits. Ready when the socket has accepted all of it.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        while self.written < self.output.len() {
            let rest = &self.output[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
            self.unflushed = self.stream.is_tls();
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        if self.output.capacity() > 0 {
            let output = std::mem::take(&mut self.output);
            self.buffers.give_output(output);
            self.written = 0;
        }
        if self.shut && self.writing == Writing::UntilClose {
            // A half-close fails if the connection has gone; reading shows that as well.
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.writing = Writing::Ended;
        }
        Poll::Ready(Ok(()))
    }

    /// Turns both directions into plain bytes.
    pub(crate) fn become_tunnel(&mut self) {
        self.reading = Reading::UntilClose;
        self.writing = Writing::UntilClose;
        self.input.forget_mark();
    }

    /// Ends the connection after the last answer. Closes this side's half, then reads and discards what the client still sends,
    /// up to `most` bytes. If both halves closed at once, the kernel would reset the connection, and a client that is still
    /// sending would lose the answer. Ready when the client has ended, or nothing more is to be read.
    pub fn poll_linger(&mut self, cx: &mut Context<'_>, most: u64) -> Poll<()> {
        if !self.shut {
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
            self.shut = true;
        }
        self.input.forget_mark();
        loop {
            let unread = self.input.data().len();
            self.lingered += unread as u64;
            self.input.consume(unread);
            if self.lingered > most {
                return Poll::Ready(());
            }
            match ready!(self.poll_fill(cx, 0)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }

    /// Returns the number of bytes that [`poll_linger`](Self::poll_linger) has read.
    pub fn lingered(&self) -> u64 {
        self.lingered
    }

    /// Discards the rest of an unused body, up to `most` bytes. Returns false if more is left, or if reading failed.
    pub async fn skip_body(&mut self, most: u64) -> bool {
        let mut skipped = 0;
        self.input.forget_mark();
        loop {
            if self.pour(|data| skipped += data.len() as u64).is_err() || skipped > most {
                return false;
            }
            if self.body_ended() {
                return true;
            }
            if matches!(self.reading, Reading::Length(left) if left > most) {
                return false;
            }
            if std::future::poll_fn(|cx| self.poll_body(cx)).await.is_err() {
                return false;
            }
        }
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        self.input.abandon(&self.buffers);
        if self.output.capacity() > 0 {
            let output = std::mem::take(&mut self.output);
            self.buffers.give_output(output);
        }
    }
}
