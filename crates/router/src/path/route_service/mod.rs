//! Route services. A request for a route that is bound to a service goes there first, with a sealed note of its original url;
//! when it returns with the note, it goes to the app.
//!
//! ```text
//!  client ──▶ router ──signed──▶ route service ──▶ router ──stripped──▶ app
//!              leg: Out                              leg: Returned
//! ```
//!
//! A service that is itself an app of this foundation is reached through the router's own table (hairpinning), if the operator
//! permits its name.

mod keys;
pub(crate) mod services;
mod signature;

#[cfg(test)]
pub(crate) use signature::Soundness;

use crate::backend::fault::Fault;
use crate::path::answer::Answer;
use crate::path::context::RequestContext;
use crate::path::exchange::Exchange;
use crate::path::forward::report::FailedAttempt;
use crate::path::forward::{self, Outgoing};
use crate::path::lookup::Target;
use crate::path::rejection::Rejection;
use crate::worker::Shared;
use http::Uri;
use http::uri::PathAndQuery;
use http1::{Fields, Known, Request};
use route_table::registry::{Pool, Within, request_host};
use services::InvalidNote;
use std::time::Instant;
use time::OffsetDateTime;

/// The part of its way that a request is on.
#[derive(Debug)]
pub(crate) enum Leg {
    /// The route has no service.
    Straight,
    /// The request goes to the service.
    Out(Out),
    /// The request returns from the service and goes to the app.
    Returned,
}

#[derive(Debug)]
pub(crate) struct Out {
    authority: String,
    path: PathAndQuery,
}

/// Returns whether a request is on its way to a route service by this router's own port: it carries a note that a router has
/// sealed for the url that it names.
pub(crate) fn is_on_its_way(shared: &Shared, fields: &Fields) -> bool {
    let Some(services) = &shared.route_services else {
        return false;
    };
    let Some(url) = fields.get(Known::XCfForwardedUrl) else {
        return false;
    };
    fields.contains(Known::XCfProxySignature)
        && services
            .noted(fields)
            .is_ok_and(|noted| noted.as_bytes() == url)
}

/// Decides which part of its way the request is on, and removes the note from a request that has returned.
pub(crate) fn leg(
    shared: &Shared,
    pool: &Pool,
    fields: &mut Fields,
    upgrade: bool,
) -> Result<Leg, Rejection> {
    let signed = fields.contains(Known::XCfProxySignature);
    let Some(url) = pool.route_service_url() else {
        return match &shared.route_services {
            Some(services) if services.settings.strict_signature_validation && signed => {
                match services.check(&shared.registry, fields, pool) {
                    Ok(()) => Ok(Leg::Straight),
                    Err(invalid) => Err(Rejection::StrictSignature {
                        expired: invalid == InvalidNote::Expired,
                    }),
                }
            }
            _ => Ok(Leg::Straight),
        };
    };
    let services = shared.route_services.as_ref();
    let services = services.ok_or(Rejection::RouteServiceUnsupported)?;
    if upgrade && !services.settings.websockets {
        return Err(Rejection::RouteServiceWithoutUpgrade);
    }
    if signed {
        services
            .check(&shared.registry, fields, pool)
            .map_err(|invalid| Rejection::RouteServiceSignature {
                expired: invalid == InvalidNote::Expired,
            })?;
        for name in [
            Known::XCfProxySignature,
            Known::XCfProxyMetadata,
            Known::XCfForwardedUrl,
        ] {
            fields.remove(name);
        }
        return Ok(Leg::Returned);
    }
    let uri: Uri = url.parse().map_err(|_| Rejection::RouteServiceFailed)?;
    let authority = uri.authority().ok_or(Rejection::RouteServiceFailed)?;
    Ok(Leg::Out(Out {
        authority: authority.as_str().to_owned(),
        path: uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
    }))
}

/// Turns a request for an app into one for its service.
pub(crate) fn sign(
    shared: &Shared,
    context: &RequestContext<'_>,
    out: &Out,
    request: &mut Request,
) -> Result<(), Rejection> {
    let services = shared.route_services.as_ref();
    let services = services.ok_or(Rejection::RouteServiceUnsupported)?;
    let scheme = if services.settings.recommend_https {
        "https"
    } else {
        "http"
    };
    let host = request_host(request.fields.text(context.host));
    let path = String::from_utf8_lossy(request.target());
    let port = services.settings.return_port;
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let url = format!("{scheme}://{host}{port}{path}");
    let sealed = services.keys.seal(&url, OffsetDateTime::now_utc());
    let sealed = sealed.ok_or(Rejection::RouteServiceFailed)?;
    for (name, value) in [
        (Known::XCfForwardedUrl, &url),
        (Known::XCfProxySignature, &sealed.signature),
        (Known::XCfProxyMetadata, &sealed.metadata),
        (Known::Host, &out.authority),
    ] {
        request.fields.set(name, value.as_bytes());
    }
    request.set_target(out.path.as_str().as_bytes());
    Ok(())
}

/// Sends a signed request to the service: through the router's own table, or to an external address. `bound`: the target whose route is
/// bound to the service.
pub(crate) async fn forward(
    context: &mut RequestContext<'_>,
    exchange: &mut Exchange,
    bound: &Target,
    out: &Out,
    mut outgoing: Outgoing,
) -> Result<Answer, Rejection> {
    let shared = &context.worker.shared;
    let services = shared.route_services.as_ref();
    let services = services.ok_or(Rejection::RouteServiceUnsupported)?;
    let host = request_host(&out.authority);
    if services.may_hairpin(host)
        && let Some(pool) = shared.registry.lookup(host, out.path.path())
    {
        if pool.is_empty() {
            let host = host.to_owned();
            return Err(Rejection::NoEndpoints { host });
        }
        if pool.route_service_url().is_some() {
            // The request would need a note of its own, but it carries that of another route.
            return Err(Rejection::RouteServiceSignature { expired: false });
        }
        let target = Target::any(pool);
        let within = Within::Anywhere;
        let answer = forward::forward(context, exchange, &target, within, outgoing).await;
        let status = answer.as_ref().map_or(0, |_| exchange.response.status);
        shared.metrics.route_services.add(status);
        return answer;
    }
    let endpoint = services.endpoint(&shared.registry, &out.authority);
    outgoing.for_route_service();
    let mut now = Instant::now();
    context.record.backend_begins(now);
    exchange.client.mark();
    let mut attempt = 1;
    loop {
        context.record.attempt_at_service(&endpoint, now);
        let tried = forward::attempt(exchange, &endpoint, &mut outgoing, now).await;
        context.record.attempt_ended(outgoing.made, tried.is_err());
        forward::report::attempt(context, exchange, None, tried.is_ok(), now);
        match tried {
            Ok(delivery) => {
                let route = &out.authority;
                shared.metrics.route_services.add(exchange.response.status);
                return forward::accept(context, route, &endpoint, exchange, &outgoing, delivery);
            }
            Err(fault) => {
                let failed = FailedAttempt {
                    endpoint: &endpoint,
                    fault: &fault,
                    attempt,
                    made: &outgoing.made,
                    retriable: outgoing.may_repeat(&fault, &exchange.client),
                };
                failed.report_service(context, exchange, &out.authority);
                let again = failed.retriable
                    && !matches!(fault, Fault::Blocked { .. })
                    && attempt < services.settings.max_attempts;
                let bound = (&*bound.pool, out.authority.as_str());
                failed.report_service_to_app(context, exchange, bound, (now.elapsed(), again));
                context.record.attempt_failed(&fault, again);
                if !again {
                    shared.metrics.route_services.add(0);
                    return Err(Rejection::Backend(fault));
                }
                attempt += 1;
                now = Instant::now();
            }
        }
    }
}
