//! The bytes of a client or of a backend on their way to the library that speaks HTTP/2, which [`::http2::Check`] inspects; and
//! the bytes that the library writes, in which [`::http2::Written`] counts the streams that it breaks off.

use crate::gathered::Gathered;
use ::http2::written::Resets;
use ::http2::{Budget, Check, ConnectionError, Sender, Written};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The number of small frames after which reading pauses, so that the tasks that consume them can run.
const MOST_SMALL: u32 = 256;

/// A connection of HTTP/2 whose peer's bytes are checked before the library reads them.
#[derive(Debug)]
pub struct Checked {
    stream: Gathered,
    check: Check,
    /// The number of the check's own bytes that were passed on.
    passed: usize,
    /// The place that stores a client's connection error for the task that sends it. `None`: the peer is a backend, and the library
    /// gets its error from a read.
    error: Option<ErrorSeen>,
    written: Written,
    sent: ResetsSent,
    /// The budget of a client.
    budget: Budget,
    begun: Instant,
    /// Whether the budget is used up.
    exhausted: bool,
    /// Whether reading waits until the latest streams were accepted: the library keeps streams that were opened and broken off
    /// again, and each small frame.
    pause: bool,
    /// The small frames since the last pause.
    small: u32,
}

/// The number of a connection's streams that the router has broken off.
#[derive(Clone, Debug, Default)]
pub struct ResetsSent(Arc<AtomicU32>);

impl ResetsSent {
    /// Returns the number so far.
    pub fn sent(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connection error that ends the reading of a connection, which its client is to be sent.
#[derive(Clone, Debug, Default)]
pub struct ErrorSeen(Arc<OnceLock<ConnectionError>>);

impl ErrorSeen {
    /// Returns the error, once there is one.
    pub fn get(&self) -> Option<ConnectionError> {
        self.0.get().copied()
    }
}

impl Checked {
    /// Checks the bytes of a client. `most_head`: the largest head of a request, in bytes.
    pub fn client(stream: Gathered, most_head: usize) -> (Self, ErrorSeen, ResetsSent) {
        let mut checked = Self::new(stream, Sender::Client, most_head);
        let error = ErrorSeen::default();
        checked.error = Some(error.clone());
        let sent = checked.sent.clone();
        (checked, error, sent)
    }

    /// Checks the bytes of a backend. `most_head`: the largest head of an answer, in bytes.
    pub fn backend(stream: Gathered, most_head: usize) -> (Self, ResetsSent) {
        let checked = Self::new(stream, Sender::Backend, most_head);
        let sent = checked.sent.clone();
        (checked, sent)
    }

    fn new(stream: Gathered, sender: Sender, most_head: usize) -> Self {
        Self {
            stream,
            check: Check::new(sender, most_head),
            passed: 0,
            error: None,
            written: Written::to(sender),
            sent: ResetsSent::default(),
            budget: Budget::default(),
            begun: Instant::now(),
            exhausted: false,
            pause: false,
            small: 0,
        }
    }

    /// Counts what has just arrived.
    fn count(&mut self) {
        let tally = self.check.take_tally();
        self.small += tally.small;
        if self.small >= MOST_SMALL {
            (self.small, self.pause) = (0, true);
        }
        self.budget.opened(tally.opened);
        if tally.resets > 0 {
            self.pause = true;
            self.spend(tally.resets);
        }
    }

    fn spend(&mut self, resets: u32) {
        self.exhausted |= !self.budget.reset(resets, self.begun.elapsed());
    }

    /// Counts the resets that were just written to the stream.
    fn count_written(&mut self, resets: Resets) {
        if resets.all > 0 {
            self.sent.0.fetch_add(resets.all, Ordering::Relaxed);
        }
        if resets.errors > 0 && self.error.is_some() {
            self.spend(resets.errors);
        }
    }

    /// Passes the check's own bytes on. Returns false if there are none.
    fn pass_own_bytes(&mut self, room: &mut ReadBuf<'_>) -> bool {
        let replacement = self.check.replacement();
        let rest = &replacement[self.passed..];
        if rest.is_empty() {
            return false;
        }
        let size = rest.len().min(room.remaining());
        room.put_slice(&rest[..size]);
        self.passed += size;
        if self.passed == replacement.len() {
            (*replacement, self.passed) = (Vec::new(), 0);
        }
        true
    }
}

impl AsyncRead for Checked {
    /// Reads checked bytes. After a client's connection error no more bytes are returned and no task is woken: the task that polls
    /// the connection looks for the error then.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.pass_own_bytes(room) {
                return Poll::Ready(Ok(()));
            }
            if std::mem::take(&mut this.pause) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let exhausted = this.exhausted.then_some(ConnectionError::Resets);
            if let Some(error) = this.check.error().or(exhausted) {
                let Some(seen) = &this.error else {
                    let error = io::Error::new(io::ErrorKind::InvalidData, error);
                    return Poll::Ready(Err(error));
                };
                let _ = seen.0.set(error);
                return Poll::Pending;
            }
            let before = room.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, room))?;
            let came = &room.filled()[before..];
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = this.check.consume(came);
            this.count();
            room.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Checked {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let taken = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        let resets = this.written.pass(&bytes[..taken]);
        this.count_written(resets);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let taken = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, slices))?;
        let mut left = taken;
        for slice in slices {
            let size = slice.len().min(left);
            left -= size;
            let resets = this.written.pass(&slice[..size]);
            this.count_written(resets);
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
