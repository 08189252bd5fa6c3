//! Every reason why the router itself answers a request, and the one place that turns such a rejection into a response.

use crate::backend::fault::Fault;
use crate::error_page;
use crate::observe::metrics::Metrics;
use crate::path::answer::Answer;
use crate::path::context::RequestContext;
use crate::path::exchange::Exchange;
use http1::{Known, Refusal, Request};

/// The reason why the router itself answers a request, in place of a backend.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// The request is malformed, so it is unknown where the next one would begin.
    Refused(Refusal),
    EmptyHost,
    UnknownRoute {
        host: String,
    },
    /// The route or the instance that an instance header names is unknown.
    UnknownInstance {
        host: String,
        instance: String,
    },
    InvalidAppInstance,
    InvalidProcessInstance,
    NoEndpoints {
        host: String,
    },
    ConnectionLimit {
        host: String,
    },
    RouteServiceUnsupported,
    RouteServiceWithoutUpgrade,
    /// The request for the service could not be made.
    RouteServiceFailed,
    /// The signature of the route service is invalid or expired, on a route with a service.
    RouteServiceSignature {
        expired: bool,
    },
    /// The signature is invalid or expired on a route without a service, where the operator requires that it is checked.
    StrictSignature {
        expired: bool,
    },
    /// No endpoint could be picked although the pool is not empty.
    NoneAvailable,
    Backend(Fault),
    Panic,
    /// The host is not one that the connection's handshake was for.
    Misdirected,
    /// The route's policy does not name the caller, or the caller's identity is unknown.
    PolicyDenied,
}

/// An answer of the router: the status, the `X-Cf-RouterError` and the text of the body after `<status> <reason>: `.
struct OwnAnswer {
    status: u16,
    error: String,
    message: String,
    cache: Option<&'static str>,
}

const BRIEFLY: Option<&str> = Some("public,max-age=2");
const NEVER: Option<&str> = Some("no-cache, no-store");

impl Rejection {
    /// Returns the answer. `compat`: whether it has gorouter's statuses.
    fn answer(&self, compat: bool) -> OwnAnswer {
        let answer = |status, error: &str, message: &str, cache| OwnAnswer {
            status,
            error: error.into(),
            message: message.into(),
            cache,
        };
        match self {
            Self::Refused(why) => answer(why.status(), refusal_error(*why), &why.to_string(), None),
            Self::EmptyHost => answer(400, "empty_host", "Request had empty Host header", BRIEFLY),
            Self::UnknownRoute { host } => answer(
                404,
                "unknown_route",
                &format!("Requested route ('{host}') does not exist."),
                NEVER,
            ),
            Self::UnknownInstance { host, instance } => answer(
                400,
                "unknown_route",
                &format!("Requested {instance} does not exist for route ('{host}')"),
                NEVER,
            ),
            Self::InvalidAppInstance => answer(
                400,
                "invalid_cf_app_instance_header",
                "Invalid X-CF-App-Instance Header",
                NEVER,
            ),
            Self::InvalidProcessInstance => answer(
                400,
                "invalid_cf_process_instance_header",
                "Invalid X-CF-Process-Instance Header",
                NEVER,
            ),
            Self::NoEndpoints { host } => answer(
                503,
                "no_endpoints",
                &format!("Requested route ('{host}') has no available endpoints."),
                BRIEFLY,
            ),
            Self::ConnectionLimit { host } => answer(
                503,
                "Connection Limit Reached",
                &format!("Requested route ('{host}') has reached the connection limit."),
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
            Self::RouteServiceFailed => answer(500, "", "Route service request failed.", None),
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
            Self::Backend(Fault::BadBody(why)) => answer(why.status(), "", &why.to_string(), None),
            Self::Backend(fault @ (Fault::BodyTimeout | Fault::NotForHttp2)) => {
                answer(fault.status(), "", &fault.to_string(), None)
            }
            Self::Backend(Fault::Timeout) if compat => answer(
                502,
                &format!("endpoint_failure ({})", Fault::Timeout),
                ENDPOINT_FAILED,
                None,
            ),
            Self::Backend(fault) => {
                let status = fault.status();
                // As in gorouter, only 502 has a text; the other statuses explain themselves.
                let message = if status == 502 { ENDPOINT_FAILED } else { "" };
                answer(
                    status,
                    &format!("endpoint_failure ({fault})"),
                    message,
                    None,
                )
            }
            Self::Misdirected => answer(
                421,
                "misdirected_request",
                "The host and the name in the TLS handshake are of different domains.",
                None,
            ),
            Self::PolicyDenied => answer(
                403,
                "route_policy_denied",
                "The route's policy does not admit the caller.",
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

    pub(crate) fn respond(
        self,
        context: &mut RequestContext<'_>,
        exchange: &mut Exchange,
    ) -> Answer {
        let worker = context.worker;
        let shared = &worker.shared;
        let OwnAnswer {
            status,
            error,
            message,
            cache,
        } = self.answer(shared.lasting.compat_gorouter);
        self.count(&shared.metrics, status);
        self.log();
        let reason = reason(status);
        exchange.response.begin(status, reason);
        let fields = &mut exchange.response.fields;
        let page = shared.settings.error_page.as_ref();
        // gorouter does not apply its templates to faults of backends.
        let page = page.filter(|_| !error.starts_with("endpoint_failure"));
        let form: &[u8] = if page.is_some() {
            b"text/html; charset=utf-8"
        } else {
            b"text/plain; charset=utf-8"
        };
        fields.append(Known::ContentType, form);
        fields.append(Known::XContentTypeOptions, b"nosniff");
        if let Some(cache) = cache {
            fields.append(Known::CacheControl, cache.as_bytes());
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
            fields.append(Known::XCfRouterError, printable.as_bytes());
            context.record.router_error(printable);
        }
        let help = match shared.settings.error_help {
            true => help(context, &exchange.request),
            false => String::new(),
        };
        let body = match page {
            None if message.is_empty() => format!("{status} {reason}\n{help}"),
            None => format!("{status} {reason}: {message}\n{help}"),
            Some(page) => {
                let fields = exchange.response.fields.iter();
                let headers: Vec<_> = fields
                    .filter_map(|(name, value)| {
                        let name = std::str::from_utf8(name).ok()?;
                        Some((name, std::str::from_utf8(value).ok()?))
                    })
                    .collect();
                page.render(&error_page::PageValues {
                    status,
                    reason,
                    message: &message,
                    headers: &headers,
                })
            }
        };
        Answer::Own {
            body: body.into_bytes(),
            close: self.ends_connection(),
        }
    }

    /// Counts the rejection as gorouter does: a request without a matching route or instance is rejected; one that endpoints failed
    /// to answer is a bad gateway. `status`: the status that the client gets.
    pub(crate) fn count(&self, metrics: &Metrics, status: u16) {
        match self {
            Self::EmptyHost
            | Self::UnknownRoute { .. }
            | Self::UnknownInstance { .. }
            | Self::InvalidAppInstance
            | Self::InvalidProcessInstance
            | Self::Misdirected
            | Self::PolicyDenied => metrics.rejected_requests.add(1),
            Self::Backend(_) | Self::NoneAvailable if status == 502 => {
                metrics.bad_gateways.add(1);
            }
            Self::Refused(Refusal::ContentLengthEmpty) => {
                metrics.empty_content_length_header.add(1);
            }
            _ => {}
        }
    }

    /// Logs the rejection, where gorouter logs it. The code that tries an endpoint logs its fault.
    fn log(&self) {
        let expired = match self {
            Self::InvalidAppInstance => {
                return tracing::error!("invalid-app-instance-header");
            }
            Self::InvalidProcessInstance => {
                return tracing::error!("invalid-process-instance-header");
            }
            Self::RouteServiceUnsupported | Self::RouteServiceWithoutUpgrade => {
                return tracing::info!("route-service-unsupported");
            }
            Self::RouteServiceSignature { expired } | Self::StrictSignature { expired } => *expired,
            _ => return,
        };
        let error = if expired {
            "expired"
        } else {
            "invalid signature"
        };
        tracing::error!(error, "signature-validation-failed");
    }

    /// Returns whether the client's bytes cannot be understood any more, or will never arrive.
    fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::Panic
                | Self::Backend(Fault::BadBody(_) | Fault::BodyTimeout | Fault::ClientGone)
        )
    }
}

/// Returns the lines of an error for people: the request's id, and the command that explains the route.
fn help(context: &RequestContext<'_>, request: &Request) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let id = text(request.fields.slice(context.request_id));
    let host = text(request.fields.slice(context.host));
    let target = text(request.received_target());
    let path = target.split('?').next().unwrap_or_default();
    let url = format!("{host}{}", path.trim_end_matches('/'));
    // People copy the command to a shell, so it has no character that means something there.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "./:_-~".contains(c);
    let mut help = String::new();
    if !id.is_empty() {
        help.push_str(&format!("Request id: {id}\n"));
    }
    let is_host = host.starts_with(|c: char| c.is_ascii_alphanumeric());
    if is_host && path.starts_with('/') && url.chars().all(is_plain) {
        help.push_str(&format!("Ask why: cupola why {url}\n"));
    }
    help
}

/// Returns the `X-Cf-RouterError` of a request that could not be read; empty: none.
pub(crate) fn refusal_error(why: Refusal) -> &'static str {
    match why.status() {
        431 => "max-request-size-exceeded",
        _ => "",
    }
}

const SIGNATURE_FAILED: &str = "Failed to validate Route Service Signature";
const ENDPOINT_FAILED: &str = "Registered endpoint failed to handle the request.";

/// Returns gorouter's reason phrase for statuses that no standard defines (nginx and Cloudflare used them before).
pub(crate) const fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        421 => "Misdirected Request",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        496 => "SSL Certificate Required",
        499 => "Request Cancelled",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        525 => "SSL Handshake Failed",
        526 => "Invalid SSL Certificate",
        _ => "Bad Gateway",
    }
}
