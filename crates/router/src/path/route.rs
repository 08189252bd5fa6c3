//! The order of steps that every request takes (as gorouter `proxy/proxy.go`). Each step is a module.

use crate::config::ResponseRewrite;
use crate::path::answer::{self, After, Answer};
use crate::path::context::{Peer, RequestContext};
use crate::path::exchange::Exchange;
use crate::path::forward::Outgoing;
use crate::path::forwarded::Came;
use crate::path::rejection::Rejection;
use crate::path::route_service::{self, Leg};
use crate::path::{forward, forwarded, healthcheck, lookup, mtls, protocol, tracing_headers};
use crate::worker::Worker;
use futures::FutureExt as _;
use http1::Fields;
use route_table::registry::Within;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Serves one request with one response. A panic costs its own request only.
pub(crate) async fn serve(worker: &Arc<Worker>, peer: &Peer, exchange: &mut Exchange) -> After {
    let mut context = RequestContext::new(worker, peer, &exchange.request);
    if worker.shared.lasting.compat_gorouter && protocol::has_semicolons(&exchange.request) {
        tracing::warn!("{}", protocol::SEMICOLONS);
        context.record.router_error(protocol::SEMICOLONS.to_owned());
    }
    let routed = AssertUnwindSafe(route(&mut context, exchange))
        .catch_unwind()
        .await;
    let answer = match routed {
        Ok(Ok(answer)) => answer,
        Ok(Err(rejection)) => rejection.respond(&mut context, exchange),
        Err(_) => Rejection::Panic.respond(&mut context, exchange),
    };
    tracing_headers::answer(&context, exchange);
    let rules = &worker.shared.settings.response_rewrite;
    rewrite(rules, &mut exchange.response.fields);
    answer::deliver(context, exchange, answer).await
}

/// Rejects a request whose head could be read, but not understood.
pub(crate) async fn reject(
    worker: &Arc<Worker>,
    peer: &Peer,
    exchange: &mut Exchange,
    rejection: Rejection,
) -> After {
    let mut context = RequestContext::new(worker, peer, &exchange.request);
    let answer = rejection.respond(&mut context, exchange);
    answer::deliver(context, exchange, answer).await
}

/// Applies the operator's rules for every response.
fn rewrite(rules: &ResponseRewrite, fields: &mut Fields) {
    for name in &rules.remove {
        fields.remove(name.as_str());
    }
    for (name, value) in &rules.add_if_absent {
        if !fields.contains(name.as_str()) {
            fields.append(name.as_str(), value.as_bytes());
        }
    }
}

async fn route(
    context: &mut RequestContext<'_>,
    exchange: &mut Exchange,
) -> Result<Answer, Rejection> {
    let shared = &context.worker.shared;
    let oversize = protocol::oversize(&exchange.request, &shared.settings);
    // The marks of the client are read before the router adds its own headers.
    let fields = &exchange.request.fields;
    let timeline = shared.tracer.wanted(fields, context.host, &shared.lasting);
    context.record.traced(timeline);
    tracing_headers::apply(context, &mut exchange.request.fields, &shared.lasting);
    if let Some(answer) = healthcheck::answer(shared, exchange) {
        return Ok(answer);
    }
    let request = &mut exchange.request;
    if !shared.settings.log_format.extra_fields.is_empty() {
        context.record.client(context.peer.client.clone());
    }
    mtls::check(context, request)?;
    let target = lookup::find(shared, context, request).await?;
    if let Some(refusal) = oversize {
        // The access log line belongs to the app's log, so it names one of the app's endpoints.
        forward::log_endpoint(context, &target);
        return Err(Rejection::Refused(refusal));
    }
    let upgrade = protocol::upgrade(request);
    let leg = route_service::leg(shared, &target.pool, &mut request.fields, upgrade.is_some())?;
    let returned = matches!(leg, Leg::Returned);
    // A request that comes back from a route service was admitted on its way there.
    let within = if returned {
        Within::Anywhere
    } else {
        mtls::admit(context, &target.pool)?
    };
    let came = match &leg {
        Leg::Returned => Came::FromService,
        Leg::Straight if route_service::is_on_its_way(shared, &request.fields) => Came::ToService,
        _ => Came::FromClient,
    };
    forwarded::apply(context, &mut request.fields, &shared.settings, came);
    if let Leg::Out(out) = &leg {
        route_service::sign(shared, context, out, request)?;
    }
    let outgoing = Outgoing::new(request, upgrade);
    match &leg {
        Leg::Straight | Leg::Returned => {
            forward::forward(context, exchange, &target, within, outgoing).await
        }
        Leg::Out(out) => {
            Box::pin(route_service::forward(
                context, exchange, &target, out, outgoing,
            ))
            .await
        }
    }
}
