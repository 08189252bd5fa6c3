//! The gRPC service `models.Locket`, without generated code: four unary methods on their paths. The status codes are those of
//! Diego's locket (a lock of another owner is `AlreadyExists`).

use super::{LockError, Locket, Refused};
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use prost::Message;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};
use wire::locket::{self as m, Resource, TypeCode, path};

pub(crate) fn routes(locket: Arc<Locket>) -> Router {
    Router::new()
        .route(
            path::LOCK,
            post(|state, request| unary(state, request, lock)),
        )
        .route(
            path::RELEASE,
            post(|state, request| unary(state, request, release)),
        )
        .route(
            path::FETCH,
            post(|state, request| unary(state, request, fetch)),
        )
        .route(
            path::FETCH_ALL,
            post(|state, request| unary(state, request, fetch_all)),
        )
        .fallback(|| async {
            Status::new(
                Code::Unimplemented,
                "models.Locket has Lock, Fetch, Release and FetchAll",
            )
            .into_http::<axum::body::Body>()
        })
        .with_state(locket)
}

async fn lock(locket: Arc<Locket>, request: m::LockRequest) -> Result<m::LockResponse, Status> {
    let resource = request
        .resource
        .ok_or_else(|| Status::invalid_argument("resource is missing"))?;
    if resource.key.is_empty() || resource.owner.is_empty() {
        return Err(Status::invalid_argument(
            "invalid-owner: a lock needs a key and an owner",
        ));
    }
    if request.ttl_in_seconds <= 0 {
        return Err(Status::invalid_argument(format!(
            "invalid-ttl: {} seconds; it must be positive",
            request.ttl_in_seconds
        )));
    }
    let resource = typed(resource)?;
    locket
        .lock(resource, request.ttl_in_seconds)
        .await
        .map_err(status)?;
    Ok(m::LockResponse {})
}

async fn release(
    locket: Arc<Locket>,
    request: m::ReleaseRequest,
) -> Result<m::ReleaseResponse, Status> {
    let resource = request
        .resource
        .ok_or_else(|| Status::invalid_argument("resource is missing"))?;
    locket
        .release(&resource.key, &resource.owner)
        .await
        .map_err(status)?;
    Ok(m::ReleaseResponse {})
}

async fn fetch(locket: Arc<Locket>, request: m::FetchRequest) -> Result<m::FetchResponse, Status> {
    let resource = locket
        .fetch(&request.key)
        .ok_or_else(|| status(LockError::Refused(Refused::NotFound)))?;
    Ok(m::FetchResponse {
        resource: Some(resource),
    })
}

async fn fetch_all(
    locket: Arc<Locket>,
    request: m::FetchAllRequest,
) -> Result<m::FetchAllResponse, Status> {
    match request.kind() {
        TypeCode::Unknown => Err(invalid_type()),
        kind => Ok(m::FetchAllResponse {
            resources: locket.fetch_all(kind),
        }),
    }
}

/// Returns the resource with its type in both spellings, the name and the number.
fn typed(resource: Resource) -> Result<Resource, Status> {
    let kind = resource.kind();
    let type_name = match kind {
        TypeCode::Lock => m::LOCK,
        TypeCode::Presence => m::PRESENCE,
        TypeCode::Unknown => return Err(invalid_type()),
    };
    Ok(Resource {
        type_name: type_name.to_owned(),
        type_code: kind as i32,
        ..resource
    })
}

fn invalid_type() -> Status {
    Status::invalid_argument("invalid-type: expected type_code LOCK or PRESENCE")
}

fn status(error: LockError) -> Status {
    match error {
        LockError::Refused(Refused::Collision) => Status::already_exists("lock-collision"),
        LockError::Refused(Refused::NotFound) => Status::not_found("resource-not-found"),
        LockError::Failed(failure) => Status::internal(failure.message),
    }
}

/// Serves one unary call: it decodes the request, runs `call`, and encodes the response or the status.
async fn unary<Q, A, F, Fut>(
    State(locket): State<Arc<Locket>>,
    request: Request,
    call: F,
) -> Response
where
    Q: Message + Default + Send + 'static,
    A: Message + Default + Send + 'static,
    F: FnOnce(Arc<Locket>, Q) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    let codec = tonic_prost::ProstCodec::<A, Q>::default();
    let answer = Grpc::new(codec)
        .unary(
            Method {
                locket,
                call,
                request: std::marker::PhantomData,
            },
            request,
        )
        .await;
    answer.map(axum::body::Body::new)
}

struct Method<F, Q> {
    locket: Arc<Locket>,
    call: F,
    request: std::marker::PhantomData<fn(Q)>,
}

impl<F, Fut, Q, A> UnaryService<Q> for Method<F, Q>
where
    F: FnOnce(Arc<Locket>, Q) -> Fut + Clone,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    type Response = A;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<A>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let metrics = self.locket.metrics.clone();
        let answer = (self.call.clone())(self.locket.clone(), request.into_inner());
        Box::pin(async move {
            let began = Instant::now();
            metrics.requests_started.add(1);
            let in_flight = metrics.requests_in_flight.begin();
            let answer = answer.await;
            drop(in_flight);
            metrics.request_latency.observe(began.elapsed());
            let ended = if answer.is_ok() {
                &metrics.requests_succeeded
            } else {
                &metrics.requests_failed
            };
            ended.add(1);
            answer.map(tonic::Response::new)
        })
    }
}
