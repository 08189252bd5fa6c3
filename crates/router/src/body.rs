//! Bodies on their way: counted, bounded in time, and with something to do at their end.

use crate::backend::Lease;
use crate::context::RequestContext;
use crate::observe::access_log::Entry;
use crate::protocol::HeadWatch;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use routing::registry::InFlight;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The client's body on its way to a backend.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// `None`: there was none.
    incoming: Option<Incoming>,
    received: Arc<AtomicU64>,
    watch: Option<HeadWatch>,
}

impl RequestBody {
    pub(crate) fn new(
        incoming: Incoming,
        context: &RequestContext,
        watch: Option<&HeadWatch>,
    ) -> Self {
        let ended = incoming.is_end_stream();
        let body = Self {
            incoming: (!ended).then_some(incoming),
            received: context.log.received(),
            watch: watch.cloned(),
        };
        if ended {
            body.note_end();
        }
        body
    }

    /// For sending a request without a body twice.
    pub(crate) fn empty_twin(&self) -> Self {
        Self {
            incoming: None,
            received: self.received.clone(),
            watch: None,
        }
    }

    fn note_end(&self) {
        if let Some(watch) = &self.watch {
            watch.body_read();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        let ended = frame.is_none() || incoming.is_end_stream();
        if let Some(data) = frame
            .as_ref()
            .and_then(|frame| frame.as_ref().ok())
            .and_then(Frame::data_ref)
        {
            self.received
                .fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        if ended {
            self.note_end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// What a client gets: a backend's body, or a few words of the router's own.
#[derive(Debug, Default)]
pub(crate) struct ResponseBody {
    source: Source,
    log: Option<Box<Entry>>,
}

#[derive(Debug, Default)]
enum Source {
    #[default]
    Done,
    Own(Bytes),
    Backend(Box<BackendBody>),
}

/// A backend's body, the connection it comes by, and how long it may take.
#[derive(Debug)]
struct BackendBody {
    incoming: Incoming,
    deadline: Pin<Box<Sleep>>,
    lease: Option<Lease>,
    _in_flight: InFlight,
}

impl ResponseBody {
    pub(crate) fn own(text: impl Into<Bytes>) -> Self {
        Self {
            source: Source::Own(text.into()),
            log: None,
        }
    }

    pub(crate) fn backend(
        incoming: Incoming,
        deadline: Instant,
        lease: Option<Lease>,
        in_flight: InFlight,
    ) -> Self {
        if incoming.is_end_stream() {
            if let Some(lease) = lease {
                lease.give_back();
            }
            return Self::default();
        }
        let deadline = Box::pin(tokio::time::sleep_until(deadline));
        Self {
            source: Source::Backend(Box::new(BackendBody {
                incoming,
                deadline,
                lease,
                _in_flight: in_flight,
            })),
            log: None,
        }
    }

    pub(crate) fn set_log(&mut self, log: Box<Entry>) {
        self.log = Some(log);
    }

    fn count(&mut self, bytes: usize) {
        if let Some(log) = &mut self.log {
            log.sent(bytes as u64);
        }
    }
}

impl BackendBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                let ended = frame.is_none() || self.incoming.is_end_stream();
                if ended && let Some(lease) = self.lease.take() {
                    lease.give_back();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(cx));
                self.lease = None;
                Poll::Ready(Some(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the backend's response took longer than endpoint_timeout",
                )
                .into())))
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match &mut self.source {
            Source::Done => None,
            Source::Own(text) => {
                let text = std::mem::take(text);
                self.source = Source::Done;
                (!text.is_empty()).then(|| Ok(Frame::data(text)))
            }
            Source::Backend(body) => ready!(body.poll(cx)),
        };
        match &frame {
            Some(Ok(frame)) => self.count(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) | None => self.source = Source::Done,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Done => true,
            Source::Own(text) => text.is_empty(),
            Source::Backend(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Done => SizeHint::with_exact(0),
            Source::Own(text) => SizeHint::with_exact(text.len() as u64),
            Source::Backend(body) => body.incoming.size_hint(),
        }
    }
}
