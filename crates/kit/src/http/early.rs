//! Handles responses that come before the request's body was read whole (HTTP/1).
//!
//! A connection with unread bytes of the last request must not be used again, because the next request on it would get no
//! response. A short rest is therefore read before the response. With a longer one the response announces `Connection: close`,
//! and the connection lingers ([`super::watch`]) until the client has stopped sending.

use super::Limits;
use super::watch::Activity;
use axum::body::{Body, HttpBody};
use bytes::{Buf as _, Bytes};
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// The part of a request's body that its handler has not read.
pub(super) struct Rest {
    body: Arc<Shared>,
    /// Whether the client waits for a response of ours before it sends the body.
    unsent: bool,
    activity: Option<Arc<Activity>>,
}

struct Shared(Mutex<Incoming>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rest {
    /// Returns the request for its handler, and the rest of its body. `activity` is notified when the handler waits for the body.
    pub(super) fn watch(
        request: Request<Incoming>,
        activity: Option<Arc<Activity>>,
    ) -> (Request<Body>, Self) {
        let (head, body) = request.into_parts();
        let body = Arc::new(Shared(Mutex::new(body)));
        let rest = Self {
            body: body.clone(),
            unsent: head.headers.contains_key(EXPECT),
            activity: activity.clone(),
        };
        let body = Body::new(Watched { body, activity });
        (Request::from_parts(head, body), rest)
    }

    /// Brings the connection into a known state after the response: reads a short rest, or makes the response close the
    /// connection.
    pub(super) async fn finish_request(self, response: &mut Response<Body>, limits: &Limits) {
        let still_read = Arc::strong_count(&self.body) > 1;
        if still_read || self.body.lock().is_end_stream() {
            return;
        }
        let known = self.body.lock().size_hint().lower();
        let short = !self.unsent && known <= limits.rest_bytes as u64;
        if short
            && tokio::time::timeout(limits.rest_time, self.read(limits.rest_bytes))
                .await
                .unwrap_or_default()
        {
            return;
        }
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        if let Some(activity) = &self.activity {
            activity.linger();
        }
    }

    /// Returns whether the body's end came within this number of bytes.
    async fn read(&self, mut room: usize) -> bool {
        let mut body = Watched {
            body: self.body.clone(),
            activity: None,
        };
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let size = frame.data_ref().map_or(0, Bytes::remaining);
            match room.checked_sub(size) {
                Some(left) => room = left,
                None => return false,
            }
        }
        true
    }
}

/// A body whose rest can be read after its reader was dropped.
struct Watched {
    body: Arc<Shared>,
    activity: Option<Arc<Activity>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut *self.body.lock()).poll_frame(context);
        if let Some(activity) = &self.activity {
            activity.body_wanted(polled.is_pending());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.lock().size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity {
            activity.body_wanted(false);
        }
    }
}
