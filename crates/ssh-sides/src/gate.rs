//! Counts the bytes that wait on a connection, and stops reading from its socket while they are too many.
//!
//! Behind the bytes that nobody reads yet, the peer may have sent what the way back needs: room in a window, or its part of new keys.
//! So a gate that stays closed lets a little through after a while, up to a second bound. A peer has at most the window of each channel
//! under way, which is less.

use futures::task::AtomicWaker;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The number of bytes above which nothing is read. It is larger than a channel's window, so that one channel alone can fill its
/// window without stopping the others.
pub const MOST: usize = 4 << 20;
/// The number of bytes that a closed gate lets through, in steps.
const EXTRA: usize = 8 << 20;
const STEP: usize = 256 << 10;
/// The time before the first step, and before each other one.
const PATIENCE: Duration = Duration::from_secs(1);
const PACE: Duration = Duration::from_millis(20);

/// The count of one connection; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    /// Whether reading has ended for good.
    is_shut: AtomicBool,
    reader: AtomicWaker,
}

impl Gate {
    /// Wraps the connection's socket.
    pub fn of<S>(&self, stream: S) -> Gated<S> {
        Gated {
            stream,
            gate: self.clone(),
            extra: 0,
            step: None,
        }
    }

    /// Counts bytes until the load is dropped.
    pub fn load(&self, bytes: usize) -> Load {
        self.0.waiting.fetch_add(bytes, Ordering::SeqCst);
        Load {
            bytes,
            gate: self.clone(),
        }
    }

    /// Ends reading as if the peer had closed the connection. A peer that ignores a goodbye could hold it without end.
    pub fn shut(&self) {
        self.0.is_shut.store(true, Ordering::SeqCst);
        self.0.reader.wake();
    }

    fn is_shut(&self) -> bool {
        self.0.is_shut.load(Ordering::SeqCst)
    }

    fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }
}

/// Bytes that wait on a connection.
#[derive(Debug)]
pub struct Load {
    bytes: usize,
    gate: Gate,
}

impl Drop for Load {
    fn drop(&mut self) {
        let shared = &self.gate.0;
        let before = shared.waiting.fetch_sub(self.bytes, Ordering::SeqCst);
        if before > MOST {
            shared.reader.wake();
        }
    }
}

/// A socket that is not read while its gate is closed. It is written at any time.
#[derive(Debug)]
pub struct Gated<S> {
    stream: S,
    gate: Gate,
    /// The bytes that may wait in addition, since the gate was closed.
    extra: usize,
    /// The time until the next step.
    step: Option<Pin<Box<Sleep>>>,
}

impl<S> Gated<S> {
    /// Returns when the connection may be read. The caller has registered its task.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let waiting = self.gate.waiting();
            if waiting <= MOST {
                self.extra = 0;
            }
            if waiting <= MOST + self.extra {
                self.step = None;
                return Poll::Ready(());
            }
            if self.extra >= EXTRA {
                return Poll::Pending;
            }
            let pause = if self.extra == 0 { PATIENCE } else { PACE };
            let step = self
                .step
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if step.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.step = None;
            self.extra += STEP;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The state may change at any moment after this registration; then the task is woken.
        self.gate.0.reader.register(context.waker());
        if self.gate.is_shut() {
            return Poll::Ready(Ok(()));
        }
        match self.poll_open(context) {
            Poll::Ready(()) => Pin::new(&mut self.stream).poll_read(context, buffer),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_full_gate_stops_reading_and_not_writing() {
        let gate = Gate::default();
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = gate.of(near);
        far.write_all(b"abc").await.unwrap();
        let mut byte = [0];
        near.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"a");

        let (small, large) = (gate.load(1), gate.load(MOST));
        assert!(near.read_exact(&mut byte).now_or_never().is_none());
        near.write_all(b"x").await.unwrap();
        far.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"x");

        // The reader waits already when the load is dropped.
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            near.read_exact(&mut byte).await.unwrap();
            byte
        });
        tokio::task::yield_now().await;
        drop(large);
        assert_eq!(&reading.await.unwrap(), b"b");
        drop(small);
    }

    #[tokio::test]
    async fn a_gate_that_stays_closed_lets_a_little_through() {
        let gate = Gate::default();
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = gate.of(near);
        far.write_all(b"abc").await.unwrap();
        let closed = gate.load(MOST + 1);
        let mut byte = [0];
        near.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"a");
        let bound = gate.load(EXTRA);
        let waiting = near.read_exact(&mut byte);
        let much_later = tokio::time::timeout(2 * PATIENCE, waiting).await;
        assert!(much_later.is_err());
        drop((closed, bound));
        near.read_exact(&mut byte).await.unwrap();
    }

    #[tokio::test]
    async fn a_shut_gate_ends_reading() {
        let gate = Gate::default();
        let (near, _far) = tokio::io::duplex(64);
        let mut near = gate.of(near);
        let reading = tokio::spawn(async move { near.read(&mut [0; 4]).await.unwrap() });
        tokio::task::yield_now().await;
        gate.shut();
        assert_eq!(reading.await.unwrap(), 0);
    }
}
