//! The HTTP API: one route per call of the BBS protocol. Parses, calls the store, presents; no decisions.
//!
//! Transport rules: `POST` with a protobuf body; the answer is 200 with a protobuf body also when the call failed, which then stands in
//! field 1. Unknown routes are 404: clients fall back to older revisions on exactly that. Event streams are SSE.

mod actual_lrp;
mod cell;
mod desired_lrp;
mod domain;
mod event;
mod evacuation;
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
use http::{HeaderMap, HeaderValue, StatusCode, header};
use prost::Message;
use std::future::Future;
use std::sync::Arc;
use wire::bbs as m;

/// What every call works on.
#[derive(Clone, Debug)]
pub(crate) struct Bbs {
    pub(crate) store: Arc<Store>,
    pub(crate) hub: Arc<Hub>,
}

/// The id of a request, `X-Vcap-Request-Id`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(String);

/// The largest request: a desired LRP with its files.
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

/// An answer that can say that the call failed.
trait Answer: Message + Default {
    fn failed(error: m::Error) -> Self;
}

macro_rules! answers {
    ($($name:ident),* $(,)?) => {$(
        impl Answer for m::$name {
            fn failed(error: m::Error) -> Self {
                Self { error: Some(error), ..Self::default() }
            }
        }
    )*};
}

answers!(
    LifecycleResponse, EvacuationResponse, DomainsResponse, ActualLrpsResponse, ActualLrpGroupsResponse, ActualLrpGroupResponse, DesiredLrpsResponse, DesiredLrpResponse,
    DesiredLrpSchedulingInfosResponse, DesiredLrpSchedulingInfoResponse, TasksResponse, TaskResponse, StartTaskResponse, CellsResponse,
);

impl Answer for m::PingResponse {
    fn failed(_: m::Error) -> Self {
        Self::default()
    }
}

/// The route of one call.
fn call<Q, A, F, Fut>(act: F) -> MethodRouter<Bbs>
where
    Q: Message + Default,
    A: Answer,
    F: Fn(Bbs, Trace, Q) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Failure>> + Send,
{
    post(async move |axum::extract::State(bbs): axum::extract::State<Bbs>, headers: HeaderMap, body: Bytes| {
        let answer = match Q::decode(body) {
            Ok(request) => act(bbs, trace(&headers), request).await,
            Err(error) => Err(Failure::new(m::ErrorType::InvalidRequest, format!("the request received is invalid: {error}"))),
        };
        protobuf(&answer.unwrap_or_else(|failure| A::failed(failure.into())))
    })
}

/// The answer of a call that returns nothing but success.
fn done(result: Result<(), Failure>) -> Result<m::LifecycleResponse, Failure> {
    result.map(|()| m::LifecycleResponse::default())
}

fn trace(headers: &HeaderMap) -> Trace {
    Trace(headers.get("x-vcap-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned())
}

fn protobuf(answer: &impl Message) -> Response {
    const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
    (StatusCode::OK, [(header::CONTENT_TYPE, PROTOBUF)], Body::from(answer.encode_to_vec())).into_response()
}
