//! Answers that come before the request's body was read whole (HTTP/1).
//!
//! A connection on which something of the last request is left must not be used again, and whoever uses it again gets no
//! answer. So a short rest is read before the answer; else the answer announces `Connection: close`, and the connection
//! lingers ([`super::watch`]) until the client has stopped sending.

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

/// What a handler has not read of a request's body.
pub(super) struct Rest {
    body: Arc<Shared>,
    /// The client waits for a word of ours before it sends the body.
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
    /// The request as its handler gets it, and what will be left of it. `activity` hears when the body is waited for.
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

    /// Makes the answer one after which the connection is in a known state.
    pub(super) async fn settle(self, response: &mut Response<Body>, limits: &Limits) {
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

    /// Whether the body's end came within so many bytes.
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

/// A body whose rest can be read when its reader is gone.
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
