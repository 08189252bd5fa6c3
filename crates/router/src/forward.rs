//! Handing a request to a backend: pick an endpoint, send, and when that fails, decide what the failure means and
//! whether another endpoint may try (as gorouter `proxy/round_tripper`).

use crate::backend::Lease;
use crate::backend::connect::{self, Made, Sender};
use crate::backend::failure::Fault;
use crate::body::{RequestBody, ResponseBody};
use crate::context::RequestContext;
use crate::lookup::Target;
use crate::protocol::Upgrade;
use crate::rejection::Rejection;
use crate::router::{Shared, Worker};
use crate::tunnel::Tunnel;
use crate::{forwarded, route_service, sticky};
use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use routing::registry::{Consequence, Endpoint, InFlight, NoPick, Pool, Want};
use std::sync::Arc;
use std::time::Instant;

const APPLICATION_ID: HeaderName = HeaderName::from_static("x-cf-applicationid");
const INSTANCE_ID: HeaderName = HeaderName::from_static("x-cf-instanceid");
const INSTANCE_INDEX: HeaderName = HeaderName::from_static("x-cf-instanceindex");
const VCAP_TRACE: HeaderName = HeaderName::from_static("x-vcap-trace");

/// A request on its way out, kept so that it can go out again.
#[derive(Debug)]
pub(crate) struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// Gone when a backend may have seen some of it.
    body: Option<RequestBody>,
    /// Nothing is lost by sending it twice: idempotent, and without a body.
    repeatable: bool,
    upgrade: Option<Upgrade>,
    /// It goes to a route service, not to an app.
    to_service: bool,
    /// The last connection that was made for it.
    pub(crate) made: Made,
}

impl Outgoing {
    pub(crate) fn new(parts: Parts, body: RequestBody, upgrade: Option<Upgrade>) -> Self {
        let Parts {
            method,
            uri,
            headers,
            ..
        } = parts;
        let idempotent = matches!(
            method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
        ) || headers.contains_key("idempotency-key")
            || headers.contains_key("x-idempotency-key");
        let repeatable = idempotent && body.is_end_stream() && upgrade.is_none();
        Self {
            method,
            uri,
            headers,
            body: Some(body),
            repeatable,
            upgrade,
            to_service: false,
            made: Made::default(),
        }
    }

    pub(crate) fn for_route_service(&mut self) {
        self.to_service = true;
    }

    /// Whether, after this fault, the request can go out again.
    pub(crate) fn may_repeat(&self, fault: &Fault) -> bool {
        self.body.is_some()
            && fault.may_repeat()
            && (fault.came_before_request() || self.repeatable)
    }

    /// The request for one endpoint; `None` when the body is gone.
    fn build(&mut self, endpoint: &Endpoint, http2: bool) -> Option<Request<RequestBody>> {
        let body = self.body.take()?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let mut headers = self.headers.clone();
        let spec = endpoint.spec();
        let instance = [
            (APPLICATION_ID, spec.app_id),
            (INSTANCE_ID, endpoint.instance_id()),
            (INSTANCE_INDEX, spec.instance_index),
        ];
        for (name, value) in instance.into_iter().filter(|_| !self.to_service) {
            match HeaderValue::from_str(value) {
                Ok(value) if !value.is_empty() => headers.insert(name, value),
                _ => headers.remove(name),
            };
        }
        if let Some(upgrade) = &self.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, upgrade.token.clone());
        }
        if http2 {
            *request.version_mut() = Version::HTTP_2;
            headers.remove(TRANSFER_ENCODING);
            let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
            let host = headers.remove(HOST);
            let host = host
                .as_ref()
                .and_then(|host| host.to_str().ok())
                .unwrap_or(endpoint.address());
            if let Ok(uri) = format!("https://{host}{path}").parse() {
                *request.uri_mut() = uri;
            }
        }
        *request.headers_mut() = headers;
        Some(request)
    }
}

/// What an attempt brings home.
pub(crate) struct Answered {
    response: Response<Incoming>,
    deadline: tokio::time::Instant,
    lease: Option<Lease>,
    in_flight: InFlight,
}

pub(crate) async fn forward(
    worker: &Arc<Worker>,
    context: &mut RequestContext,
    target: &Target,
    mut request: Outgoing,
) -> Result<Response<ResponseBody>, Rejection> {
    let shared = &worker.shared;
    // A route service's instances are nothing that a client's session with the app could stick to.
    let to_service = request.headers.contains_key(route_service::SIGNATURE);
    let sticky = sticky::wanted(&request.headers, &shared.settings).filter(|_| !to_service);
    let hash = target.pool.hash_header().and_then(|header| {
        let value = request.headers.get(header)?;
        Some(value.clone()).filter(|value| !value.is_empty())
    });
    let traced = !shared.settings.trace_key.is_empty()
        && request
            .headers
            .get(VCAP_TRACE)
            .is_some_and(|key| key.as_bytes() == shared.settings.trace_key.as_bytes());
    let zone = &shared.settings.prefer_zone;
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut last: Option<Fault> = None;
    context.log.backend_begins();
    loop {
        let want = Want {
            instance: target.instance(),
            // Only the first attempt is sticky, unless it must be.
            sticky: sticky
                .as_ref()
                .filter(|sticky| sticky.mandatory || tried.is_empty())
                .map(|sticky| sticky.instance.as_str()),
            mandatory: sticky.as_ref().is_some_and(|sticky| sticky.mandatory),
            hash: hash.as_ref().map(HeaderValue::as_bytes),
            zone: zone.as_deref().filter(|_| tried.is_empty()),
            tried: &tried,
            max_conns: shared.settings.max_conns_per_endpoint,
            ..Want::default()
        };
        let endpoint = match target.pool.pick(&want, Instant::now()) {
            Ok(endpoint) => endpoint,
            Err(reason) => return Err(none_left(context, reason, last)),
        };
        context.log.endpoint(&endpoint);
        context.log.attempt_begins();
        let tried_once = attempt(worker, &endpoint, &mut request).await;
        context.log.attempt_ended(request.made, tried_once.is_err());
        match tried_once {
            Ok(answered) => {
                let mut response = accept(
                    context,
                    target.pool.uri(),
                    &endpoint,
                    &mut request,
                    answered,
                )?;
                if !to_service {
                    sticky::remember(
                        response.headers_mut(),
                        sticky.as_ref(),
                        &target.pool,
                        &endpoint,
                        &shared.settings,
                    );
                }
                if traced {
                    trace(response.headers_mut(), shared, &endpoint);
                }
                return Ok(response);
            }
            Err(fault) => {
                blame(
                    shared,
                    context,
                    &target.pool,
                    &endpoint,
                    &fault,
                    tried.len() + 1,
                );
                tried.push(endpoint);
                if !request.may_repeat(&fault) || tried.len() >= shared.settings.max_attempts {
                    return Err(Rejection::Backend(fault));
                }
                last = Some(fault);
            }
        }
    }
}

/// No endpoint is left: an earlier attempt's fault says more than "none left".
fn none_left(context: &RequestContext, reason: NoPick, last: Option<Fault>) -> Rejection {
    match (last, reason) {
        (Some(fault), _) => Rejection::Backend(fault),
        (None, NoPick::Full) => {
            context.worker.shared.metrics.backend_exhausted_conns.add(1);
            Rejection::ConnectionLimit
        }
        (None, NoPick::None | NoPick::Tried) => Rejection::NoneAvailable,
    }
}

/// One endpoint's turn. A reused connection that proves dead before the backend saw the request costs no attempt: the
/// same endpoint is asked again on a new one.
pub(crate) async fn attempt(
    worker: &Arc<Worker>,
    endpoint: &Arc<Endpoint>,
    request: &mut Outgoing,
) -> Result<Answered, Fault> {
    let in_flight = InFlight::new(endpoint.clone());
    let http1_only = request.upgrade.is_some();
    let mut fresh = false;
    loop {
        let idle = if fresh {
            None
        } else {
            worker
                .connections
                .take(endpoint.transport(), http1_only, Instant::now())
        };
        let reused = idle.is_some();
        let sender = match idle {
            Some(sender) => sender,
            None => {
                let service = request.to_service;
                connect::connect(worker, endpoint, http1_only, service, &mut request.made).await?
            }
        };
        let settings = &worker.shared.settings;
        let limit = match &sender {
            Sender::Http1(_) => settings.endpoint_timeout,
            Sender::Http2(_) => settings.http2_endpoint_timeout,
        };
        let deadline = tokio::time::Instant::now() + limit;
        match send(worker, endpoint, sender, request, deadline).await {
            Ok((response, lease)) => {
                return Ok(Answered {
                    response,
                    deadline,
                    lease,
                    in_flight,
                });
            }
            Err(fault)
                if reused
                    && request.body.is_some()
                    && matches!(fault, Fault::Unsent | Fault::Ended | Fault::Reset) =>
            {
                fresh = true
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// On failure the body is back in `request` if nothing of it was sent, or if there was none and it may be repeated.
async fn send(
    worker: &Arc<Worker>,
    endpoint: &Endpoint,
    sender: Sender,
    request: &mut Outgoing,
    deadline: tokio::time::Instant,
) -> Result<(Response<Incoming>, Option<Lease>), Fault> {
    let http2 = matches!(sender, Sender::Http2(_));
    let spare = if request.repeatable {
        request.body.as_ref().map(RequestBody::empty_twin)
    } else {
        None
    };
    let outgoing = request.build(endpoint, http2).ok_or(Fault::Unsent)?;
    let (result, lease) = match sender {
        Sender::Http1(mut sender) => {
            let result = tokio::time::timeout_at(deadline, sender.try_send_request(outgoing)).await;
            (
                result,
                Some(Lease {
                    worker: worker.clone(),
                    transport: endpoint.transport(),
                    sender,
                }),
            )
        }
        Sender::Http2(mut sender) => (
            tokio::time::timeout_at(deadline, sender.try_send_request(outgoing)).await,
            None,
        ),
    };
    match result {
        Ok(Ok(response)) => Ok((response, lease)),
        Ok(Err(mut failed)) => {
            let unsent = failed.take_message().map(Request::into_body);
            let fault = Fault::from_request(failed.error(), unsent.is_none());
            request.body = unsent.or(spare);
            Err(fault)
        }
        Err(_elapsed) => Err(Fault::Timeout),
    }
}

/// A backend has answered: its response is the client's, less what ends at a hop.
pub(crate) fn accept(
    context: &mut RequestContext,
    route: &str,
    endpoint: &Arc<Endpoint>,
    request: &mut Outgoing,
    answered: Answered,
) -> Result<Response<ResponseBody>, Rejection> {
    let Answered {
        mut response,
        deadline,
        lease,
        in_flight,
    } = answered;
    let metrics = &context.worker.shared.metrics;
    metrics.answered(endpoint.tag("component"), response.status());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(upgrade) = request.upgrade.take() else {
            return Err(Rejection::Backend(Fault::BadResponse(
                "101 Switching Protocols without a request to switch".into(),
            )));
        };
        metrics.websocket_upgrades.add(1);
        let token = response
            .headers()
            .get(UPGRADE)
            .cloned()
            .unwrap_or(upgrade.token);
        context.tunnel = Some(Tunnel {
            client: upgrade.client,
            backend: hyper::upgrade::on(&mut response),
            in_flight,
        });
        let (mut parts, _) = response.into_parts();
        forwarded::apply_to_response(&mut parts.headers);
        parts
            .headers
            .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(UPGRADE, token);
        tracing::debug!(uri = route, backend = endpoint.address(), "upgraded");
        return Ok(Response::from_parts(parts, ResponseBody::default()));
    }
    if request.upgrade.is_some() {
        metrics.websocket_failures.add(1);
    }
    let (mut parts, body) = response.into_parts();
    forwarded::apply_to_response(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(
        parts,
        ResponseBody::backend(body, deadline, lease, in_flight),
    ))
}

/// Holds a failure against its endpoint, and tells the operator.
fn blame(
    shared: &Shared,
    context: &RequestContext,
    pool: &Pool,
    endpoint: &Arc<Endpoint>,
    fault: &Fault,
    attempt: usize,
) {
    if matches!(fault, Fault::ClientGone) {
        return tracing::debug!(
            route = pool.uri(),
            address = endpoint.address(),
            "client-gone"
        );
    }
    let spec = endpoint.spec();
    let request_id = context.request_id.to_str().unwrap_or_default();
    tracing::error!(
        route = pool.uri(), attempt, vcap_request_id = request_id, address = endpoint.address(), application_id = spec.app_id,
        instance_id = spec.instance_id, num_endpoints = pool.len(), retriable = fault.may_repeat(), error = %fault, "backend-endpoint-failed"
    );
    shared.metrics.fault(fault);
    let Some(failure) = fault.blame() else { return };
    match pool.fail(endpoint, failure, Instant::now()) {
        Consequence::Pruned => {
            let (expected, presented) = match fault {
                Fault::WrongName {
                    expected,
                    presented,
                } => (expected.as_str(), presented.as_str()),
                _ => (endpoint.tls_name(), "-"),
            };
            tracing::error!(
                route = pool.uri(), address = endpoint.address(), application_id = spec.app_id, instance_id = spec.instance_id,
                expected_certificate_name = expected, presented_certificate_names = presented, endpoints_left = pool.len(), error = %fault, "prune-failed-endpoint"
            );
        }
        Consequence::Marked => {
            tracing::warn!(route = pool.uri(), address = endpoint.address(), application_id = spec.app_id, error = %fault, "endpoint-marked-as-ineligible");
        }
        Consequence::Gone => {}
    }
}

fn trace(headers: &mut HeaderMap, shared: &Shared, endpoint: &Endpoint) {
    for (name, value) in [
        ("x-vcap-router", shared.settings.ip.to_string()),
        ("x-vcap-backend", endpoint.address().to_owned()),
        ("x-cf-routeendpoint", endpoint.address().to_owned()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
