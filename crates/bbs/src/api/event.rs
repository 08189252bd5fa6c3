//! Event streams as server-sent events: `id` counts per connection, `data` is the base64 of the protobuf.
//!
//! A subscriber is registered before it receives the head of the response, so it receives every event that is committed after
//! that.

use super::{Api, Bbs};
use crate::hub::Topic;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, post};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{StatusCode, header};
use prost::Message as _;
use std::convert::Infallible;
use wire::bbs::{self as m, path};

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
    let subscribe =
        async move |State(bbs): State<Bbs>, body: Bytes| match m::EventsByCellId::decode(body) {
            Ok(filter) => events(&bbs, topic, filter.cell_id),
            Err(error) => (
                StatusCode::BAD_REQUEST,
                format!("the request received is invalid: {error}"),
            )
                .into_response(),
        };
    post(subscribe).get(subscribe)
}

fn events(bbs: &Bbs, topic: Topic, cell_id: String) -> Response {
    let queue = bbs.hub.subscribe(topic, cell_id);
    let numbered = futures::stream::unfold(queue, |mut queue| async {
        queue.recv().await.map(|event| (event, queue))
    })
    .enumerate()
    .map(|(id, event)| {
        let mut chunk = BytesMut::from(format!("id: {id}\n").as_bytes());
        chunk.extend_from_slice(&event);
        Ok::<Bytes, Infallible>(chunk.freeze())
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::CONNECTION, "keep-alive"),
    ];
    (headers, Body::from_stream(numbered)).into_response()
}
