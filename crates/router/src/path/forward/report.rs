//! Reports of attempts: every attempt goes to metron, and failed ones go to the component log. The log's keys are gorouter's,
//! which tools look for; beside them are our own: route, instance and certificate names.

use crate::backend::fault::Fault;
use crate::backend::made::Made;
use crate::backend::peer;
use crate::observe::envelopes::Attempt;
use crate::observe::{access_log, registrations};
use crate::path::context::RequestContext;
use crate::path::exchange::Exchange;
use route_table::registry::{Consequence, Endpoint, Pool};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The log source of changes to endpoints: gorouter logs them as its registry's.
const REGISTRY: &str = "router::observe::registrations";

/// Logs an error that begins with its endpoint, with gorouter's keys.
macro_rules! log_endpoint_error {
    ($target:expr, $pool:expr, $endpoint:expr, $($more:tt)+) => {{
        let spec = $endpoint.spec();
        tracing::error!(
            target: $target,
            route = $pool.uri(),
            "route-endpoint.ApplicationId" = spec.app_id,
            "route-endpoint.Addr" = $endpoint.address(),
            "route-endpoint.Tags" = ?spec.tags,
            "route-endpoint.RouteServiceUrl" = spec.route_service_url,
            "route-endpoint.AZ" = spec.availability_zone,
            $($more)+
        )
    }};
}

/// Sends an event about an attempt that began at `since`, if the operator configured that. `endpoint`: `None` for a route
/// service.
pub(crate) fn attempt(
    context: &RequestContext<'_>,
    exchange: &Exchange,
    endpoint: Option<&Endpoint>,
    answered: bool,
    since: Instant,
) {
    let Some(envelopes) = &context.worker.shared.envelopes else {
        return;
    };
    if envelopes.wanted().client_events && envelopes.has_listener() {
        let client = &context.peer.address;
        envelopes.attempt(&Attempt {
            origin: context.record.origin(since, client, &exchange.request),
            endpoint,
            response: answered.then_some(&exchange.response),
        });
    }
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedAttempt<'a> {
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) fault: &'a Fault,
    /// The number of the attempt; the first is 1.
    pub(crate) attempt: usize,
    pub(crate) made: &'a Made,
    /// Whether another attempt may follow.
    pub(crate) retriable: bool,
}

impl FailedAttempt<'_> {
    /// Logs the fault, and records a failure at the endpoint if the fault is one.
    pub(crate) fn report(&self, context: &RequestContext<'_>, exchange: &Exchange, pool: &Pool) {
        let Self {
            endpoint,
            fault,
            made,
            ..
        } = *self;
        if matches!(
            fault,
            Fault::ClientGone | Fault::BadBody(_) | Fault::BodyTimeout
        ) {
            let address = endpoint.address();
            return tracing::debug!(route = pool.uri(), address, error = %fault, "client-gone");
        }
        let request_id = exchange.request.fields.text(context.request_id);
        let spec = endpoint.spec();
        if matches!(fault, Fault::Timeout) {
            tracing::error!(
                "route-endpoint.ApplicationId" = spec.app_id,
                "route-endpoint.Addr" = endpoint.address(),
                vcap_request_id = request_id,
                error = %fault,
                "backend-request-timeout"
            );
        }
        log_endpoint_error!(
            module_path!(),
            pool,
            endpoint,
            instance_id = peer::instance_guid(endpoint),
            attempt = self.attempt,
            vcap_request_id = request_id,
            "num-endpoints" = pool.len(),
            "got-connection" = made.connected,
            "wrote-headers" = made.wrote_head,
            "conn-reused" = made.reused,
            "dns-lookup-time" = 0.0,
            "dial-time" = seconds(made.dial),
            "tls-handshake-time" = seconds(made.tls),
            "local-address" = local(made),
            error = %fault,
            retriable = self.retriable,
            "backend-endpoint-failed"
        );
        context.worker.shared.metrics.fault(fault);
        let Some(failure) = fault.blame() else { return };
        match pool.fail(endpoint, failure, Instant::now()) {
            Consequence::Pruned => {
                registrations::failed(&context.worker.shared, pool.uri(), endpoint);
                self.report_pruned(pool);
            }
            Consequence::Marked => log_endpoint_error!(
                REGISTRY,
                pool,
                endpoint,
                error = %fault,
                "endpoint-marked-as-ineligible"
            ),
            Consequence::Gone => {}
        }
    }

    /// Writes the fault to the app's log stream. `again`: whether another attempt follows.
    pub(crate) fn report_to_app(
        &self,
        context: &RequestContext<'_>,
        exchange: &Exchange,
        took: Duration,
        again: bool,
    ) {
        let place = access_log::Place::Instance(self.endpoint);
        self.log_to_app(context, exchange, (self.endpoint, place), (took, again));
    }

    /// Writes the fault of a route service to the log stream of the app whose route is bound to it, if the route has an instance.
    pub(crate) fn report_service_to_app(
        &self,
        context: &RequestContext<'_>,
        exchange: &Exchange,
        (pool, service): (&Pool, &str),
        (took, again): (Duration, bool),
    ) {
        if let Some(owner) = pool.endpoints().first() {
            let place = access_log::Place::RouteService(service);
            self.log_to_app(context, exchange, (owner, place), (took, again));
        }
    }

    fn log_to_app(
        &self,
        context: &RequestContext<'_>,
        exchange: &Exchange,
        (owner, place): (&Endpoint, access_log::Place<'_>),
        (took, again): (Duration, bool),
    ) {
        let request = &exchange.request;
        let attempt = access_log::Attempt {
            host: request.fields.text(context.host),
            request,
            request_id: request.fields.text(context.request_id),
            owner,
            place,
            number: self.attempt,
            fault: self.fault,
            took,
            again,
        };
        context.worker.shared.access_log.attempt(&attempt);
    }

    fn report_pruned(&self, pool: &Pool) {
        let endpoint = self.endpoint;
        let (expected, presented) = match self.fault {
            Fault::WrongName {
                expected,
                presented,
            } => (expected.as_str(), presented.as_str()),
            _ => (endpoint.tls_name(), "-"),
        };
        log_endpoint_error!(
            REGISTRY,
            pool,
            endpoint,
            instance_id = peer::instance_guid(endpoint),
            expected_certificate_name = expected,
            presented_certificate_names = presented,
            endpoints_left = pool.len(),
            error = %self.fault,
            "prune-failed-endpoint"
        );
    }

    /// Logs a fault of a route service, which is no endpoint of the table.
    pub(crate) fn report_service(
        &self,
        context: &RequestContext<'_>,
        exchange: &Exchange,
        service: &str,
    ) {
        let made = self.made;
        tracing::error!(
            "route-service-endpoint" = service,
            attempt = self.attempt,
            vcap_request_id = exchange.request.fields.text(context.request_id),
            "got-connection" = made.connected,
            "wrote-headers" = made.wrote_head,
            "conn-reused" = made.reused,
            "dns-lookup-time" = 0.0,
            "dial-time" = seconds(made.dial),
            "tls-handshake-time" = seconds(made.tls),
            "local-address" = local(made),
            error = %self.fault,
            retriable = self.retriable,
            "route-service-connection-failed"
        );
    }
}

/// Returns the time in seconds. 0 means that the step was not done, or, for name resolution, that it is a part of the dial.
fn seconds(time: Option<Duration>) -> f64 {
    time.map_or(0.0, |time| time.as_secs_f64())
}

/// Returns our own address on a new connection.
fn local(made: &Made) -> String {
    made.local
        .map(|local| local.to_string())
        .unwrap_or_default()
}
