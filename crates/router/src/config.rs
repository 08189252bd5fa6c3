//! What a router is built from. All values are checked; nothing is looked up later.

mod halves;
mod tls;

pub(crate) use halves::{Lasting, Serving};
pub use tls::{
    Certificate, CertificateRule, ClientCertValidation, ForwardedClientCert, FrontTls, MtlsDomain,
    Subject, TlsTerms, XfccFormat,
};

use crate::error_page::ErrorPage;
use clients::loggregator::Emitter;
use http::{HeaderName, HeaderValue};
use routing::registry::{Balancing, ComponentHosts};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;

/// One router's sockets, peers and settings.
#[derive(Debug)]
pub struct Config {
    /// Bound already; every worker accepts on all of them.
    pub http: Vec<TcpListener>,
    pub https: Vec<TcpListener>,
    /// For `https`; chosen by SNI, the first when nothing fits.
    pub certificates: Vec<Certificate>,
    pub status: Status,
    pub nats: clients::nats::Config,
    /// Another source of routes. `None`: NATS alone.
    pub routing_api: Option<clients::routing_api::Config>,
    /// The certificate that backends are shown (none when empty); `ca_pem`: the authorities that backends' certificates
    /// must chain to.
    pub backend_tls: kit::tls::Identity,
    /// Appended to. `None`: no file.
    pub access_log: Option<PathBuf>,
    /// Gets every access log line of an app as an `RTR` line.
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

/// An address for clients that is ours already, but where nobody listens before the start delay is over.
#[derive(Debug)]
pub struct Reserved {
    pub socket: tokio::net::TcpSocket,
    pub tls: bool,
}

/// Which of the operator's pages a listener of their own has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pages {
    /// `/health` and the is-alive page.
    Health,
    /// `/metrics`
    Metrics,
}

/// A listener for some of the operator's pages.
#[derive(Debug)]
pub struct PagesListener {
    pub listener: TcpListener,
    pub pages: Pages,
    pub tls: Option<std::sync::Arc<rustls::ServerConfig>>,
}

/// What a running router can change to: see [`crate::Handle::reload`]. Sockets, the bus and what [`Lasting`] holds of
/// `settings` stay as they are.
#[derive(Debug)]
pub struct Reload {
    pub certificates: Vec<Certificate>,
    pub backend_tls: kit::tls::Identity,
    pub settings: Settings,
    /// For page listeners that have TLS already.
    pub pages_tls: Option<HashMap<Pages, std::sync::Arc<rustls::ServerConfig>>>,
    /// User and password of `/routes`.
    pub login: Option<(String, String)>,
}

/// Which isolation segments' routes this router takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sharding {
    All,
    Segments(Vec<String>),
    SharedAndSegments(Vec<String>),
}

impl Sharding {
    /// As `routing_table_sharding_mode` names it.
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

/// What the access log must not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedactQuery {
    #[default]
    None,
    /// The query of a GET is left out.
    All,
    /// The query of a GET becomes its SHA-1: `hash=…`.
    Hash,
    /// Ours: passwords, secrets and tokens in any query, and in the referer's, become `-`.
    Credentials,
}

impl Rotation {
    /// Renamed files that are kept if nobody says otherwise.
    pub const KEEP: u32 = 5;
}

/// When the access log's file is full, and how many full ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file that would grow beyond it is renamed.
    pub max_bytes: u64,
    /// Renamed files; the oldest is removed.
    pub keep: u32,
}

/// What else the access log tells, and what it does not.
#[derive(Clone, Debug, Default)]
pub struct LogFormat {
    pub redact_query: RedactQuery,
    pub without_forwarded_for: bool,
    pub without_source_ip: bool,
    /// In their order, before the router's error.
    pub extra_fields: Vec<LogField>,
    /// A JSON object per line instead of gorouter's form.
    pub json: bool,
}

impl LogFormat {
    /// The router's address on the connection to the backend.
    pub(crate) fn tells_local_address(&self) -> bool {
        self.extra_fields.contains(&LogField::LocalAddress)
    }
}

/// A syslog server for access log lines (RFC 5424).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// `host:port`
    pub address: String,
    pub tcp: bool,
    /// The name of the program in each line.
    pub tag: String,
    /// Longest line in bytes; 0: no limit.
    pub truncate: usize,
}

/// What goes to the metron agent of the machine, as dropsonde envelopes by UDP. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metron {
    /// `host:port`
    pub address: String,
    /// Every access log line of an app, as an `RTR` line.
    pub logs: bool,
    /// An event for each request.
    pub server_events: bool,
    /// An event for each attempt at a backend.
    pub client_events: bool,
    pub metrics: bool,
}

impl Metron {
    /// Whether anything is to be sent.
    pub fn is_wanted(&self) -> bool {
        self.logs || self.server_events || self.client_events || self.metrics
    }
}

/// Upper bounds of the histograms' buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Nanoseconds.
    pub lookup: Vec<f64>,
    /// Milliseconds: of the time in the router.
    pub gorouter_time: Vec<f64>,
    /// Milliseconds: of the whole request.
    pub latency: Vec<f64>,
    /// Seconds.
    pub registration: Vec<f64>,
    /// Seconds: of requests by app.
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

/// What the access log can tell of the attempts at backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogField {
    /// From the beginning of the last attempt to the end of the answer, in seconds as all times.
    BackendTime,
    /// Of the last connection that was made, with the resolution of its name.
    DialTime,
    /// Not measured apart from the dial: always `-`.
    DnsTime,
    TlsTime,
    FailedAttempts,
    FailedAttemptsTime,
    /// This router's end of the last connection that was made.
    LocalAddress,
    /// The client's identity, from its certificate.
    CallerApp,
    CallerSpace,
    CallerOrganization,
    /// `allowed` or `denied`, where a route has a policy.
    RoutePolicy,
    /// The name that the client asked for in its TLS handshake.
    TlsSni,
}

impl LogField {
    pub(crate) const ALL: &[(&str, Self)] = &[
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

/// Services that requests of some routes pass on their way to the app.
#[derive(Clone)]
pub struct RouteServices {
    /// Of all routers of the foundation.
    pub secret: String,
    /// The one before, while it is being changed.
    pub secret_decrypt_only: Option<String>,
    /// How long a service may take to send a request back.
    pub timeout: Duration,
    /// Services are told to come back by HTTPS.
    pub recommend_https: bool,
    pub max_attempts: usize,
    /// Signatures are checked on routes without a service as well.
    pub strict_signature_validation: bool,
    pub websockets: bool,
    /// What services are shown.
    pub identity: Option<Certificate>,
    /// How TLS is spoken with them.
    pub tls_terms: TlsTerms,
    pub skip_ssl_validation: bool,
    /// A service that is an app of this foundation is reached without leaving it.
    pub hairpinning: bool,
    /// For these hosts only (`*.` is one label); empty: for all.
    pub hairpinning_allowlist: Vec<String>,
    /// Where no service may be, after resolution of its name.
    pub egress_blocklist: Vec<AddressRange>,
}

impl std::fmt::Debug for RouteServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteServices")
            .field("secret", &"<redacted>")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    pub(crate) ip: IpAddr,
    pub(crate) bits: u32,
}

/// Changes to every response, also to the router's own.
#[derive(Clone, Debug, Default)]
pub struct ResponseRewrite {
    /// Taken out first.
    pub remove: Vec<HeaderName>,
    pub add_if_absent: Vec<(HeaderName, HeaderValue)>,
}

/// A client that needs longer for a request's head wants to hold the connection, not to be served.
pub(crate) const READ_HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything with a sensible value of its own. `Settings::default()` is what a Cloud Foundry deployment has, but for
/// `start_delay`, which is zero.
#[derive(Clone, Debug)]
pub struct Settings {
    pub index: u32,
    /// Announced to emitters in `router.start`.
    pub ip: IpAddr,
    /// Threads that serve requests; each has its own connections to backends.
    pub workers: usize,
    /// Time to hear of routes before the first connection is accepted.
    pub start_delay: Duration,
    /// How often emitters are asked to register again; announced in `router.start`, independent of `start_delay`.
    pub register_interval: Duration,
    pub prune_interval: Duration,
    pub stale_threshold: Duration,
    /// TLS endpoints are never pruned for silence, as with gorouter.
    pub keep_silent_tls_endpoints: bool,
    pub empty_pool_timeout: Duration,
    /// A route whose last endpoint was unregistered or pruned answers 503 that long too, as with gorouter; else 404 at once.
    pub keep_unregistered_routes: bool,
    /// For this long after the start no registration latencies are measured: what is heard then is old.
    pub route_latency_muzzle: Duration,
    /// How long a request may wait for a route whose instances are starting; zero: not at all.
    pub hold_timeout: Duration,
    pub suspend_pruning_if_nats_unavailable: bool,
    /// Bytes of messages that may wait to be parsed; what is beyond is dropped, and everybody is asked again.
    pub bus_pending_limit: usize,
    pub sharding: Sharding,
    /// The platform's own hosts, at which apps get nothing. `None`: the table mixes whatever is registered, as gorouter.
    pub component_hosts: Option<ComponentHosts>,

    pub max_attempts: usize,
    pub dial_timeout: Duration,
    pub tls_handshake_timeout: Duration,
    /// For one attempt, from request to the end of the response's body.
    pub endpoint_timeout: Duration,
    /// The same when the backend speaks HTTP/2.
    pub http2_endpoint_timeout: Duration,
    /// Requests in flight per endpoint; 0: no limit.
    pub max_conns_per_endpoint: u32,
    pub max_idle_per_endpoint: usize,
    pub backend_idle_timeout: Duration,
    pub frontend_idle_timeout: Duration,
    /// From the first byte of a request's head to its last. Zero, here and for the next: no limit.
    pub read_header_timeout: Duration,
    /// How long a client may take to send the next bytes of a request's body, or to take the next of a response's.
    pub body_idle_timeout: Duration,
    /// Where the better behaviour would change what clients and apps see: as gorouter does. Field names in Go's spelling,
    /// 502 for a backend that takes too long, `X-CF-PROCESS-INSTANCE` for the app to see, no cleartext HTTP/2.
    pub compat_gorouter: bool,
    /// Clients may begin with HTTP/2's preface without TLS.
    pub http2_cleartext: bool,
    /// Largest request head in bytes.
    pub max_request_head: usize,
    /// 0: as many fields as the bytes hold.
    pub max_request_headers: usize,
    /// The same for backends' responses.
    pub max_response_head: usize,
    pub max_response_headers: usize,
    pub http2: bool,
    pub front_tls: FrontTls,
    /// A load balancer in front may say who the client is.
    pub proxy_protocol: bool,
    /// The machine's own authorities may sign backends' certificates as well.
    pub system_backend_cas: bool,
    /// How TLS is spoken with backends.
    pub backend_terms: TlsTerms,
    /// A known route without endpoints answers 503, not 404.
    pub empty_pool_503: bool,

    pub force_forwarded_proto_https: bool,
    pub sanitize_forwarded_proto: bool,
    pub forwarded_client_cert: ForwardedClientCert,
    /// A client's `Connection` header cannot make us drop these; lower case.
    pub hop_by_hop_headers_to_filter: Vec<String>,
    pub zipkin: bool,
    pub w3c: bool,
    /// Empty: `gorouter` alone.
    pub w3c_tenant: String,
    /// A request whose `X-Vcap-Trace` equals it learns which router and backend served it. Empty: nobody does.
    pub trace_key: String,
    pub sticky_cookies: Vec<String>,
    pub secure_cookies: bool,
    /// `Authorization: Negotiate` with `__VCAP_ID__` goes to that instance or nowhere.
    pub sticky_for_auth_negotiate: bool,
    /// Of routes without an option of their own: round robin or least connection.
    pub balancing: Balancing,
    /// First attempts prefer endpoints of this availability zone.
    pub prefer_zone: Option<String>,
    pub healthcheck_user_agent: String,
    pub log_format: LogFormat,
    /// Request headers at the end of each access log line.
    pub logged_headers: Vec<HeaderName>,
    /// Access log lines go there as well.
    pub syslog: Option<Syslog>,
    /// `None`: somebody else rotates it, as with gorouter.
    pub access_log_rotation: Option<Rotation>,
    pub response_rewrite: ResponseRewrite,
    /// `None`: routes that are bound to one answer 502.
    pub route_services: Option<RouteServices>,
    /// What the router's own errors look like; `None`: a line of text.
    pub error_page: Option<ErrorPage>,
    pub buckets: Buckets,
    /// Histograms of requests, and envelopes of single requests' times; counters are always kept.
    pub per_request_metrics: bool,
    /// A histogram of latencies for each app.
    pub per_app_metrics: bool,
    /// `/varz`, `/healthz` and `/routes` beside `/health`.
    pub deprecated_pages: bool,
    pub metron: Metron,

    /// After shutdown was asked for: answer health checks with 503, but go on accepting.
    pub drain_wait: Duration,
    /// Then: how long requests in flight may take.
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
