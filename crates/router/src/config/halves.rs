//! The settings in two halves: those that last as long as the process, and those of one generation of workers.
//!
//! [`Settings`] is what an operator configures. A running router holds it in two halves. [`Lasting`] is read once, by tasks and
//! stores that a reload does not touch (the table, the bus, the logs, the metrics), and by all code that must agree with them.
//! [`Serving`] belongs to one generation. A key is in one half only, so it is either reloaded or not, never partly: code that
//! uses it has to name the half that it reads.

use super::*;

/// The halves in which two settings differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Whether values differ that last as long as the process.
    pub lasting: bool,
    /// Whether values differ that a reload replaces.
    pub serving: bool,
}

impl Settings {
    /// Compares with other settings. It compares debug texts, because not every value can be compared otherwise.
    pub fn difference(&self, other: &Self) -> Difference {
        let halves = |settings: &Self| {
            let (lasting, serving) = settings.clone().split();
            (format!("{lasting:?}"), format!("{serving:?}"))
        };
        let (own, others) = (halves(self), halves(other));
        Difference {
            lasting: own.0 != others.0,
            serving: own.1 != others.1,
        }
    }
}

/// The settings that stay as they were at the start of the process.
#[derive(Clone, Debug)]
pub(crate) struct Lasting {
    pub(crate) index: u32,
    pub(crate) ip: IpAddr,
    pub(crate) start_delay: Duration,
    pub(crate) register_interval: Duration,
    pub(crate) prune_interval: Duration,
    pub(crate) stale_threshold: Duration,
    pub(crate) keep_silent_tls_endpoints: bool,
    pub(crate) empty_pool_timeout: Duration,
    pub(crate) keep_unregistered_routes: bool,
    pub(crate) route_latency_muzzle: Duration,
    pub(crate) hold_timeout: Duration,
    pub(crate) suspend_pruning_if_nats_unavailable: bool,
    pub(crate) bus_pending_limit: usize,
    pub(crate) sharding: Sharding,
    pub(crate) component_hosts: Option<ComponentHosts>,
    pub(crate) compat_gorouter: bool,
    pub(crate) http2: bool,
    pub(crate) zipkin: bool,
    pub(crate) w3c: bool,
    pub(crate) w3c_tenant: String,
    pub(crate) otlp: Option<Otlp>,
    pub(crate) balancing: Balancing,
    pub(crate) access_log_rotation: Option<Rotation>,
    pub(crate) buckets: Buckets,
    pub(crate) per_request_metrics: bool,
    pub(crate) per_app_metrics: bool,
    pub(crate) deprecated_pages: bool,
    pub(crate) metron: Metron,
    pub(crate) logged_headers: Vec<HeaderName>,
    pub(crate) syslog: Option<Syslog>,
}

/// The settings that a reload replaces. A request ends with the ones that it began with.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) workers: usize,
    pub(crate) max_attempts: usize,
    pub(crate) dial_timeout: Duration,
    pub(crate) tls_handshake_timeout: Duration,
    pub(crate) endpoint_timeout: Duration,
    pub(crate) http2_endpoint_timeout: Duration,
    pub(crate) max_conns_per_endpoint: u32,
    pub(crate) max_idle_per_endpoint: usize,
    pub(crate) backend_idle_timeout: Duration,
    pub(crate) frontend_idle_timeout: Duration,
    pub(crate) read_header_timeout: Duration,
    pub(crate) body_idle_timeout: Duration,
    pub(crate) http2_cleartext: bool,
    pub(crate) max_request_head: usize,
    pub(crate) max_request_headers: usize,
    pub(crate) max_response_head: usize,
    pub(crate) max_response_headers: usize,
    pub(crate) front_tls: FrontTls,
    pub(crate) proxy_protocol: bool,
    pub(crate) system_backend_cas: bool,
    pub(crate) backend_terms: TlsTerms,
    pub(crate) empty_pool_503: bool,
    pub(crate) force_forwarded_proto_https: bool,
    pub(crate) sanitize_forwarded_proto: bool,
    pub(crate) forwarded_client_cert: ForwardedClientCert,
    pub(crate) hop_by_hop_headers_to_filter: Vec<String>,
    pub(crate) trace_key: String,
    pub(crate) sticky_cookies: Vec<String>,
    pub(crate) secure_cookies: bool,
    pub(crate) sticky_for_auth_negotiate: bool,
    pub(crate) prefer_zone: Option<String>,
    pub(crate) healthcheck_user_agent: String,
    pub(crate) log_format: LogFormat,
    pub(crate) response_rewrite: ResponseRewrite,
    pub(crate) route_services: Option<RouteServices>,
    pub(crate) error_page: Option<ErrorPage>,
    pub(crate) error_help: bool,
    pub(crate) drain_wait: Duration,
    pub(crate) drain_timeout: Duration,
}

impl Settings {
    /// Splits the settings. Every field is named here, so a new one does not compile until it has a half.
    pub(crate) fn split(self) -> (Lasting, Serving) {
        let Self {
            index,
            ip,
            workers,
            start_delay,
            register_interval,
            prune_interval,
            stale_threshold,
            keep_silent_tls_endpoints,
            empty_pool_timeout,
            keep_unregistered_routes,
            route_latency_muzzle,
            hold_timeout,
            suspend_pruning_if_nats_unavailable,
            bus_pending_limit,
            sharding,
            component_hosts,
            max_attempts,
            dial_timeout,
            tls_handshake_timeout,
            endpoint_timeout,
            http2_endpoint_timeout,
            max_conns_per_endpoint,
            max_idle_per_endpoint,
            backend_idle_timeout,
            frontend_idle_timeout,
            read_header_timeout,
            body_idle_timeout,
            compat_gorouter,
            http2_cleartext,
            max_request_head,
            max_request_headers,
            max_response_head,
            max_response_headers,
            http2,
            front_tls,
            proxy_protocol,
            system_backend_cas,
            backend_terms,
            empty_pool_503,
            force_forwarded_proto_https,
            sanitize_forwarded_proto,
            forwarded_client_cert,
            hop_by_hop_headers_to_filter,
            zipkin,
            w3c,
            w3c_tenant,
            otlp,
            trace_key,
            sticky_cookies,
            secure_cookies,
            sticky_for_auth_negotiate,
            balancing,
            prefer_zone,
            healthcheck_user_agent,
            logged_headers,
            syslog,
            access_log_rotation,
            response_rewrite,
            route_services,
            error_page,
            error_help,
            buckets,
            per_request_metrics,
            per_app_metrics,
            deprecated_pages,
            metron,
            drain_wait,
            drain_timeout,
            log_format,
        } = self;
        let lasting = Lasting {
            index,
            ip,
            start_delay,
            register_interval,
            prune_interval,
            stale_threshold,
            keep_silent_tls_endpoints,
            empty_pool_timeout,
            keep_unregistered_routes,
            route_latency_muzzle,
            hold_timeout,
            suspend_pruning_if_nats_unavailable,
            bus_pending_limit,
            sharding,
            component_hosts,
            compat_gorouter,
            http2,
            zipkin,
            w3c,
            w3c_tenant,
            otlp,
            balancing,
            access_log_rotation,
            buckets,
            per_request_metrics,
            per_app_metrics,
            deprecated_pages,
            metron,
            logged_headers,
            syslog,
        };
        let serving = Serving {
            workers,
            max_attempts,
            dial_timeout,
            tls_handshake_timeout,
            endpoint_timeout,
            http2_endpoint_timeout,
            max_conns_per_endpoint,
            max_idle_per_endpoint,
            backend_idle_timeout,
            frontend_idle_timeout,
            read_header_timeout,
            body_idle_timeout,
            http2_cleartext,
            max_request_head,
            max_request_headers,
            max_response_head,
            max_response_headers,
            front_tls,
            proxy_protocol,
            system_backend_cas,
            backend_terms,
            empty_pool_503,
            force_forwarded_proto_https,
            sanitize_forwarded_proto,
            forwarded_client_cert,
            hop_by_hop_headers_to_filter,
            trace_key,
            sticky_cookies,
            secure_cookies,
            sticky_for_auth_negotiate,
            prefer_zone,
            healthcheck_user_agent,
            response_rewrite,
            route_services,
            error_page,
            error_help,
            drain_wait,
            drain_timeout,
            log_format,
        };
        (lasting, serving)
    }
}

#[cfg(test)]
impl Default for Serving {
    fn default() -> Self {
        Settings::default().split().1
    }
}

#[cfg(test)]
impl Default for Lasting {
    fn default() -> Self {
        Settings::default().split().0
    }
}
