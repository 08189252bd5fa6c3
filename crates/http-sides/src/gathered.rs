//! Gathers what the HTTP/2 library writes. The library flushes after every frame with a body, and each of these writes would be a
//! TLS record and a system call of its own. The task that polls the connection sends the gathered bytes when the library has
//! nothing more to write.

use crate::stream::Stream;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The number of gathered bytes after which they are sent before more is accepted: a TLS record. It may be exceeded by one frame.
const MOST: usize = 16 << 10;

/// A stream that the library and its owner share.
#[derive(Clone, Debug)]
pub struct Gathered(Arc<Mutex<Gathering>>);

/// The state that they share.
#[derive(Debug)]
struct Gathering {
    stream: Stream,
    /// The gathered bytes. No memory is held while there is nothing to send.
    bytes: Vec<u8>,
    /// The number of these bytes that were sent.
    sent: usize,
}

impl Gathered {
    /// Creates the gathering of a connection, with nothing gathered.
    pub fn new(stream: Stream) -> Self {
        Self(Arc::new(Mutex::new(Gathering {
            stream,
            bytes: Vec::new(),
            sent: 0,
        })))
    }

    /// Sends the gathered bytes; ready when the socket has accepted all of them. It must be called whenever the library was
    /// polled. An error may be ignored, because reading shows as well that the other side is gone.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_send(cx)
    }

    fn lock(&self) -> MutexGuard<'_, Gathering> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathering {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.bytes.len() {
            let rest = &self.bytes[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        // TLS may hold records that the socket has not accepted.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        (self.bytes, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut gathering = self.lock();
        let read = Pin::new(&mut gathering.stream).poll_read(cx, room);
        if read.is_pending() {
            // The other side may wait for these bytes: the library gathers its greeting and then waits for the other side's.
            let _ = gathering.poll_send(cx)?;
        }
        read
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut gathering = self.lock();
        if gathering.bytes.len() >= MOST {
            ready!(gathering.poll_send(cx))?;
        }
        let before = gathering.bytes.len();
        for slice in slices {
            gathering.bytes.extend_from_slice(slice);
        }
        Poll::Ready(Ok(gathering.bytes.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing, so that bytes gather: see the module's documentation.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.lock();
        ready!(gathering.poll_send(cx))?;
        Pin::new(&mut gathering.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn what_is_written_leaves_together_and_holds_no_memory_afterwards() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut peer = TcpStream::connect(addr).await.unwrap();
        let stream = Stream::Plain(listener.accept().await.unwrap().0);
        let mut gathered = Gathered::new(stream);
        let mut room = [0; 64];

        for frame in ["one ", "two"] {
            gathered.write_all(frame.as_bytes()).await.unwrap();
            gathered.flush().await.unwrap();
        }
        let kept = gathered.lock().bytes.len();
        assert_eq!(kept, 7);
        poll_fn(|cx| gathered.poll_send(cx)).await.unwrap();
        let count = peer.read(&mut room).await.unwrap();
        assert_eq!(&room[..count], b"one two");
        assert_eq!(gathered.lock().bytes.capacity(), 0);

        // The library has written everything before it waits for the other side.
        gathered.write_all(b"greeting").await.unwrap();
        let (mut own, mut byte) = (gathered.clone(), [0; 8]);
        let (read, received) = tokio::join!(own.read(&mut byte), async {
            let count = peer.read(&mut room).await.unwrap();
            peer.write_all(b"!").await.unwrap();
            count
        });
        assert_eq!((read.unwrap(), received), (1, 8));

        // The bytes for a peer that reads nothing do not grow without end.
        let much = vec![0; MOST];
        let limit = tokio::time::timeout(std::time::Duration::from_millis(300), async {
            for _ in 0..10_000 {
                gathered.write_all(&much).await.unwrap();
            }
        });
        assert!(limit.await.is_err());
        let kept = gathered.lock().bytes.len();
        assert!(kept < 3 * MOST, "{kept}");
    }
}
