//! The HTTP API: one route per call of the BBS protocol. It parses requests, calls the store and presents the result; it decides
//! nothing.
//!
//! Transport rules: a request is a `POST` with a protobuf body. A response has status 200 and a protobuf body even when the call
//! failed; the error is then in field 1. Unknown routes answer 404, because clients fall back to older revisions on exactly that
//! status. Event streams are server-sent events.

mod actual_lrp;
mod cell;
mod desired_lrp;
mod domain;
mod evacuation;
mod event;
mod group;
mod task;

use crate::failure::Failure;
use crate::hub::Hub;
use crate::store::Store;
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use clients::request_id;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use prost::Message;
use std::future::Future;
use std::sync::Arc;
use wire::bbs as m;

/// The state that every call works on.
#[derive(Clone, Debug)]
pub(crate) struct Bbs {
    pub(crate) store: Arc<Store>,
    pub(crate) hub: Arc<Hub>,
}

/// The id of a request, from the header `X-Vcap-Request-Id`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(String);

/// The largest accepted request body in bytes. The largest real request is a desired LRP with its files.
const MAX_BODY: usize = 16 << 20;

type Api = Router<Bbs>;

pub(crate) fn routes(bbs: Bbs) -> Router {
    Router::new()
        .route(m::path::PING, call(ping))
        .merge(domain::routes())
        .merge(desired_lrp::routes())
        .merge(actual_lrp::routes())
        .merge(evacuation::routes())
        .merge(group::routes())
        .merge(task::routes())
        .merge(cell::routes())
        .merge(event::routes())
        .route("/ping", get(|| async { "OK" }))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(bbs)
}

async fn ping(_: Bbs, _: Trace, _: m::EmptyRequest) -> Result<m::PingResponse, Failure> {
    Ok(m::PingResponse { available: true })
}

/// A response message that can report that the call failed.
trait ReportsFailure: Message + Default {
    fn failed(error: m::Error) -> Self;
}

macro_rules! responses {
    ($($name:ident),* $(,)?) => {$(
        impl ReportsFailure for m::$name {
            fn failed(error: m::Error) -> Self {
                let mut answer = Self::default();
                answer.error = Some(error);
                answer
            }
        }
    )*};
}

responses!(
    LifecycleResponse,
    EvacuationResponse,
    DomainsResponse,
    ActualLrpsResponse,
    ActualLrpGroupsResponse,
    ActualLrpGroupResponse,
    DesiredLrpsResponse,
    DesiredLrpResponse,
    DesiredLrpSchedulingInfosResponse,
    DesiredLrpSchedulingInfoResponse,
    TasksResponse,
    TaskResponse,
    StartTaskResponse,
    CellsResponse,
);

impl ReportsFailure for m::PingResponse {
    fn failed(_: m::Error) -> Self {
        Self::default()
    }
}

/// Returns the route of one call.
fn call<Q, A, F, Fut>(act: F) -> MethodRouter<Bbs>
where
    Q: Message + Default,
    A: ReportsFailure,
    F: Fn(Bbs, Trace, Q) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Failure>> + Send,
{
    post(
        async move |axum::extract::State(bbs): axum::extract::State<Bbs>,
                    headers: HeaderMap,
                    body: Bytes| {
            let answer = match Q::decode(body) {
                Ok(request) => act(bbs, Trace(request_id::of(&headers)), request).await,
                Err(error) => Err(Failure::new(
                    m::ErrorType::InvalidRequest,
                    format!("the request received is invalid: {error}"),
                )),
            };
            protobuf(&answer.unwrap_or_else(|failure| A::failed(failure.into())))
        },
    )
}

/// Returns the response of a call that reports only success or failure.
fn done(result: Result<(), Failure>) -> Result<m::LifecycleResponse, Failure> {
    result.map(|()| m::LifecycleResponse::default())
}

fn protobuf(answer: &impl Message) -> Response {
    const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
    (
        StatusCode::OK,
        [(header::CONTENT_TYPE, PROTOBUF)],
        Body::from(answer.encode_to_vec()),
    )
        .into_response()
}
