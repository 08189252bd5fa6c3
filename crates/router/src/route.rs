//! The order of steps that every request takes (as gorouter `proxy/proxy.go`). Each step is a module.

use crate::body::{RequestBody, ResponseBody};
use crate::config::ResponseRewrite;
use crate::context::RequestContext;
use crate::forward::Outgoing;
use crate::protocol::HeadWatch;
use crate::rejection::Rejection;
use crate::route_service::{self, Leg};
use crate::router::Worker;
use crate::{forward, forwarded, healthcheck, hold, lookup, protocol, tracing_headers};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue};
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// The client's side of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    pub(crate) tls: bool,
    /// The client's verified certificate as `X-Forwarded-Client-Cert` tells it: base64 of its DER.
    pub(crate) certificate: Option<HeaderValue>,
}

impl Peer {
    pub(crate) fn plain(addr: SocketAddr) -> Self {
        Self {
            addr,
            tls: false,
            certificate: None,
        }
    }
}

/// One request, one response. A panic costs its own request only.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    peer: Peer,
    watch: Option<&HeadWatch>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let mut context = RequestContext::new(worker, peer, &request);
    let routed = AssertUnwindSafe(route(worker, &mut context, watch, request))
        .catch_unwind()
        .await;
    let mut response = match routed {
        Ok(Ok(response)) => response,
        Ok(Err(rejection)) => rejection.respond(&mut context),
        Err(_) => Rejection::Panic.respond(&mut context),
    };
    tracing_headers::answer(&context, response.headers_mut());
    rewrite(
        &worker.shared.settings.response_rewrite,
        response.headers_mut(),
    );
    context.seal(response)
}

/// The operator's wishes for every response.
fn rewrite(rules: &ResponseRewrite, headers: &mut HeaderMap) {
    for name in &rules.remove {
        headers.remove(name);
    }
    for (name, value) in &rules.add_if_absent {
        headers.entry(name).or_insert_with(|| value.clone());
    }
}

async fn route(
    worker: &Arc<Worker>,
    context: &mut RequestContext,
    watch: Option<&HeadWatch>,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Rejection> {
    let shared = &worker.shared;
    protocol::check(&request, watch)?;
    tracing_headers::apply(context, request.headers_mut(), &shared.settings);
    context.log.request_headers(request.headers());
    if let Some(answer) = healthcheck::answer(shared, request.headers()) {
        return Ok(answer);
    }
    hold::hold(shared, &context.host, request.uri().path()).await;
    let target = lookup::find(shared, context, &mut request)?;
    let upgrade = protocol::upgrade(&mut request);
    let (mut parts, body) = request.into_parts();
    let body = RequestBody::new(body, context, watch);
    let leg = route_service::leg(shared, &target.pool, &mut parts.headers, upgrade.is_some())?;
    let returned = matches!(leg, Leg::Returned);
    forwarded::apply(context, &mut parts, &shared.settings, returned);
    protocol::origin_form(&mut parts, &body);
    if let Leg::Out(out) = &leg {
        route_service::sign(shared, context, out, &mut parts.uri, &mut parts.headers)?;
    }
    context.log.request_headers(&parts.headers);
    let outgoing = Outgoing::new(parts, body, upgrade);
    match &leg {
        Leg::Straight | Leg::Returned => forward::forward(worker, context, &target, outgoing).await,
        Leg::Out(out) => route_service::forward(worker, context, out, outgoing).await,
    }
}
