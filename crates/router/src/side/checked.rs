//! A client's or a backend's bytes on their way to the library that speaks HTTP/2, looked at by [`::http2::Check`].

use super::gathered::Gathered;
use ::http2::{Check, Fault, Sender};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug)]
pub(crate) struct Checked {
    stream: Gathered,
    check: Check,
    /// So many of the check's own bytes are handed on.
    handed: usize,
    /// Who tells a client of its fault; `None`: a backend's is an error of the connection.
    fault: Option<FaultSeen>,
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
    pub(crate) fn client(stream: Gathered, most_head: usize) -> (Self, FaultSeen) {
        let fault = FaultSeen::default();
        let checked = Self {
            stream,
            check: Check::new(Sender::Client, most_head),
            handed: 0,
            fault: Some(fault.clone()),
        };
        (checked, fault)
    }

    /// What comes of a backend. `most_head`: of an answer, in bytes.
    pub(crate) fn backend(stream: Gathered, most_head: usize) -> Self {
        Self {
            stream,
            check: Check::new(Sender::Backend, most_head),
            handed: 0,
            fault: None,
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
            if let Some(fault) = this.check.fault() {
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
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
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
