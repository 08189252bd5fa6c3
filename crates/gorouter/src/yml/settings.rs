//! The keys for the handling of requests and for the table.

use super::keys::{Keys, whole};
use super::{tls, traces};
use http::{HeaderName, HeaderValue};
use route_table::registry::{Balancing, ComponentHosts};
use router::{Certificate, ForwardedClientCert, ResponseRewrite, Settings, Sharding};
use std::str::FromStr as _;
use std::time::Duration;

/// The interval that stands for "never": a year.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The settings that this module reads.
pub(super) struct Handling {
    pub(super) settings: Settings,
    /// The certificate that the router presents to backends.
    pub(super) own: Option<Certificate>,
    /// The segments that the file lists, whether the mode uses them or not.
    pub(super) isolation_segments: Vec<String>,
}

pub(super) fn settings(keys: &mut Keys<'_>) -> Handling {
    let seconds = Duration::from_secs;
    let start_delay = keys
        .duration("start_response_delay_interval")
        .unwrap_or(seconds(5));
    let endpoint_timeout = keys.duration("endpoint_timeout").unwrap_or(seconds(60));
    let stale = keys.duration("droplet_stale_threshold");
    let stale_threshold = stale.unwrap_or(seconds(120)).max(start_delay);
    let compat = compat(keys);
    let defaults = Settings::default();
    let isolation_segments = keys.texts("isolation_segments").unwrap_or_default();
    let mut settings = Settings {
        index: keys.number("index").unwrap_or(0),
        workers: workers(keys).unwrap_or(defaults.workers),
        start_delay,
        register_interval: register_interval(keys, start_delay),
        // 0 switches pruning off, as in gorouter.
        prune_interval: match keys.duration("prune_stale_droplets_interval") {
            Some(interval) if interval.is_zero() => NEVER,
            interval => interval.unwrap_or(seconds(30)),
        },
        stale_threshold,
        empty_pool_timeout: keys.duration("empty_pool_timeout").unwrap_or_default(),
        empty_pool_503: keys.flag("empty_pool_response_code_503", false),
        suspend_pruning_if_nats_unavailable: keys
            .flag("suspend_pruning_if_nats_unavailable", false),
        sharding: sharding(keys, isolation_segments.clone()),
        component_hosts: component_hosts(keys),
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
        // 0 switches the limit off, as in gorouter. An absent key does not: a client could hold connections without end by half a
        // request.
        read_header_timeout: keys
            .duration("read_header_timeout")
            .unwrap_or(defaults.read_header_timeout),
        compat_gorouter: compat,
        // gorouter never prunes a TLS endpoint for its silence.
        keep_silent_tls_endpoints: compat,
        keep_unregistered_routes: compat,
        hold_timeout: keys.duration("hold_timeout").unwrap_or_default(),
        per_request_metrics: keys.flag("per_request_metrics_reporting", true),
        per_app_metrics: keys.flag("per_app_prometheus_http_metrics_reporting", false),
        route_latency_muzzle: keys
            .duration("route_latency_metric_muzzle_duration")
            .unwrap_or(seconds(20)),
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
        trace_key: keys.text("trace_key").unwrap_or_default(),
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
    traces::tracing(keys, &mut settings);
    Handling {
        settings,
        own,
        isolation_segments,
    }
}

/// Reads the number of workers. -1 and 0 ask for one worker for each core.
fn workers(keys: &mut Keys<'_>) -> Option<usize> {
    let given = keys.read("go_max_procs", "a whole number", whole)?;
    usize::try_from(given).ok().filter(|n| *n > 0)
}

/// Reads how often emitters register. gorouter has one key for two things: how long to gather routes, and how often emitters
/// register.
fn register_interval(keys: &mut Keys<'_>, start_delay: Duration) -> Duration {
    let own = keys.duration("register_interval");
    let interval = own.unwrap_or(start_delay);
    if own.is_some_and(|own| own < Duration::from_secs(1)) {
        keys.problem(
            "register_interval",
            "is below 1s: emitters would flood the bus; write 20s",
        );
    }
    if interval.is_zero() {
        Duration::from_secs(20)
    } else {
        interval
    }
}

/// Reads our own key `compat`: whether the original's quirks are kept. This file is an original's, so they are kept by default.
fn compat(keys: &mut Keys<'_>) -> bool {
    keys.choice("compat", &[("gorouter", true), ("none", false)])
        .unwrap_or(true)
}

/// Reads limits, where 0 means "no limit" in most of them. Returns what else `backends` holds: the certificate that is presented
/// to backends.
fn limits(keys: &mut Keys<'_>, settings: &mut Settings) -> Option<Certificate> {
    let no_keep_alive = keys.flag("disable_keep_alives", true);
    let idle = idle_per_endpoint(keys);
    settings.max_idle_per_endpoint = if no_keep_alive { 0 } else { idle };
    let mut limit = |key: &str, default: usize| {
        let given = keys.signed(key).filter(|n| *n > 0);
        given.unwrap_or(default)
    };
    settings.max_request_head = limit("max_request_header_bytes", 1 << 20);
    settings.max_response_head = limit("max_response_header_bytes", 1 << 20);
    settings.max_request_headers = limit("max_request_headers", settings.max_request_headers);
    settings.max_response_headers = limit("max_response_headers", settings.max_response_headers);
    let mut backends = keys.section("backends");
    settings.max_conns_per_endpoint = backends.signed("max_conns").unwrap_or(0);
    settings.max_attempts = backends.signed("max_attempts").unwrap_or(1).max(1);
    tls::pair_or_none(&mut backends, "cert_chain", "private_key")
}

/// Reads the idle connections per endpoint as Go counts them: 0 asks for its default of 2, a number below 0 for none.
fn idle_per_endpoint(keys: &mut Keys<'_>) -> usize {
    match keys.read("max_idle_conns_per_host", "a whole number", whole) {
        None | Some(0) => 2,
        Some(given) => usize::try_from(given).unwrap_or(0),
    }
}

pub(super) const FORWARDED_CLIENT_CERT: &[(&str, ForwardedClientCert)] = &[
    ("always_forward", ForwardedClientCert::AlwaysForward),
    ("forward", ForwardedClientCert::Forward),
    ("sanitize_set", ForwardedClientCert::SanitizeSet),
];

fn sharding(keys: &mut Keys<'_>, listed: Vec<String>) -> Sharding {
    #[derive(Clone, Copy)]
    enum Mode {
        All,
        Segments,
        Shared,
    }
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
            keys.problem("routing_table_sharding_mode", "is \"segments\", but isolation_segments is empty: no route would be accepted; list at least one segment");
            Sharding::All
        }
        Mode::Segments => Sharding::Segments(listed),
        Mode::Shared => Sharding::SharedAndSegments(listed),
    }
}

/// Reads our own key `component_hosts`: hosts on which apps get no routes, such as `uaa.example.com` and `*.uaa.example.com`.
/// Absent: no host is a component's, as in gorouter.
fn component_hosts(keys: &mut Keys<'_>) -> Option<ComponentHosts> {
    let listed = keys.texts("component_hosts")?;
    for host in &listed {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(usual) {
            keys.problem(
                "component_hosts",
                &format!("has {host:?}: write a host such as uaa.example.com or *.uaa.example.com"),
            );
        }
    }
    Some(ComponentHosts::new(listed.iter().map(String::as_str)))
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
        let name = keys.word("name");
        if name.is_none() {
            keys.warn("name", "is missing or empty: this entry changes nothing");
        }
        let parsed = name.as_deref().map(HeaderName::from_str)?.ok();
        if parsed.is_none() {
            keys.problem("name", &format!("{name:?} is not {want}"));
        }
        parsed
    };
    let mut rewrite = ResponseRewrite::default();
    for mut header in responses.sections("remove_headers") {
        rewrite.remove.extend(name(&mut header));
        // gorouter also reads a value here, and does not use it.
        header.without_effect(&["value"]);
    }
    for mut header in responses.sections("add_headers_if_not_present") {
        let value = header.text("value").unwrap_or_default();
        match (name(&mut header), HeaderValue::from_str(&value)) {
            (Some(name), Ok(value)) => rewrite.add_if_absent.push((name, value)),
            (Some(_), Err(_)) => {
                header.problem("value", &format!("{value:?} cannot be a header's value"));
            }
            (None, _) => {}
        }
    }
    rewrite
}
