//! Every way in which the router itself says no, and the one place where that becomes a response.

use crate::backend::failure::Fault;
use crate::body::ResponseBody;
use crate::context::RequestContext;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;

const ROUTER_ERROR: HeaderName = HeaderName::from_static("x-cf-routererror");

#[derive(Debug)]
pub(crate) enum Rejection {
    BadRequest(&'static str),
    EmptyHost,
    UnknownRoute {
        host: String,
    },
    /// The route or the instance that an instance header names.
    UnknownInstance {
        host: String,
    },
    InvalidAppInstance,
    InvalidProcessInstance,
    NoEndpoints {
        host: String,
    },
    ConnectionLimit,
    RouteServiceUnsupported,
    RouteServiceWithoutUpgrade,
    /// The request for the service could not be made.
    RouteServiceBroken,
    /// A note that proves nothing, on a route with a service.
    RouteServiceSignature {
        expired: bool,
    },
    /// The same on a route without one, where the operator wants it checked.
    StrictSignature {
        expired: bool,
    },
    /// No endpoint could be picked though the pool is not empty.
    NoneAvailable,
    Backend(Fault),
    Panic,
}

/// Status, `X-Cf-RouterError` and what the body says after `<status> <reason>: `.
struct Answer {
    status: u16,
    error: String,
    message: String,
    cache: Option<&'static str>,
}

const BRIEFLY: Option<&str> = Some("public,max-age=2");
const NEVER: Option<&str> = Some("no-cache, no-store");

impl Rejection {
    fn answer(&self) -> Answer {
        let answer = |status, error: &str, message: &str, cache| Answer {
            status,
            error: error.into(),
            message: message.into(),
            cache,
        };
        match self {
            Self::BadRequest(why) => answer(400, "", why, None),
            Self::EmptyHost => answer(400, "empty_host", "Request had empty Host header", BRIEFLY),
            Self::UnknownRoute { host } => answer(
                404,
                "unknown_route",
                &format!("Requested route ('{host}') does not exist."),
                NEVER,
            ),
            Self::UnknownInstance { host } => answer(
                400,
                "unknown_route",
                &format!("Requested instance does not exist for route ('{host}')."),
                None,
            ),
            Self::InvalidAppInstance => answer(
                400,
                "invalid_cf_app_instance_header",
                "Invalid X-CF-App-Instance Header",
                None,
            ),
            Self::InvalidProcessInstance => answer(
                400,
                "invalid_cf_process_instance_header",
                "Invalid X-CF-Process-Instance Header",
                None,
            ),
            Self::NoEndpoints { host } => answer(
                503,
                "no_endpoints",
                &format!("Requested route ('{host}') has no available endpoints."),
                BRIEFLY,
            ),
            Self::ConnectionLimit => answer(
                503,
                "Connection Limit Reached",
                "Connection limit of every endpoint reached.",
                None,
            ),
            Self::RouteServiceUnsupported => answer(
                502,
                "route_service_unsupported",
                "Support for route services is disabled.",
                None,
            ),
            Self::RouteServiceWithoutUpgrade => answer(
                503,
                "route_service_unsupported",
                "Websocket requests are not supported for routes bound to Route Services.",
                None,
            ),
            Self::RouteServiceBroken => answer(500, "", "Route service request failed.", None),
            Self::RouteServiceSignature { expired } => {
                answer(if *expired { 504 } else { 502 }, "", SIGNATURE_FAILED, None)
            }
            Self::StrictSignature { expired: false } => answer(
                400,
                "invalid_route_service_signature",
                SIGNATURE_FAILED,
                None,
            ),
            Self::StrictSignature { expired: true } => answer(
                504,
                "expired_route_service_signature",
                SIGNATURE_FAILED,
                None,
            ),
            Self::NoneAvailable => answer(
                502,
                "endpoint_failure (No endpoints available)",
                ENDPOINT_FAILED,
                None,
            ),
            Self::Backend(fault) => answer(
                fault.status(),
                &format!("endpoint_failure ({fault})"),
                ENDPOINT_FAILED,
                None,
            ),
            Self::Panic => answer(
                502,
                "unknown_failure",
                "The router failed to handle the request.",
                None,
            ),
        }
    }

    pub(crate) fn respond(self, context: &mut RequestContext) -> Response<ResponseBody> {
        let Answer {
            status,
            error,
            message,
            cache,
        } = self.answer();
        context.worker.shared.metrics.rejected(&self);
        let reason = reason(status);
        let mut response =
            Response::new(ResponseBody::own(format!("{status} {reason}: {message}\n")));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        if response.status().canonical_reason() != Some(reason) {
            response
                .extensions_mut()
                .insert(ReasonPhrase::from_static(reason.as_bytes()));
        }
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(cache) = cache {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
        }
        if matches!(self, Self::BadRequest(_)) {
            // Who knows where the next request would begin.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if !error.is_empty() {
            let printable: String = error
                .chars()
                .map(|c| {
                    if c.is_ascii_graphic() || c == ' ' {
                        c
                    } else {
                        '?'
                    }
                })
                .collect();
            headers.insert(
                ROUTER_ERROR,
                HeaderValue::from_str(&printable)
                    .unwrap_or_else(|_| HeaderValue::from_static("endpoint_failure")),
            );
            context.log.router_error(printable);
        }
        response
    }
}

const SIGNATURE_FAILED: &str = "Failed to validate Route Service Signature";
const ENDPOINT_FAILED: &str = "Registered endpoint failed to handle the request.";

/// Reason phrases that no standard knows are gorouter's (and nginx's and Cloudflare's before it).
const fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        496 => "SSL Certificate Required",
        499 => "Request Cancelled",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        525 => "SSL Handshake Failed",
        526 => "Invalid SSL Certificate",
        _ => "Bad Gateway",
    }
}
