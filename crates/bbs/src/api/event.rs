//! Event streams as server-sent events: `id` is the event's place in the stream of this BBS, `data` is the base64 of the protobuf.
//!
//! A subscriber is registered before it receives the head of the response, so it receives every event that is committed after
//! that. A subscriber that comes back sends the id of its last event in `Last-Event-ID`. The response has the id after which its
//! stream begins in a header of the same name: if it is the same id, the stream continues with what the subscriber missed. If it
//! is another one, too much has happened since or this is another BBS, and the subscriber lists the state anew, as it does after
//! its first subscription. Clients of the original BBS know nothing of the header, and lose nothing.

use super::{Api, Bbs};
use crate::hub::{Subscription, Topic};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use prost::Message as _;
use std::convert::Infallible;
use wire::bbs::{self as m, LAST_EVENT_ID, path};

/// The paths of the protocol before it had revisions.
const INSTANCE_EVENTS_R0: &str = "/v1/events/lrp_instances";
const TASK_EVENTS_R0: &str = "/v1/events/tasks";
const GROUP_EVENTS_R0: &str = "/v1/events";

pub(super) fn routes() -> Api {
    Api::new()
        .route(path::INSTANCE_EVENTS, stream(Topic::Instances))
        .route(INSTANCE_EVENTS_R0, stream(Topic::Instances))
        .route(path::GROUP_EVENTS, stream(Topic::Groups))
        .route(GROUP_EVENTS_R0, stream(Topic::Groups))
        .route(path::TASK_EVENTS, stream(Topic::Tasks))
        .route(TASK_EVENTS_R0, stream(Topic::Tasks))
}

/// Returns the route of an event stream. Its filter is read from the body, because some clients send it in the body of a `GET`.
fn stream(topic: Topic) -> MethodRouter<Bbs> {
    let subscribe = async move |State(bbs): State<Bbs>, headers: HeaderMap, body: Bytes| {
        let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
        match m::EventsByCellId::decode(body) {
            Ok(filter) => events(bbs.hub.subscribe(topic, filter.cell_id, last)),
            Err(error) => (
                StatusCode::BAD_REQUEST,
                format!("the request received is invalid: {error}"),
            )
                .into_response(),
        }
    };
    post(subscribe).get(subscribe)
}

fn events(subscription: Subscription) -> Response {
    let Subscription {
        begins_after,
        missed,
        queue,
    } = subscription;
    let to_come = futures::stream::unfold(queue, |mut queue| async {
        queue.recv().await.map(|event| (event, queue))
    });
    let events = futures::stream::iter(missed)
        .chain(to_come)
        .map(Ok::<Bytes, Infallible>);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::CONNECTION, "keep-alive"),
    ];
    let begin = [(LAST_EVENT_ID, begins_after)];
    (headers, begin, Body::from_stream(events)).into_response()
}
