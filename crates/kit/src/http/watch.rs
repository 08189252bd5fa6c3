//! Observes what happens on a connection, and measures for how long nothing has happened.

use super::Limits;
use axum::body::HttpBody;
use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::body::{Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The way in which an overdue connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// No request is in flight on it.
    Gracefully,
    /// Its client does not continue.
    Close,
}

/// The activity of a connection. Its stream, its requests and its watchdog share it.
#[derive(Debug)]
pub(super) struct Activity {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The number of requests whose responses are not sent yet.
    in_flight: usize,
    /// Whether the connection is HTTP/1: then the bytes after a response are the next request's head.
    one_at_a_time: bool,
    bytes_seen: bool,
    idle_since: Instant,
    /// The time at which the first byte of a head came.
    head_since: Option<Instant>,
    body_wanted_since: Option<Instant>,
    write_blocked_since: Option<Instant>,
    /// Whether the client may still be sending when we close the connection.
    linger: bool,
}

impl Activity {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: Mutex::new(State {
                in_flight: 0,
                one_at_a_time: true,
                bytes_seen: false,
                idle_since: Instant::now(),
                head_since: None,
                body_wanted_since: None,
                write_blocked_since: None,
                linger: false,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request, whose head has been read.
    pub(super) fn begin(self: &Arc<Self>, one_at_a_time: bool) -> Guard {
        let mut state = self.state();
        state.in_flight += 1;
        state.one_at_a_time = one_at_a_time;
        state.head_since = None;
        Guard(self.clone())
    }

    /// Records that a handler waits for more of a body, or that it no longer does.
    pub(super) fn body_wanted(&self, wanted: bool) {
        let mut state = self.state();
        state.body_wanted_since = match wanted {
            true => state.body_wanted_since.or_else(|| Some(Instant::now())),
            false => None,
        };
    }

    /// Makes the stream linger when it is closed, because the response came before the request was read.
    pub(super) fn linger(&self) {
        self.state().linger = true;
    }

    /// Returns when the connection has exceeded one of its time limits.
    pub(super) async fn overdue(&self) -> End {
        // The deadline of a head may begin at any time, so the check is periodic.
        let tick = self
            .limits
            .head
            .min(self.limits.idle)
            .min(self.limits.stall)
            / 4;
        loop {
            tokio::time::sleep(tick).await;
            if let Some(end) = self.state().overdue(&self.limits, Instant::now()) {
                return end;
            }
        }
    }

    fn bytes_came(&self, bytes: &[u8]) {
        let mut state = self.state();
        if !state.bytes_seen {
            state.bytes_seen = true;
            // Between requests HTTP/2 sends pings and settings, so only the idle limit counts.
            state.one_at_a_time = !bytes.starts_with(b"PRI * HTTP/2.0");
        }
        if state.in_flight == 0 && state.one_at_a_time {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    fn wrote(&self, blocked: bool) {
        let mut state = self.state();
        state.write_blocked_since = match blocked {
            true => state.write_blocked_since.or_else(|| Some(Instant::now())),
            false => None,
        };
    }

    /// Returns whether the client may have sent bytes that are unread when we close the connection.
    fn lingers(&self) -> bool {
        let state = self.state();
        state.linger || state.head_since.is_some()
    }
}

impl State {
    fn overdue(&self, limits: &Limits, now: Instant) -> Option<End> {
        let longer = |since: Option<Instant>, limit| since.is_some_and(|at| now - at > limit);
        if longer(self.write_blocked_since, limits.stall)
            || longer(self.body_wanted_since, limits.stall)
        {
            return Some(End::Close);
        }
        if self.in_flight > 0 {
            return None;
        }
        if longer(self.head_since, limits.head) {
            return Some(End::Close);
        }
        longer(Some(self.idle_since), limits.idle).then_some(End::Gracefully)
    }
}

/// A guard that counts a request in flight.
#[derive(Debug)]
pub(super) struct Guard(Arc<Activity>);

impl Guard {
    /// Keeps the request in flight until its response is sent, or abandoned.
    pub(super) fn until_sent<B>(self, response: Response<B>) -> Response<InFlight<B>> {
        // A connection that changed its protocol is no longer watched, so this request never ends.
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if upgraded {
            self.0.state().in_flight += 1;
        }
        response.map(|body| InFlight { body, _guard: self })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.idle_since = Instant::now();
    }
}

/// The body of a response. Its request is in flight until the body is dropped.
#[derive(Debug)]
pub(super) struct InFlight<B> {
    body: B,
    _guard: Guard,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for InFlight<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that reports what is read and written. It lingers when it is closed while its client still sends: closing it with
/// unread bytes would reset the connection, and the client might never read our response.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    lingering: Option<Lingering>,
}

#[derive(Debug)]
struct Lingering {
    end: Pin<Box<Sleep>>,
    room: usize,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            lingering: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let came = &buffer.filled()[before..];
        if !came.is_empty() {
            self.activity.bytes_came(came);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if !this.activity.lingers() {
                return Poll::Ready(Ok(()));
            }
        }
        let limits = this.activity.limits;
        let lingering = this.lingering.get_or_insert_with(|| Lingering {
            end: Box::pin(tokio::time::sleep(limits.linger_time)),
            room: limits.linger_bytes,
        });
        let mut storage = [0; 16 << 10];
        loop {
            if lingering.end.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut storage);
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer));
            let came = buffer.filled().len();
            match lingering.room.checked_sub(came) {
                Some(room) if read.is_ok() && came > 0 => lingering.room = room,
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
