//! The values that a router is built from. All of them are checked; nothing is looked up later.

mod halves;
mod otlp;
mod route_services;
mod tls;

pub use halves::Difference;
pub(crate) use halves::{Lasting, Serving};
pub use otlp::Otlp;
pub use route_services::{AddressRange, RouteServices};
pub use tls::{
    Certificate, CertificateRule, ClientCertValidation, ForwardedClientCert, FrontTls, MtlsDomain,
    Subject, TlsTerms, XfccFormat,
};

use crate::error_page::ErrorPage;
use clients::loggregator::Emitter;
use http::{HeaderName, HeaderValue};
use route_table::registry::{Balancing, ComponentHosts};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;

/// The sockets, peers and settings of one router.
#[derive(Debug)]
pub struct Config {
    /// The listeners for HTTP, which are bound already; every worker accepts on all of them.
    pub http: Vec<TcpListener>,
    pub https: Vec<TcpListener>,
    /// The certificates for `https`. One is chosen by SNI; the first is used when none fits.
    pub certificates: Vec<Certificate>,
    pub status: Status,
    pub nats: clients::nats::Config,
    /// Another source of routes; `None`: routes come from NATS alone.
    pub routing_api: Option<clients::routing_api::Config>,
    /// The certificate that the router presents to backends (none when empty). Its `ca_pem` holds the authorities that backends'
    /// certificates must chain to.
    pub backend_tls: kit::tls::Identity,
    /// The access log's file, to which lines are appended; `None`: no file.
    pub access_log: Option<PathBuf>,
    /// The emitter that sends every access log line of an app as an `RTR` line.
    pub loggregator: Emitter,
    pub settings: Settings,
}

/// The operator's listener: `/routes` (with user and password), `/health`, `/healthz`, `/metrics`. Bind it to loopback.
pub struct Status {
    pub listener: TcpListener,
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status")
            .field("listener", &self.listener)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// An address for clients that is bound already, but on which nothing listens before the start delay is over.
#[derive(Debug)]
pub struct Reserved {
    pub socket: tokio::net::TcpSocket,
    pub tls: bool,
}

/// The operator's pages that can have a listener of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pages {
    /// The health page `/health` and the is-alive page.
    Health,
    /// The page `/metrics`.
    Metrics,
}

/// A listener for some of the operator's pages.
#[derive(Debug)]
pub struct PagesListener {
    pub listener: TcpListener,
    pub pages: Pages,
    pub tls: Option<std::sync::Arc<rustls::ServerConfig>>,
}

/// The values that a running router can change to: see [`crate::Handle::reload`]. Sockets, the bus and what [`Lasting`] holds of
/// `settings` stay as they are.
#[derive(Debug)]
pub struct Reload {
    pub certificates: Vec<Certificate>,
    pub backend_tls: kit::tls::Identity,
    pub settings: Settings,
    /// The TLS configurations for page listeners that have TLS already.
    pub pages_tls: Option<HashMap<Pages, std::sync::Arc<rustls::ServerConfig>>>,
    /// The user and password of `/routes`.
    pub login: Option<(String, String)>,
}

/// The isolation segments whose routes this router accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sharding {
    All,
    Segments(Vec<String>),
    SharedAndSegments(Vec<String>),
}

impl Sharding {
    /// Returns the name that `routing_table_sharding_mode` has for it.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Segments(_) => "segments",
            Self::SharedAndSegments(_) => "shared-and-segments",
        }
    }

    pub(crate) fn takes(&self, segment: &str) -> bool {
        match self {
            Self::All => true,
            Self::Segments(listed) => listed.iter().any(|s| s == segment),
            Self::SharedAndSegments(listed) => {
                segment.is_empty() || listed.iter().any(|s| s == segment)
            }
        }
    }
}

/// The parts of a query that the access log must not contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedactQuery {
    #[default]
    None,
    /// The query of a GET is left out.
    All,
    /// The query of a GET becomes its SHA-1: `hash=…`.
    Hash,
    /// Our own mode: passwords, secrets and tokens in any query, and in the referer's, become `-`.
    Credentials,
}

impl Rotation {
    /// The number of renamed files that are kept by default.
    pub const KEEP: u32 = 5;
}

/// The size at which the access log's file is renamed, and the number of renamed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The largest size in bytes: a file that would grow beyond it is renamed.
    pub max_bytes: u64,
    /// The number of renamed files that are kept; the oldest is removed.
    pub keep: u32,
}

/// The format of the access log: its additional fields, and what it leaves out.
#[derive(Clone, Debug, Default)]
pub struct LogFormat {
    pub redact_query: RedactQuery,
    pub without_forwarded_for: bool,
    pub without_source_ip: bool,
    /// The additional fields in their order, before the router's error.
    pub extra_fields: Vec<LogField>,
    /// Whether each line is a JSON object instead of gorouter's form.
    pub json: bool,
}

impl LogFormat {
    /// Returns whether a line contains the router's address on the connection to the backend.
    pub(crate) fn logs_local_address(&self) -> bool {
        self.extra_fields.contains(&LogField::LocalAddress)
    }
}

/// A syslog server for access log lines (RFC 5424).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// The server's address as `host:port`.
    pub address: String,
    pub tcp: bool,
    /// The name of the program in each line.
    pub tag: String,
    /// The longest line in bytes; 0: no limit.
    pub truncate: usize,
}

/// The data that goes to the metron agent of the machine, as dropsonde envelopes by UDP. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metron {
    /// The agent's address as `host:port`.
    pub address: String,
    /// Whether every access log line of an app is sent, as an `RTR` line.
    pub logs: bool,
    /// Whether an event is sent for each request.
    pub server_events: bool,
    /// Whether an event is sent for each attempt at a backend.
    pub client_events: bool,
    pub metrics: bool,
}

impl Metron {
    /// Returns whether anything is to be sent.
    pub fn is_wanted(&self) -> bool {
        self.logs || self.server_events || self.client_events || self.metrics
    }
}

/// The upper bounds of the histograms' buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// The time of a look-up, in nanoseconds.
    pub lookup: Vec<f64>,
    /// The time in the router, in milliseconds.
    pub gorouter_time: Vec<f64>,
    /// The time of the whole request, in milliseconds.
    pub latency: Vec<f64>,
    /// The latency of registrations, in seconds.
    pub registration: Vec<f64>,
    /// The time of requests by app, in seconds.
    pub http_latency: Vec<f64>,
}

impl Default for Buckets {
    fn default() -> Self {
        let time = [1, 2, 4, 6, 8, 10, 20, 40, 50, 100, 500, 1000];
        Self {
            lookup: (1..=10).map(|n| f64::from(n) * 10_000.0).collect(),
            gorouter_time: time.map(f64::from).to_vec(),
            latency: time.map(f64::from).to_vec(),
            registration: vec![0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
            http_latency: vec![0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6],
        }
    }
}

/// The additional fields of an access log line, most of them about the attempts at backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogField {
    /// The time from the beginning of the last attempt to the end of the answer, in seconds as all times.
    BackendTime,
    /// The dial time of the last connection that was made, with the resolution of its name.
    DialTime,
    /// The time of name resolution, which is not measured apart from the dial: always `-`.
    DnsTime,
    TlsTime,
    FailedAttempts,
    FailedAttemptsTime,
    /// The router's address on the last connection that was made.
    LocalAddress,
    /// The client's identity, from its certificate.
    CallerApp,
    CallerSpace,
    CallerOrganization,
    /// The verdict `allowed` or `denied`, where a route has a policy.
    RoutePolicy,
    /// The name that the client requested in its TLS handshake.
    TlsSni,
}

impl LogField {
    /// All fields, by their names in the log and in configurations.
    pub const ALL: &[(&str, Self)] = &[
        ("backend_time", Self::BackendTime),
        ("caller_cf_app", Self::CallerApp),
        ("caller_cf_org", Self::CallerOrganization),
        ("caller_cf_space", Self::CallerSpace),
        ("dial_time", Self::DialTime),
        ("dns_time", Self::DnsTime),
        ("failed_attempts", Self::FailedAttempts),
        ("failed_attempts_time", Self::FailedAttemptsTime),
        ("local_address", Self::LocalAddress),
        ("route_policy", Self::RoutePolicy),
        ("tls_sni", Self::TlsSni),
        ("tls_time", Self::TlsTime),
    ];

    pub(crate) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, field)| *field == self);
        found.map_or("", |(name, _)| name)
    }
}

/// The changes to every response, including the router's own.
#[derive(Clone, Debug, Default)]
pub struct ResponseRewrite {
    /// The headers that are removed, before others are added.
    pub remove: Vec<HeaderName>,
    pub add_if_absent: Vec<(HeaderName, HeaderValue)>,
}

/// The time in which a client must send a request's head. A client that needs longer only holds the connection.
const READ_HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// All settings that have a sensible default. `Settings::default()` is what a Cloud Foundry deployment has, except for
/// `start_delay`, which is zero.
#[derive(Clone, Debug)]
pub struct Settings {
    pub index: u32,
    /// The address that is announced to emitters in `router.start`.
    pub ip: IpAddr,
    /// The number of threads that serve requests; each has its own connections to backends.
    pub workers: usize,
    /// The time in which the router learns routes before it accepts the first connection.
    pub start_delay: Duration,
    /// The interval at which emitters register again; it is announced in `router.start` and independent of `start_delay`.
    pub register_interval: Duration,
    pub prune_interval: Duration,
    pub stale_threshold: Duration,
    /// Whether TLS endpoints are never pruned for silence, as with gorouter.
    pub keep_silent_tls_endpoints: bool,
    pub empty_pool_timeout: Duration,
    /// Whether a route whose last endpoint was unregistered or pruned also answers 503 for `empty_pool_timeout`, as with
    /// gorouter; otherwise it answers 404 at once.
    pub keep_unregistered_routes: bool,
    /// The time after the start in which no registration latencies are measured, because the messages that arrive then are old.
    pub route_latency_muzzle: Duration,
    /// The time for which a request may wait for a route whose instances are starting; zero: requests do not wait.
    pub hold_timeout: Duration,
    pub suspend_pruning_if_nats_unavailable: bool,
    /// The bytes of messages that may wait to be parsed. Messages beyond that are dropped, and all emitters are asked to register
    /// again.
    pub bus_pending_limit: usize,
    pub sharding: Sharding,
    /// The platform's own hosts, on which apps get no routes. `None`: the table mixes all registrations, as gorouter.
    pub component_hosts: Option<ComponentHosts>,

    pub max_attempts: usize,
    pub dial_timeout: Duration,
    pub tls_handshake_timeout: Duration,
    /// The time for one attempt, from the request to the end of the response's body.
    pub endpoint_timeout: Duration,
    /// The time for one attempt when the client speaks HTTP/2.
    pub http2_endpoint_timeout: Duration,
    /// The requests in flight per endpoint; 0: no limit.
    pub max_conns_per_endpoint: u32,
    pub max_idle_per_endpoint: usize,
    pub backend_idle_timeout: Duration,
    pub frontend_idle_timeout: Duration,
    /// The time from the first byte of a request's head to its last. Zero, here and for the next: no limit.
    pub read_header_timeout: Duration,
    /// The time that a client may take to send the next bytes of a request's body, or to read the next bytes of a response's.
    pub body_idle_timeout: Duration,
    /// Whether the router does what gorouter does where better behaviour would change what clients and apps see: field names in
    /// Go's spelling, 502 for a backend that takes too long, `X-CF-PROCESS-INSTANCE` visible to the app, no cleartext HTTP/2.
    pub compat_gorouter: bool,
    /// Whether clients may begin with HTTP/2's preface without TLS.
    pub http2_cleartext: bool,
    /// The largest request head in bytes.
    pub max_request_head: usize,
    /// The largest number of fields of a request head; 0: as many as the bytes hold.
    pub max_request_headers: usize,
    /// The largest head of a backend's response in bytes; the next is the most fields of one.
    pub max_response_head: usize,
    pub max_response_headers: usize,
    pub http2: bool,
    pub front_tls: FrontTls,
    /// Whether a load balancer in front may announce the client's address.
    pub proxy_protocol: bool,
    /// Whether the machine's own authorities may also sign backends' certificates.
    pub system_backend_cas: bool,
    /// The TLS versions and suites towards backends.
    pub backend_terms: TlsTerms,
    /// Whether a known route without endpoints answers 503 instead of 404.
    pub empty_pool_503: bool,

    pub force_forwarded_proto_https: bool,
    pub sanitize_forwarded_proto: bool,
    pub forwarded_client_cert: ForwardedClientCert,
    /// The header fields, in lower case, that a client's `Connection` header cannot make us drop.
    pub hop_by_hop_headers_to_filter: Vec<String>,
    pub zipkin: bool,
    pub w3c: bool,
    /// The tenant of the W3C trace state; empty: `gorouter` alone.
    pub w3c_tenant: String,
    /// The receiver of the traces of marked requests; `None`: none are sent.
    pub otlp: Option<Otlp>,
    /// The key for tracing: the response to a request whose `X-Vcap-Trace` equals it names the router and the backend. Empty: no
    /// response does.
    pub trace_key: String,
    pub sticky_cookies: Vec<String>,
    pub secure_cookies: bool,
    /// Whether `Authorization: Negotiate` with `__VCAP_ID__` goes to that instance or fails.
    pub sticky_for_auth_negotiate: bool,
    /// The balancing of routes without an option of their own: round robin or least connection.
    pub balancing: Balancing,
    /// The availability zone whose endpoints are preferred for first attempts.
    pub prefer_zone: Option<String>,
    pub healthcheck_user_agent: String,
    pub log_format: LogFormat,
    /// The request headers at the end of each access log line.
    pub logged_headers: Vec<HeaderName>,
    /// A syslog server that also receives the access log lines.
    pub syslog: Option<Syslog>,
    /// The rotation of the access log; `None`: another program rotates it, as with gorouter.
    pub access_log_rotation: Option<Rotation>,
    pub response_rewrite: ResponseRewrite,
    /// The route services; `None`: routes that are bound to a service answer 502.
    pub route_services: Option<RouteServices>,
    /// The page for the router's own errors; `None`: a line of text.
    pub error_page: Option<ErrorPage>,
    /// Whether the router's own errors, without a template, have the request's id and the command that explains them.
    pub error_help: bool,
    pub buckets: Buckets,
    /// Whether histograms of requests are kept and envelopes with single requests' times are sent; counters are always kept.
    pub per_request_metrics: bool,
    /// Whether a histogram of latencies is kept for each app.
    pub per_app_metrics: bool,
    /// Whether `/varz`, `/healthz` and `/routes` exist beside `/health`.
    pub deprecated_pages: bool,
    pub metron: Metron,

    /// The time after the shutdown request in which the router answers health checks with 503 but still accepts connections.
    pub drain_wait: Duration,
    /// The time after that in which requests in flight may end.
    pub drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            index: 0,
            ip: IpAddr::from([127, 0, 0, 1]),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            start_delay: Duration::ZERO,
            register_interval: seconds(20),
            prune_interval: seconds(30),
            stale_threshold: seconds(120),
            keep_silent_tls_endpoints: false,
            empty_pool_timeout: seconds(120),
            keep_unregistered_routes: false,
            route_latency_muzzle: seconds(30),
            hold_timeout: Duration::ZERO,
            suspend_pruning_if_nats_unavailable: true,
            bus_pending_limit: clients::nats::PENDING_LIMIT,
            sharding: Sharding::All,
            component_hosts: None,
            max_attempts: 3,
            dial_timeout: seconds(5),
            tls_handshake_timeout: seconds(10),
            endpoint_timeout: seconds(900),
            http2_endpoint_timeout: seconds(900),
            max_conns_per_endpoint: 500,
            max_idle_per_endpoint: 100,
            backend_idle_timeout: seconds(90),
            frontend_idle_timeout: seconds(900),
            read_header_timeout: READ_HEADER_TIMEOUT,
            body_idle_timeout: seconds(60),
            compat_gorouter: false,
            http2_cleartext: false,
            max_request_head: 1 << 20,
            max_request_headers: 0,
            max_response_head: 1 << 20,
            max_response_headers: 0,
            http2: true,
            front_tls: FrontTls::default(),
            proxy_protocol: false,
            system_backend_cas: false,
            backend_terms: TlsTerms::default(),
            empty_pool_503: true,
            force_forwarded_proto_https: false,
            sanitize_forwarded_proto: false,
            forwarded_client_cert: ForwardedClientCert::Sanitize,
            hop_by_hop_headers_to_filter: [
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-forwarded-client-cert",
                "x-vcap-request-id",
                "x-request-start",
                "b3",
                "x-b3-traceid",
                "x-b3-spanid",
                "x-b3-parentspanid",
                "traceparent",
                "tracestate",
                "x-cf-proxy-signature",
                "x-cf-proxy-metadata",
                "x-cf-forwarded-url",
            ]
            .map(str::to_owned)
            .to_vec(),
            zipkin: false,
            w3c: false,
            w3c_tenant: String::new(),
            otlp: None,
            trace_key: String::new(),
            sticky_cookies: vec!["JSESSIONID".into()],
            secure_cookies: false,
            sticky_for_auth_negotiate: false,
            balancing: Balancing::RoundRobin,
            prefer_zone: None,
            healthcheck_user_agent: "HTTP-Monitor/1.1".into(),
            log_format: LogFormat::default(),
            logged_headers: Vec::new(),
            syslog: None,
            access_log_rotation: None,
            response_rewrite: ResponseRewrite::default(),
            route_services: None,
            error_page: None,
            error_help: false,
            buckets: Buckets::default(),
            per_request_metrics: true,
            per_app_metrics: false,
            deprecated_pages: false,
            metron: Metron::default(),
            drain_wait: Duration::ZERO,
            drain_timeout: seconds(10),
        }
    }
}
