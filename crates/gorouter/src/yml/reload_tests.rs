//! Tests that every key is either reloaded or named as one that needs a restart; none is reloaded partly.

use super::*;
use router::Difference;

/// A file in which every key can be changed by adding one line.
const BASE: &str = "port: 80";

/// The keys, each with another value than its default, and whether a reload changes it.
const KEYS: &[(&str, &str, bool)] = &[
    ("backends.max_attempts", "backends: {max_attempts: 7}", true),
    ("backends.max_conns", "backends: {max_conns: 7}", true),
    (
        "balancing_algorithm",
        "balancing_algorithm: least-connection",
        false,
    ),
    (
        "balancing_algorithm_az_preference",
        "{zone: z, balancing_algorithm_az_preference: locally-optimistic}",
        true,
    ),
    (
        "zone",
        "{zone: z, balancing_algorithm_az_preference: locally-optimistic}",
        true,
    ),
    ("compat", "compat: none", false),
    (
        "component_hosts",
        "component_hosts: [uaa.example.com]",
        false,
    ),
    ("disable_keep_alives", "disable_keep_alives: false", true),
    (
        "max_idle_conns_per_host",
        "{disable_keep_alives: false, max_idle_conns_per_host: 7}",
        true,
    ),
    ("drain_timeout", "drain_timeout: 7s", true),
    ("drain_wait", "drain_wait: 7s", true),
    (
        "droplet_stale_threshold",
        "droplet_stale_threshold: 77s",
        false,
    ),
    (
        "empty_pool_response_code_503",
        "empty_pool_response_code_503: true",
        true,
    ),
    ("empty_pool_timeout", "empty_pool_timeout: 7s", false),
    (
        "enable_envelope_v1_metrics",
        "enable_envelope_v1_metrics: false",
        false,
    ),
    ("enable_http2", "enable_http2: false", false),
    ("enable_proxy", "enable_proxy: true", true),
    ("endpoint_dial_timeout", "endpoint_dial_timeout: 7s", true),
    ("endpoint_timeout", "endpoint_timeout: 7s", true),
    (
        "extra_headers_to_log",
        "extra_headers_to_log: [X-Mine]",
        false,
    ),
    (
        "force_forwarded_proto_https",
        "force_forwarded_proto_https: true",
        true,
    ),
    (
        "forwarded_client_cert",
        "forwarded_client_cert: forward",
        true,
    ),
    ("frontend_idle_timeout", "frontend_idle_timeout: 7s", true),
    ("go_max_procs", "go_max_procs: 77", true),
    (
        "healthcheck_user_agent",
        "healthcheck_user_agent: Probe",
        true,
    ),
    ("hold_timeout", "hold_timeout: 7s", false),
    (
        "hop_by_hop_headers_to_filter",
        "hop_by_hop_headers_to_filter: [X-Mine]",
        true,
    ),
    (
        "http_1_endpoint_timeout",
        "http_1_endpoint_timeout: 7s",
        true,
    ),
    (
        "http_2_endpoint_timeout",
        "http_2_endpoint_timeout: 7s",
        true,
    ),
    (
        "http_rewrite.responses",
        "http_rewrite: {responses: {remove_headers: [{name: X-Mine}]}}",
        true,
    ),
    ("index", "index: 7", false),
    (
        "isolation_segments",
        "{isolation_segments: [a], routing_table_sharding_mode: segments}",
        false,
    ),
    (
        "routing_table_sharding_mode",
        "{isolation_segments: [a], routing_table_sharding_mode: segments}",
        false,
    ),
    ("access_log.format", "access_log: {format: json}", true),
    (
        "access_log.rotate_megabytes",
        "access_log: {rotate_megabytes: 7}",
        false,
    ),
    (
        "access_log.rotate_keep",
        "access_log: {rotate_megabytes: 7, rotate_keep: 7}",
        false,
    ),
    (
        "logging.disable_log_forwarded_for",
        "logging: {disable_log_forwarded_for: true}",
        true,
    ),
    (
        "logging.disable_log_source_ip",
        "logging: {disable_log_source_ip: true}",
        true,
    ),
    (
        "logging.enable_attempts_details",
        "logging: {enable_attempts_details: true}",
        true,
    ),
    (
        "logging.extra_access_log_fields",
        "logging: {extra_access_log_fields: [tls_time]}",
        true,
    ),
    (
        "logging.loggregator_enabled",
        "logging: {loggregator_enabled: true}",
        false,
    ),
    (
        "logging.metron_address",
        "logging: {metron_address: 'a:1'}",
        false,
    ),
    (
        "logging.redact_query_params",
        "logging: {redact_query_params: all}",
        true,
    ),
    (
        "access_log.enable_streaming",
        "access_log: {enable_streaming: true}",
        false,
    ),
    (
        "logging.syslog",
        "{access_log: {enable_streaming: true}, logging: {syslog: mine}}",
        false,
    ),
    (
        "logging.syslog_addr",
        "{access_log: {enable_streaming: true}, logging: {syslog_addr: 'a:1'}}",
        false,
    ),
    (
        "logging.syslog_network",
        "{access_log: {enable_streaming: true}, logging: {syslog_network: tcp}}",
        false,
    ),
    (
        "logging.syslog_truncate",
        "{access_log: {enable_streaming: true}, logging: {syslog_truncate: 7}}",
        false,
    ),
    (
        "max_request_header_bytes",
        "max_request_header_bytes: 77777",
        true,
    ),
    ("max_request_headers", "max_request_headers: 7", true),
    (
        "max_response_header_bytes",
        "max_response_header_bytes: 77777",
        true,
    ),
    ("max_response_headers", "max_response_headers: 7", true),
    (
        "per_app_prometheus_http_metrics_reporting",
        "per_app_prometheus_http_metrics_reporting: true",
        false,
    ),
    (
        "per_request_metrics_reporting",
        "per_request_metrics_reporting: false",
        false,
    ),
    (
        "prometheus.meters",
        "prometheus: {enabled: true, port: 7777, meters: {gorouter_time_histogram_buckets: [1, 2]}}",
        false,
    ),
    (
        "prune_stale_droplets_interval",
        "prune_stale_droplets_interval: 7s",
        false,
    ),
    ("read_header_timeout", "read_header_timeout: 7s", true),
    ("register_interval", "register_interval: 7s", false),
    (
        "route_latency_metric_muzzle_duration",
        "route_latency_metric_muzzle_duration: 7s",
        false,
    ),
    ("route_services_secret", "route_services_secret: hush", true),
    (
        "sanitize_forwarded_proto",
        "sanitize_forwarded_proto: true",
        true,
    ),
    ("secure_cookies", "secure_cookies: true", true),
    (
        "send_http_start_stop_client_event",
        "send_http_start_stop_client_event: false",
        false,
    ),
    (
        "send_http_start_stop_server_event",
        "send_http_start_stop_server_event: false",
        false,
    ),
    (
        "start_response_delay_interval",
        "start_response_delay_interval: 7s",
        false,
    ),
    (
        "status.enable_deprecated_varz_healthz_endpoints",
        "status: {enable_deprecated_varz_healthz_endpoints: true}",
        false,
    ),
    (
        "sticky_session_cookie_names",
        "sticky_session_cookie_names: [MINE]",
        true,
    ),
    (
        "sticky_sessions_for_auth_negotiate",
        "sticky_sessions_for_auth_negotiate: true",
        true,
    ),
    (
        "suspend_pruning_if_nats_unavailable",
        "suspend_pruning_if_nats_unavailable: true",
        false,
    ),
    ("tls_handshake_timeout", "tls_handshake_timeout: 7s", true),
    ("trace_key", "trace_key: mine", true),
    ("tracing.enable_w3c", "tracing: {enable_w3c: true}", false),
    (
        "tracing.enable_zipkin",
        "tracing: {enable_zipkin: true}",
        false,
    ),
    (
        "tracing.otlp_endpoint",
        "tracing: {enable_w3c: true, otlp_endpoint: 'http://127.0.0.1:4318'}",
        false,
    ),
    (
        "tracing.w3c_tenant_id",
        "tracing: {w3c_tenant_id: mine}",
        false,
    ),
];

/// The keys and sections whose values are in neither of the two halves: addresses, certificates, other processes, sources of
/// routes; sections whose keys have rows above; and keys without effect.
const ELSEWHERE: &[&str] = &[
    "access_log",
    "access_log.file",
    "backends",
    "backends.cert_chain",
    "backends.private_key",
    "ca_certs",
    "cipher_suites",
    "client_ca_certs",
    "client_cert_validation",
    "debug_addr",
    "disable_http",
    "domains",
    "enable_ssl",
    "enable_verify_client_certificate_metadata",
    "html_error_template_file",
    "http_rewrite",
    "http_rewrite.responses.add_headers_if_not_present",
    "http_rewrite.responses.remove_headers",
    "logging",
    "logging.format",
    "logging.format.timestamp",
    "logging.level",
    "max_tls_version",
    "min_tls_version",
    "nats_client_ping_interval",
    "only_trust_client_ca_certs",
    "pid_file",
    "port",
    "prometheus",
    "skip_ssl_validation",
    "ssl_port",
    "status",
    "tls_pem",
    "token_fetcher_expiration_buffer_time",
    "token_fetcher_max_retries",
    "token_fetcher_retry_interval",
    "tracing",
    "verify_client_certificate_metadata",
    // These have no effect.
    "endpoint_keep_alive_probe_interval",
    "enable_http1_concurrent_read_write",
    "healthcheck_poll_interval",
    "healthcheck_timeout",
    "keep_alive_100_continue_requests",
    "load_balancer_healthy_threshold",
    "max_idle_conns",
    "publish_active_apps_interval",
    "publish_start_message_interval",
    "websocket_dial_timeout",
];
/// The sections of which all keys are such.
const SECTIONS: &[&str] = &[
    "nats",
    "oauth",
    "prometheus",
    "route_services",
    "routing_api",
    "status",
];

/// Reads the file with these lines added.
fn with(lines: &str) -> GorouterYml {
    let text = match lines.starts_with('{') {
        true => lines.replacen('{', &format!("{{{BASE}, "), 1),
        false => format!("{BASE}\n{lines}"),
    };
    read(&text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

#[test]
fn a_key_is_reloaded_or_named_and_never_half() {
    let before = with("");
    for (key, lines, reloaded) in KEYS {
        let after = with(lines);
        let Difference {
            lasting: lasts,
            serving: serves,
        } = before.settings.difference(&after.settings);
        assert!(lasts || serves, "{key}: {lines} changes nothing");
        assert!(
            lasts != serves,
            "{key} changes both halves: it would be reloaded by half"
        );
        assert_eq!(serves, *reloaded, "{key}");
        let named = before.fixed.changed(&after.fixed);
        assert_eq!(named.is_empty(), serves, "{key}: a reload names {named:?}");
    }
}

#[test]
fn every_key_that_is_read_has_its_row() {
    let notes = Notes::default();
    let document = yaml_serde::from_str(BASE).unwrap();
    file(&mut Keys::new("", document, &notes), Fixed::default());
    let has_row = |key: &str| {
        let section = key.split('.').next().unwrap_or_default();
        KEYS.iter().any(|(known, ..)| *known == key)
            || ELSEWHERE.contains(&key)
            || SECTIONS.contains(&section)
            || section.starts_with("route_services_")
    };
    let asked = notes.asked.into_inner();
    let without: Vec<_> = asked.iter().filter(|key| !has_row(key)).collect();
    assert!(without.is_empty(), "{without:?}");
}
