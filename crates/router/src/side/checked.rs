//! A client's or a backend's bytes on their way to the library that speaks HTTP/2, looked at by [`::http2::Check`]; and what
//! the library says to it, for the streams that it breaks off ([`::http2::Written`]).

use super::gathered::Gathered;
use ::http2::written::Resets;
use ::http2::{Budget, Check, Fault, Sender, Written};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Small frames after which those who take them in have their turn.
const MOST_SMALL: u32 = 256;

#[derive(Debug)]
pub(crate) struct Checked {
    stream: Gathered,
    check: Check,
    /// So many of the check's own bytes are handed on.
    handed: usize,
    /// Who tells a client of its fault; `None`: a backend's is an error of the connection.
    fault: Option<FaultSeen>,
    written: Written,
    sent: ResetsSent,
    /// Of a client.
    budget: Budget,
    begun: Instant,
    /// It is used up.
    exhausted: bool,
    /// Nothing is read before the streams that came last were looked at: the library keeps those that came and were broken
    /// off again, and each small frame.
    pause: bool,
    /// Small frames since the last pause.
    small: u32,
}

/// How many streams of a connection the router has broken off.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResetsSent(Arc<AtomicU32>);

impl ResetsSent {
    pub(crate) fn sent(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why nothing of a connection is read any more: to be told to its client.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultSeen(Arc<OnceLock<Fault>>);

impl FaultSeen {
    pub(crate) fn get(&self) -> Option<Fault> {
        self.0.get().copied()
    }
}

impl Checked {
    /// What comes of a client. `most_head`: of a request, in bytes.
    pub(crate) fn client(stream: Gathered, most_head: usize) -> (Self, FaultSeen, ResetsSent) {
        let mut checked = Self::new(stream, Sender::Client, most_head);
        let fault = FaultSeen::default();
        checked.fault = Some(fault.clone());
        let sent = checked.sent.clone();
        (checked, fault, sent)
    }

    /// What comes of a backend. `most_head`: of an answer, in bytes.
    pub(crate) fn backend(stream: Gathered, most_head: usize) -> (Self, ResetsSent) {
        let checked = Self::new(stream, Sender::Backend, most_head);
        let sent = checked.sent.clone();
        (checked, sent)
    }

    fn new(stream: Gathered, sender: Sender, most_head: usize) -> Self {
        Self {
            stream,
            check: Check::new(sender, most_head),
            handed: 0,
            fault: None,
            written: Written::to(sender),
            sent: ResetsSent::default(),
            budget: Budget::default(),
            begun: Instant::now(),
            exhausted: false,
            pause: false,
            small: 0,
        }
    }

    /// What has just come.
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

    /// What the stream has taken.
    fn count_written(&mut self, resets: Resets) {
        if resets.all > 0 {
            self.sent.0.fetch_add(resets.all, Ordering::Relaxed);
        }
        if resets.faults > 0 && self.fault.is_some() {
            self.spend(resets.faults);
        }
    }

    /// False: the check has none of its own to hand on.
    fn hand_on(&mut self, room: &mut ReadBuf<'_>) -> bool {
        let instead = self.check.instead();
        let rest = &instead[self.handed..];
        if rest.is_empty() {
            return false;
        }
        let size = rest.len().min(room.remaining());
        room.put_slice(&rest[..size]);
        self.handed += size;
        if self.handed == instead.len() {
            (*instead, self.handed) = (Vec::new(), 0);
        }
        true
    }
}

impl AsyncRead for Checked {
    /// After a client's fault nothing comes any more, and nobody is woken: whoever polls the connection looks for it then.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_on(room) {
                return Poll::Ready(Ok(()));
            }
            if std::mem::take(&mut this.pause) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let exhausted = this.exhausted.then_some(Fault::Resets);
            if let Some(fault) = this.check.fault().or(exhausted) {
                let Some(seen) = &this.fault else {
                    let error = io::Error::new(io::ErrorKind::InvalidData, fault);
                    return Poll::Ready(Err(error));
                };
                let _ = seen.0.set(fault);
                return Poll::Pending;
            }
            let before = room.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, room))?;
            let came = &room.filled()[before..];
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = this.check.take(came);
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
