//! Forwards a request to a backend: picks an endpoint, sends, and when that fails, decides what the fault means and whether
//! another endpoint is tried (as gorouter `proxy/round_tripper`).

pub(crate) mod report;

use crate::backend::connect;
use crate::backend::fault::Fault;
use crate::backend::made::Made;
use crate::backend::{Connected, Lane, Need, peer};
use crate::config::Serving;
use crate::path::answer::Answer;
use crate::path::context::RequestContext;
use crate::path::exchange::{Delivery, Exchange, Upload};
use crate::path::lookup::Target;
use crate::path::protocol::{self, Upgrade, patience};
use crate::path::rejection::Rejection;
use crate::path::sticky::{self, Sticky};
use crate::path::{forwarded, switching};
use crate::worker::Shared;
use http::uri::Scheme;
use http_sides::{Http2, Side, request_to_http2};
use http1::{Fields, Framing, Known, Request};
use report::FailedAttempt;
use route_table::registry::{Attempts, Endpoint, InFlight, NoPick, Pool, Want, Within};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The conditions under which a request is sent. The request itself is the exchange's.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Whether a backend may see the request twice without harm.
    repeatable: bool,
    upgrade: Option<Upgrade>,
    /// Whether it goes to a route service and not to an app.
    to_service: bool,
    /// The last connection that was made for it.
    pub(crate) made: Made,
    /// The bytes of its body that arrived during the last attempt.
    pub(crate) received: u64,
}

impl Outgoing {
    pub(crate) fn new(request: &Request, upgrade: Option<Upgrade>) -> Self {
        let idempotent = matches!(request.method(), "GET" | "HEAD" | "OPTIONS" | "TRACE")
            || request.fields.contains(Known::IdempotencyKey)
            || request.fields.contains(Known::XIdempotencyKey);
        Self {
            repeatable: idempotent && upgrade.is_none(),
            upgrade,
            to_service: false,
            made: Made::default(),
            received: 0,
        }
    }

    pub(crate) fn for_route_service(&mut self) {
        self.to_service = true;
    }

    /// Returns whether the request can be sent again after this fault.
    pub(crate) fn may_repeat(&self, fault: &Fault, client: &Side) -> bool {
        client.may_rewind()
            && fault.may_repeat()
            && (fault.came_before_request() || self.repeatable)
    }

    /// Returns whether the request can be sent again after this fault of a connection that was used before. The backend may have
    /// closed it because of its age while the request went out.
    fn may_repeat_on_new(&self, fault: &Fault, client: &Side) -> bool {
        let closed = matches!(fault, Fault::Ended | Fault::Reset) && self.repeatable;
        client.may_rewind() && (closed || matches!(fault, Fault::Unsent))
    }

    /// Sets the header fields that depend on the endpoint and on its connection.
    fn set_endpoint_fields(
        &self,
        request: &mut Request,
        endpoint: &Endpoint,
        http2: bool,
        keep_alive: bool,
    ) {
        let fields = &mut request.fields;
        if !self.to_service {
            for (name, value) in [
                (Known::XCfApplicationId, peer::app_id(endpoint)),
                (Known::XCfInstanceId, endpoint.instance_id()),
                (Known::XCfInstanceIndex, peer::instance_index(endpoint)),
            ] {
                if value.is_empty() {
                    fields.remove(name);
                } else {
                    fields.set(name, value.as_bytes());
                }
            }
        }
        if let Some(upgrade) = &self.upgrade {
            fields.set(Known::Connection, b"Upgrade");
            fields.set_span(Known::Upgrade, upgrade.token);
        } else if !keep_alive {
            fields.set(Known::Connection, b"close");
        }
        if http2 {
            return;
        }
        match request.framing {
            Framing::Chunked => fields.set(Known::TransferEncoding, b"chunked"),
            // Some servers answer 411 to a method that usually has a body if the request states no length.
            Framing::None
                if self.upgrade.is_none()
                    && matches!(request.method(), "POST" | "PUT" | "PATCH") =>
            {
                request.fields.set(Known::ContentLength, b"0");
            }
            _ => {}
        }
    }
}

/// The request's preferences about its endpoint.
#[derive(Debug)]
struct Preferences<'w> {
    /// The endpoints that the caller may reach.
    within: Within<'w>,
    sticky: Option<Sticky>,
    hash: Option<Vec<u8>>,
    /// Whether it goes to a route service. A client's session is with the app, so it does not stick to a service's instances.
    to_service: bool,
    /// Whether the client may learn which backend served it.
    traced: bool,
}

impl<'w> Preferences<'w> {
    fn of(fields: &Fields, pool: &Pool, settings: &Serving, within: Within<'w>) -> Self {
        let to_service = fields.contains(Known::XCfProxySignature);
        Self {
            within,
            sticky: sticky::wanted(fields, settings).filter(|_| !to_service),
            hash: pool.hash_header().and_then(|header| {
                let value = fields.get(header.as_str())?;
                (!value.is_empty()).then(|| value.to_vec())
            }),
            to_service,
            traced: !settings.trace_key.is_empty()
                && fields.get(Known::XVcapTrace) == Some(settings.trace_key.as_bytes()),
        }
    }

    fn want<'a>(
        &'a self,
        target: &'a Target,
        tried: &'a [Arc<Endpoint>],
        settings: &'a Serving,
    ) -> Want<'a> {
        let sticky = self.sticky.as_ref();
        let mandatory = sticky.is_some_and(|sticky| sticky.mandatory);
        Want {
            instance: target.instance(),
            within: self.within,
            // Only the first attempt is sticky, unless stickiness is mandatory.
            sticky: sticky
                .filter(|_| mandatory || tried.is_empty())
                .map(|sticky| sticky.instance.as_str()),
            mandatory,
            hash: self.hash.as_deref(),
            zone: settings.prefer_zone.as_deref().filter(|_| tried.is_empty()),
            tried,
            max_conns: settings.max_conns_per_endpoint,
        }
    }

    /// Adds the header fields by which the client learns of the endpoint.
    fn add_fields_about_endpoint(
        &self,
        fields: &mut Fields,
        pool: &Pool,
        endpoint: &Endpoint,
        shared: &Shared,
    ) {
        if !self.to_service {
            let settings = &shared.settings;
            sticky::remember(fields, self.sticky.as_ref(), pool, endpoint, settings);
        }
        if self.traced {
            let router = shared.lasting.ip.to_string();
            fields.set(Known::XVcapRouter, router.as_bytes());
            fields.set(Known::XVcapBackend, endpoint.address().as_bytes());
            fields.set(Known::XCfRouteEndpoint, endpoint.address().as_bytes());
        }
    }
}

pub(crate) async fn forward(
    context: &mut RequestContext<'_>,
    exchange: &mut Exchange,
    target: &Target,
    within: Within<'_>,
    mut outgoing: Outgoing,
) -> Result<Answer, Rejection> {
    let settings = &context.worker.shared.settings;
    let pool = &target.pool;
    let preferences = Preferences::of(&exchange.request.fields, pool, settings, within);
    let mut attempts = Attempts::new(settings.max_attempts);
    let mut last: Option<Fault> = None;
    let mut now = Instant::now();
    context.record.backend_begins(now);
    exchange.client.mark();
    loop {
        let want = preferences.want(target, attempts.tried(), settings);
        let endpoint = match pool.pick(&want, now) {
            Ok(endpoint) => endpoint,
            Err(reason) => {
                let host = exchange.request.fields.text(context.host);
                // The last endpoint may have left since the route was found. The request counts as one that came a moment later.
                let left = match last {
                    None => target.rejection_if_empty(host, settings.empty_pool_503),
                    Some(_) => None,
                };
                return Err(left.unwrap_or_else(|| none_left(context, host, reason, last)));
            }
        };
        context.record.attempt_begins(&endpoint, now);
        let metrics = &context.worker.shared.metrics;
        metrics.traffic.requested(peer::component(&endpoint));
        let tried_once = attempt(exchange, &endpoint, &mut outgoing, now).await;
        let answered = tried_once.is_ok();
        report::attempt(context, exchange, Some(&endpoint), answered, now);
        let failed = tried_once.is_err();
        context.record.attempt_ended(outgoing.made, failed);
        let fault = match tried_once {
            Ok(delivery) => {
                let route = pool.uri();
                context.record.backend_answered(&exchange.response.fields);
                let answer = accept(context, route, &endpoint, exchange, &outgoing, delivery)?;
                let shared = &context.worker.shared;
                let fields = &mut exchange.response.fields;
                preferences.add_fields_about_endpoint(fields, pool, &endpoint, shared);
                return Ok(answer);
            }
            Err(fault) => fault,
        };
        context.record.received = outgoing.received;
        let failed = FailedAttempt {
            endpoint: &endpoint,
            fault: &fault,
            attempt: attempts.tried().len() + 1,
            made: &outgoing.made,
            retriable: outgoing.may_repeat(&fault, &exchange.client),
        };
        failed.report(context, exchange, pool);
        let want = preferences.want(target, &[], settings);
        let again =
            attempts.failed(pool, endpoint.clone(), fault.blame(), &want, now) && failed.retriable;
        failed.report_to_app(context, exchange, now.elapsed(), again);
        context.record.attempt_failed(&fault, again);
        if !again {
            return Err(Rejection::Backend(fault));
        }
        last = Some(fault);
        now = Instant::now();
    }
}

/// Picks an endpoint for the log's line although no request is sent to it.
pub(crate) fn log_endpoint(context: &mut RequestContext<'_>, target: &Target) {
    let want = Want {
        instance: target.instance(),
        ..Want::default()
    };
    if let Ok(endpoint) = target.pool.pick(&want, Instant::now()) {
        context.record.endpoint(endpoint);
    }
}

/// Returns the rejection when no endpoint is left. An earlier attempt's fault explains more than "none left".
fn none_left(
    context: &RequestContext<'_>,
    host: &str,
    reason: NoPick,
    last: Option<Fault>,
) -> Rejection {
    let log = || {
        tracing::error!(
            host,
            error = "No endpoints available",
            "select-endpoint-failed"
        )
    };
    match (last, reason) {
        (Some(fault), NoPick::None) => {
            log();
            Rejection::Backend(fault)
        }
        (Some(fault), _) => Rejection::Backend(fault),
        (None, NoPick::Full) => {
            context.worker.shared.metrics.backend_exhausted_conns.add(1);
            tracing::info!("connection-limit-reached");
            Rejection::ConnectionLimit {
                host: host.to_owned(),
            }
        }
        (None, NoPick::None | NoPick::Tried) => {
            log();
            Rejection::NoneAvailable
        }
    }
}

/// The pauses before the same endpoint is tried again, on a new connection, after it refused a request unseen (RFC 9113, 8.7:
/// such a request may be sent again, whatever its method). Other endpoints are tried after these.
const AFTER_REFUSALS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(160),
];

/// Tries one endpoint. A reused connection that proves dead before the backend saw the request costs no attempt: the same
/// endpoint is tried again on a new one.
pub(crate) async fn attempt(
    exchange: &mut Exchange,
    endpoint: &Arc<Endpoint>,
    outgoing: &mut Outgoing,
    mut now: Instant,
) -> Result<Delivery, Fault> {
    let worker = exchange.worker.clone();
    let in_flight = InFlight::new(endpoint.clone());
    let need = Need {
        http1_only: outgoing.upgrade.is_some(),
        body: exchange.request.framing != Framing::None,
        to_service: outgoing.to_service,
    };
    outgoing.made = Made::default();
    let began = now;
    let mut fresh = false;
    let mut refusals = AFTER_REFUSALS.into_iter();
    loop {
        let idle = if fresh {
            None
        } else {
            let transport = endpoint.transport();
            worker.connections.take(transport, need, now)
        };
        let reused = idle.is_some();
        let connected = match idle {
            Some(connected) => connected,
            None => {
                let made = &mut outgoing.made;
                // This future is seldom needed and large, so it is boxed and not a part of every connection's task.
                let connecting = connect::connect(&worker, endpoint, need, made);
                let connected = Box::pin(connecting).await?;
                now = Instant::now();
                connected
            }
        };
        outgoing.made.connected = true;
        outgoing.made.reused = reused;
        let settings = &worker.shared.settings;
        if let Connected::Http1(side) = &connected
            && reused
            && settings.log_format.logs_local_address()
        {
            outgoing.made.local = side.local_addr();
        }
        let deadline = now + protocol::endpoint_timeout(settings, exchange.request.version);
        let mut upload = Upload::default();
        match send(
            exchange,
            endpoint,
            connected,
            outgoing,
            &mut upload,
            deadline,
        )
        .await
        {
            Ok(backend) => {
                exchange.client.forget_mark();
                return Ok(Delivery {
                    backend,
                    transport: endpoint.transport(),
                    in_flight,
                    // A request for a tunnel may last like a tunnel, whatever the backend answered (as in gorouter).
                    deadline: if need.http1_only {
                        now + patience(Duration::ZERO)
                    } else {
                        deadline
                    },
                    upload,
                    status: exchange.response.status,
                    sent: 0,
                    keep_alive: exchange.response.keep_alive,
                });
            }
            Err(fault) if reused && outgoing.may_repeat_on_new(&fault, &exchange.client) => {
                (fresh, now) = (true, Instant::now());
                outgoing.made.lost = now - began;
            }
            Err(Fault::StreamRefused) if exchange.client.may_rewind() && refusals.len() > 0 => {
                if let Some(pause) = refusals.next() {
                    tokio::time::sleep(pause).await;
                }
                (fresh, now) = (true, Instant::now());
                outgoing.made.lost = now - began;
            }
            Err(fault) => {
                outgoing.received = upload.received;
                outgoing.made.wrote_head = upload.head_is_out();
                return Err(fault);
            }
        }
    }
}

async fn send(
    exchange: &mut Exchange,
    endpoint: &Endpoint,
    connected: Connected,
    outgoing: &Outgoing,
    upload: &mut Upload,
    deadline: Instant,
) -> Result<Side, Fault> {
    exchange.client.rewind();
    let http2 = matches!(connected, Connected::Http2(_));
    let keep_alive = exchange.worker.connections.keeps_any();
    outgoing.set_endpoint_fields(&mut exchange.request, endpoint, http2, keep_alive);
    let mut backend = match connected {
        Connected::Http1(mut side) => {
            side.send_request(&exchange.request);
            Side::Http1(side)
        }
        Connected::Http2(lane) => {
            let scheme = if peer::is_tls(endpoint) {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            };
            let sent = begin_http2(&exchange.request, lane, scheme);
            let deadline = tokio::time::Instant::from_std(deadline);
            let side = tokio::time::timeout_at(deadline, sent).await;
            Side::Http2(Box::new(side.map_err(|_| Fault::Timeout)??))
        }
    };
    let answered = exchange.await_answer(&mut backend, upload, deadline).await;
    match answered {
        Ok(()) => Ok(backend),
        Err(fault) => {
            backend.abort();
            Err(fault)
        }
    }
}

async fn begin_http2(request: &Request, lane: Lane, scheme: Scheme) -> Result<Http2, Fault> {
    let head = request_to_http2(request, scheme).ok_or(Fault::NotForHttp2)?;
    let ended = request.framing == Framing::None;
    // A connection that has ended in the meantime has not seen the request.
    let Lane { sender, share } = lane;
    let mut sender = sender.ready().await.map_err(|_| Fault::StreamRefused)?;
    let (answer, body) = sender
        .send_request(head, ended)
        .map_err(|_| Fault::StreamRefused)?;
    Ok(Http2::to_backend(answer, body, ended, share))
}

/// Accepts a backend's response: it becomes the client's, without the fields that end at a hop.
pub(crate) fn accept(
    context: &mut RequestContext<'_>,
    route: &str,
    endpoint: &Arc<Endpoint>,
    exchange: &mut Exchange,
    outgoing: &Outgoing,
    delivery: Delivery,
) -> Result<Answer, Rejection> {
    let metrics = &context.worker.shared.metrics;
    let response = &mut exchange.response;
    if response.status == 101 {
        let upgrade = outgoing.upgrade.as_ref();
        let websocket = switching::check(&exchange.request, upgrade, response)
            .map_err(|why| Rejection::Backend(Fault::BadResponse(why.into())))?;
        metrics.websocket_upgrades.add(1);
        tracing::debug!(uri = route, backend = endpoint.address(), "upgraded");
        return Ok(Answer::Switch {
            delivery,
            websocket,
        });
    }
    if outgoing.upgrade.is_some() {
        metrics.websocket_failures.add(1);
    }
    forwarded::apply_to_response(&mut response.fields);
    Ok(Answer::Backend(delivery))
}
