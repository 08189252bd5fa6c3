//! `gorouter.yml`: an original router's configuration file, read for this router.
//!
//! Absent keys have the defaults of gorouter's own code (a BOSH deployment writes them all). Unknown keys, and keys of
//! things that this router does not have yet, cost a warning each; bad values are told all at once. Reads no file and
//! binds nothing: that is the caller's.

mod keys;
mod tls;

use crate::config::{
    AddressRange, Certificate, ForwardedClientCert, LogField, LogFormat, RedactQuery,
    ResponseRewrite, RouteServices, Settings, Sharding,
};
use http::{HeaderName, HeaderValue};
use keys::{Keys, Notes};
use kit::tls::Identity;
use routing::registry::Balancing;
use serde_yaml_ng::Value;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

/// What a `gorouter.yml` asks for.
#[derive(Debug)]
pub struct GorouterYml {
    pub http_port: Option<u16>,
    pub https_port: Option<u16>,
    pub certificates: Vec<Certificate>,
    pub status: StatusKeys,
    pub prometheus: Option<Prometheus>,
    pub nats: clients::nats::Config,
    pub backend_tls: Identity,
    pub access_log: Option<PathBuf>,
    /// `debug`, `info`, `warn` or `error`.
    pub log_level: &'static str,
    pub settings: Settings,
    /// By key, for people.
    pub warnings: Vec<String>,
}

/// `status`: pages for load balancers and operators.
#[derive(Debug)]
pub struct StatusKeys {
    pub host: IpAddr,
    /// `None`: no health page without TLS.
    pub port: Option<u16>,
    pub tls: Option<(u16, Certificate)>,
    /// On loopback.
    pub routes_port: u16,
    pub user: String,
    pub pass: String,
}

/// `prometheus`: `/metrics` on loopback.
#[derive(Debug)]
pub struct Prometheus {
    pub port: u16,
    /// Mutual TLS: certificate, key and authority.
    pub tls_files: Option<[PathBuf; 3]>,
}

/// Reads the text of the file; on failure everything that is wrong with it, by key.
pub fn read(text: &str) -> Result<GorouterYml, Vec<String>> {
    let notes = Notes::default();
    let document = if text.trim().is_empty() {
        Value::Null
    } else {
        serde_yaml_ng::from_str(text)
            .map_err(|error| vec![format!("the file is not YAML: {error}")])?
    };
    let mut read = {
        let mut keys = Keys::new("", document, &notes);
        file(&mut keys)
    };
    let problems = notes.problems.into_inner();
    if !problems.is_empty() {
        return Err(problems);
    }
    read.warnings = notes.warnings.into_inner();
    Ok(read)
}

fn file(keys: &mut Keys<'_>) -> GorouterYml {
    let (settings, own) = settings(keys);
    let (http_port, https_port) = ports(keys);
    let front = tls::front(keys, https_port.is_some(), own);
    let status = status(&mut keys.section("status"));
    let prometheus = prometheus(&mut keys.section("prometheus"));
    let route_services = route_services(keys);
    let nats = nats(&mut keys.section("nats"));
    let (access_log, log_level, log_format) = logging(keys);
    keys.unsupported(&[
        "html_error_template_file",
        "verify_client_certificate_metadata",
        "enable_verify_client_certificate_metadata",
        "oauth",
        "routing_api",
        "domains",
        "publish_active_apps_interval",
        "per_app_prometheus_http_metrics_reporting",
        "read_header_timeout",
    ]);
    keys.without_effect(&[
        "pid_file",
        "debug_addr",
        "publish_start_message_interval",
        "load_balancer_healthy_threshold",
        "endpoint_keep_alive_probe_interval",
        "websocket_dial_timeout",
        "route_latency_metric_muzzle_duration",
        "token_fetcher_max_retries",
        "token_fetcher_retry_interval",
        "token_fetcher_expiration_buffer_time",
        "max_idle_conns",
        "keep_alive_100_continue_requests",
        "enable_http1_concurrent_read_write",
        "per_request_metrics_reporting",
        "enable_envelope_v1_metrics",
        "send_http_start_stop_server_event",
        "send_http_start_stop_client_event",
    ]);
    GorouterYml {
        http_port,
        https_port,
        certificates: front.certificates,
        status,
        prometheus,
        nats,
        backend_tls: front.backend_tls,
        access_log,
        log_level,
        settings: Settings {
            front_tls: front.tls,
            system_backend_cas: true,
            log_format,
            route_services,
            ..settings
        },
        warnings: Vec::new(),
    }
}

fn ports(keys: &mut Keys<'_>) -> (Option<u16>, Option<u16>) {
    let http = keys.port("port").unwrap_or(8081);
    let https = keys.port("ssl_port").unwrap_or(443);
    let no_http = keys.flag("disable_http", false);
    let ssl = keys.flag("enable_ssl", false);
    if no_http && !ssl {
        keys.problem("disable_http", "is true and enable_ssl is not: the router would listen nowhere; set enable_ssl, or disable_http to false");
    }
    ((!no_http).then_some(http), ssl.then_some(https))
}

fn settings(keys: &mut Keys<'_>) -> (Settings, Option<Certificate>) {
    let seconds = Duration::from_secs;
    let start_delay = keys
        .duration("start_response_delay_interval")
        .unwrap_or(seconds(5));
    let endpoint_timeout = keys.duration("endpoint_timeout").unwrap_or(seconds(60));
    let stale = keys.duration("droplet_stale_threshold");
    let defaults = Settings::default();
    let mut settings = Settings {
        index: keys.number("index").unwrap_or(0),
        workers: keys
            .read("go_max_procs", "a whole number", Value::as_i64)
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n > 0)
            .unwrap_or(defaults.workers),
        start_delay,
        register_interval: start_delay,
        prune_interval: keys
            .duration("prune_stale_droplets_interval")
            .unwrap_or(seconds(30)),
        stale_threshold: stale.unwrap_or(seconds(120)).max(start_delay),
        empty_pool_timeout: keys.duration("empty_pool_timeout").unwrap_or_default(),
        empty_pool_503: keys.flag("empty_pool_response_code_503", false),
        suspend_pruning_if_nats_unavailable: keys
            .flag("suspend_pruning_if_nats_unavailable", false),
        sharding: sharding(keys),
        dial_timeout: keys.duration("endpoint_dial_timeout").unwrap_or(seconds(5)),
        tls_handshake_timeout: keys
            .duration("tls_handshake_timeout")
            .unwrap_or(seconds(10)),
        endpoint_timeout: keys
            .duration("http_1_endpoint_timeout")
            .filter(|t| !t.is_zero())
            .unwrap_or(endpoint_timeout),
        http2_endpoint_timeout: keys
            .duration("http_2_endpoint_timeout")
            .filter(|t| !t.is_zero())
            .unwrap_or(endpoint_timeout),
        frontend_idle_timeout: keys
            .duration("frontend_idle_timeout")
            .unwrap_or(seconds(900)),
        proxy_protocol: keys.flag("enable_proxy", false),
        http2: keys.flag("enable_http2", true),
        force_forwarded_proto_https: keys.flag("force_forwarded_proto_https", false),
        sanitize_forwarded_proto: keys.flag("sanitize_forwarded_proto", false),
        forwarded_client_cert: keys
            .choice("forwarded_client_cert", FORWARDED_CLIENT_CERT)
            .unwrap_or(ForwardedClientCert::AlwaysForward),
        hop_by_hop_headers_to_filter: keys
            .texts("hop_by_hop_headers_to_filter")
            .unwrap_or_default()
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        trace_key: keys.text("trace_key").unwrap_or_else(|| "22".into()),
        sticky_cookies: keys
            .texts("sticky_session_cookie_names")
            .unwrap_or(defaults.sticky_cookies),
        secure_cookies: keys.flag("secure_cookies", false),
        sticky_for_auth_negotiate: keys.flag("sticky_sessions_for_auth_negotiate", false),
        prefer_zone: prefer_zone(keys),
        balancing: balancing(keys),
        healthcheck_user_agent: keys
            .text("healthcheck_user_agent")
            .unwrap_or(defaults.healthcheck_user_agent),
        response_rewrite: response_rewrite(keys),
        drain_wait: keys.duration("drain_wait").unwrap_or_default(),
        drain_timeout: keys.duration("drain_timeout").unwrap_or(endpoint_timeout),
        ..Settings::default()
    };
    let own = limits(keys, &mut settings);
    let mut tracing = keys.section("tracing");
    settings.zipkin = tracing.flag("enable_zipkin", false);
    settings.w3c = tracing.flag("enable_w3c", false);
    settings.w3c_tenant = tracing.text("w3c_tenant_id").unwrap_or_default();
    for (key, value) in [
        ("prune_stale_droplets_interval", settings.prune_interval),
        ("endpoint_timeout", settings.endpoint_timeout),
        ("endpoint_dial_timeout", settings.dial_timeout),
        ("tls_handshake_timeout", settings.tls_handshake_timeout),
    ] {
        if value.is_zero() {
            keys.problem(key, "is 0: write a duration above 0, e.g. 30s");
        }
    }
    (settings, own)
}

/// 0 means "no limit" in most of them. Returns what else `backends` holds: the certificate that backends are shown.
fn limits(keys: &mut Keys<'_>, settings: &mut Settings) -> Option<Certificate> {
    let no_keep_alive = keys.flag("disable_keep_alives", true);
    let idle = keys.number("max_idle_conns_per_host").unwrap_or(2);
    settings.max_idle_per_endpoint = if no_keep_alive { 0 } else { idle };
    let mut limit = |key: &str, default: usize| {
        let given = keys.number(key).filter(|n| *n > 0);
        given.unwrap_or(default)
    };
    settings.max_request_head = limit("max_request_header_bytes", 1 << 20).max(8 << 10);
    settings.max_response_head = limit("max_response_header_bytes", 1 << 20).max(8 << 10);
    settings.max_request_headers = limit("max_request_headers", settings.max_request_headers);
    settings.max_response_headers = limit("max_response_headers", settings.max_response_headers);
    let mut backends = keys.section("backends");
    settings.max_conns_per_endpoint = backends.number("max_conns").unwrap_or(0);
    settings.max_attempts = backends.number("max_attempts").unwrap_or(1).max(1);
    tls::pair(&mut backends, "cert_chain", "private_key")
}

const FORWARDED_CLIENT_CERT: &[(&str, ForwardedClientCert)] = &[
    ("always_forward", ForwardedClientCert::AlwaysForward),
    ("forward", ForwardedClientCert::Forward),
    ("sanitize_set", ForwardedClientCert::SanitizeSet),
];

fn sharding(keys: &mut Keys<'_>) -> Sharding {
    #[derive(Clone, Copy)]
    enum Mode {
        All,
        Segments,
        Shared,
    }
    let listed = keys.texts("isolation_segments").unwrap_or_default();
    let mode = keys.choice(
        "routing_table_sharding_mode",
        &[
            ("all", Mode::All),
            ("segments", Mode::Segments),
            ("shared-and-segments", Mode::Shared),
        ],
    );
    match mode.unwrap_or(Mode::All) {
        Mode::All => Sharding::All,
        Mode::Segments if listed.is_empty() => {
            keys.problem("routing_table_sharding_mode", "is \"segments\", but isolation_segments is empty: no route would be taken; list at least one segment");
            Sharding::All
        }
        Mode::Segments => Sharding::Segments(listed),
        Mode::Shared => Sharding::SharedAndSegments(listed),
    }
}

fn balancing(keys: &mut Keys<'_>) -> Balancing {
    let names = [("round-robin", false), ("least-connection", true)];
    match keys.choice("balancing_algorithm", &names) {
        Some(true) => Balancing::LeastConnection,
        _ => Balancing::RoundRobin,
    }
}

fn prefer_zone(keys: &mut Keys<'_>) -> Option<String> {
    let zone = keys.text("zone").filter(|zone| !zone.is_empty());
    let names = [("none", false), ("", false), ("locally-optimistic", true)];
    let near = keys.choice("balancing_algorithm_az_preference", &names) == Some(true);
    if near && zone.is_none() {
        keys.problem(
            "balancing_algorithm_az_preference",
            "is \"locally-optimistic\", but zone is missing: name this router's zone",
        );
    }
    zone.filter(|_| near)
}

fn response_rewrite(keys: &mut Keys<'_>) -> ResponseRewrite {
    let mut section = keys.section("http_rewrite");
    let mut responses = section.section("responses");
    let want = "a header name: letters, digits and dashes";
    let name = |keys: &mut Keys<'_>| {
        keys.read("name", want, |value| {
            HeaderName::from_str(value.as_str()?).ok()
        })
    };
    let mut rewrite = ResponseRewrite::default();
    for mut header in responses.sections("remove_headers") {
        rewrite.remove.extend(name(&mut header));
    }
    for mut header in responses.sections("add_headers_if_not_present") {
        let value = header
            .text("value")
            .and_then(|value| HeaderValue::from_str(&value).ok());
        match (name(&mut header), value) {
            (Some(name), Some(value)) => rewrite.add_if_absent.push((name, value)),
            _ => header.problem("value", "or name is missing: give both, as texts"),
        }
    }
    rewrite
}

/// `None` without a secret.
fn route_services(keys: &mut Keys<'_>) -> Option<RouteServices> {
    let mut some = |key: &str| keys.text(key).filter(|text| !text.is_empty());
    let secret = some("route_services_secret");
    let secret_decrypt_only = some("route_services_secret_decrypt_only");
    keys.without_effect(&["route_services_internal_server_port"]);
    let timeout = keys.duration("route_services_timeout");
    let recommend_https = keys.flag("route_services_recommend_https", false);
    let hairpinning = keys.flag("route_services_hairpinning", false);
    let allowlist = keys.texts("route_services_hairpinning_allowlist");
    let skip_ssl_validation = keys.flag("skip_ssl_validation", false);
    let mut own = keys.section("route_services");
    let mut egress_blocklist = Vec::new();
    for range in own.texts("egress_blocklist").unwrap_or_default() {
        match AddressRange::parse(&range) {
            Some(range) => egress_blocklist.push(range),
            None => own.problem(
                "egress_blocklist",
                &format!("has {range:?}, which is not a range of addresses: write e.g. 10.0.0.0/8"),
            ),
        }
    }
    Some(RouteServices {
        secret_decrypt_only,
        timeout: timeout.unwrap_or(Duration::from_secs(60)),
        recommend_https,
        max_attempts: own.number("max_attempts").unwrap_or(3).max(1),
        strict_signature_validation: own.flag("strict_signature_validation", false),
        websockets: own.flag("enable_websockets", true),
        identity: tls::pair(&mut own, "cert_chain", "private_key"),
        skip_ssl_validation,
        hairpinning,
        hairpinning_allowlist: allowlist.unwrap_or_default(),
        egress_blocklist,
        secret: secret?,
    })
}

fn status(keys: &mut Keys<'_>) -> StatusKeys {
    keys.unsupported(&["enable_deprecated_varz_healthz_endpoints"]);
    let host = keys.read("host", "an IP address, e.g. 0.0.0.0", |value| {
        value.as_str()?.parse().ok()
    });
    let port = keys.port("port").unwrap_or(8080);
    let plain = keys.flag("enable_nontls_health_checks", true);
    let mut tls = keys.section("tls");
    let tls_port = tls.port("port").unwrap_or(8443);
    let certificate = tls::pair(&mut tls, "certificate", "key");
    StatusKeys {
        host: host.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        port: plain.then_some(port).filter(|port| *port != 0),
        tls: certificate.map(|certificate| (tls_port, certificate)),
        routes_port: keys.section("routes").port("port").unwrap_or(8082),
        user: keys.text("user").unwrap_or_default(),
        pass: keys.text("pass").unwrap_or_default(),
    }
}

fn prometheus(keys: &mut Keys<'_>) -> Option<Prometheus> {
    keys.without_effect(&["meters"]);
    let enabled = keys.flag("enabled", false);
    let port = keys.port("port").unwrap_or(0);
    let files = ["cert_path", "key_path", "ca_path"]
        .map(|key| keys.text(key).filter(|path| !path.is_empty()));
    let given = files.iter().flatten().count();
    if given != 0 && given != files.len() {
        keys.problem(
            "cert_path",
            "needs key_path and ca_path beside it: give all three, or none",
        );
    }
    let tls_files = (given == files.len()).then(|| files.map(|f| f.unwrap_or_default().into()));
    if enabled && port == 0 {
        keys.problem("port", "is missing: /metrics needs one, e.g. 7070");
    }
    (enabled || port != 0).then_some(Prometheus { port, tls_files })
}

fn nats(keys: &mut Keys<'_>) -> clients::nats::Config {
    let mut servers = Vec::new();
    for mut host in keys.sections("hosts") {
        let port = host.port("port").unwrap_or(4222);
        match host.text("hostname").filter(|name| !name.is_empty()) {
            Some(name) => servers.push(format!("{name}:{port}")),
            None => host.problem(
                "hostname",
                "is missing: give the NATS server's name or address",
            ),
        }
    }
    if servers.is_empty() {
        servers.push("localhost:4222".into());
    }
    let user = keys.text("user").unwrap_or_default();
    let password = keys.text("pass").unwrap_or_default();
    let enabled = keys.flag("tls_enabled", false);
    let ca = tls::authorities(keys, "ca_certs");
    let pair = tls::pair(keys, "cert_chain", "private_key");
    if enabled && (pair.is_none() || ca.is_empty()) {
        keys.problem("tls_enabled", "is true, but ca_certs, cert_chain or private_key is missing: give all three as PEM, or set tls_enabled to false");
    }
    clients::nats::Config {
        servers,
        user,
        password,
        tls: pair.filter(|_| enabled).map(|pair| Identity {
            cert_pem: pair.cert_pem,
            key_pem: pair.key_pem,
            ca_pem: ca,
        }),
    }
}

fn logging(keys: &mut Keys<'_>) -> (Option<PathBuf>, &'static str, LogFormat) {
    let mut access = keys.section("access_log");
    access.unsupported(&["enable_streaming"]);
    let file = access.text("file").filter(|path| !path.is_empty());
    let mut logging = keys.section("logging");
    logging.unsupported(&["syslog", "loggregator_enabled"]);
    logging.without_effect(&[
        "syslog_addr",
        "syslog_network",
        "syslog_truncate",
        "metron_address",
        "format",
        "enable_attempts_details",
    ]);
    let level = logging.choice(
        "level",
        &[
            ("debug", "debug"),
            ("info", "info"),
            ("warn", "warn"),
            ("error", "error"),
            ("fatal", "error"),
        ],
    );
    let redact = logging.choice(
        "redact_query_params",
        &[
            ("none", RedactQuery::None),
            ("", RedactQuery::None),
            ("all", RedactQuery::All),
            ("hash", RedactQuery::Hash),
        ],
    );
    let mut format = LogFormat {
        redact_query: redact.unwrap_or_default(),
        without_forwarded_for: logging.flag("disable_log_forwarded_for", false),
        without_source_ip: logging.flag("disable_log_source_ip", false),
        ..LogFormat::default()
    };
    for name in logging.texts("extra_access_log_fields").unwrap_or_default() {
        match LogField::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, field)) => format.extra_fields.push(*field),
            None => logging.warn(
                "extra_access_log_fields",
                &format!("has {name}, which this router does not know: dropped"),
            ),
        }
    }
    for name in keys.texts("extra_headers_to_log").unwrap_or_default() {
        match HeaderName::from_str(&name) {
            Ok(header) => format.extra_headers.push(header),
            Err(_) => keys.problem(
                "extra_headers_to_log",
                &format!("has {name:?}, which is not a header name: correct or remove it"),
            ),
        }
    }
    (file.map(PathBuf::from), level.unwrap_or("debug"), format)
}

#[cfg(test)]
mod tests;
