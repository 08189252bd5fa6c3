//! The keys that a running router cannot change; they need a restart or an upgrade, which reads everything again.

use yaml_serde::Value;

const KEYS: &[&str] = &[
    "port",
    "ssl_port",
    "enable_ssl",
    "disable_http",
    "nats",
    "nats_client_ping_interval",
    "routing_api",
    "oauth",
    "token_fetcher_max_retries",
    "token_fetcher_retry_interval",
    "token_fetcher_expiration_buffer_time",
    "index",
    "extra_headers_to_log",
    "tracing",
    "pid_file",
    "debug_addr",
    "compat",
    "hold_timeout",
    "enable_http2",
    "per_request_metrics_reporting",
    "per_app_prometheus_http_metrics_reporting",
    "component_hosts",
    "isolation_segments",
    "routing_table_sharding_mode",
    "balancing_algorithm",
    "start_response_delay_interval",
    "register_interval",
    "prune_stale_droplets_interval",
    "droplet_stale_threshold",
    "empty_pool_timeout",
    "suspend_pruning_if_nats_unavailable",
    "route_latency_metric_muzzle_duration",
    "enable_envelope_v1_metrics",
    "send_http_start_stop_server_event",
    "send_http_start_stop_client_event",
];

/// The fixed keys within sections: ports, addresses and forms.
const PARTS: &[(&str, &[&str])] = &[
    (
        "status",
        &[
            "host",
            "port",
            "routes",
            "enable_nontls_health_checks",
            "enable_deprecated_varz_healthz_endpoints",
        ],
    ),
    ("prometheus", &["enabled", "port", "meters"]),
    (
        "access_log",
        &[
            "file",
            "enable_streaming",
            "rotate_megabytes",
            "rotate_keep",
        ],
    ),
    (
        "logging",
        &[
            "format",
            "syslog",
            "syslog_addr",
            "syslog_network",
            "syslog_truncate",
            "loggregator_enabled",
            "metron_address",
        ],
    ),
];

/// The values of these keys.
#[derive(Clone, Default, PartialEq)]
pub struct Fixed(Vec<(String, Option<Value>)>);

/// The debug output has no values, because some are secrets.
impl std::fmt::Debug for Fixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(key, _)| key))
            .finish()
    }
}

impl Fixed {
    pub(super) fn of(document: &Value) -> Self {
        let whole = KEYS
            .iter()
            .map(|key| ((*key).to_owned(), document.get(key).cloned()));
        let parts = PARTS.iter().flat_map(|(section, keys)| {
            keys.iter().map(move |key| {
                let value = document.get(section).and_then(|section| section.get(key));
                (format!("{section}.{key}"), value.cloned())
            })
        });
        Self(whole.chain(parts).collect())
    }

    /// Returns the keys whose values differ.
    pub fn changed(&self, new: &Self) -> Vec<String> {
        let pairs = self.0.iter().zip(&new.0);
        pairs
            .filter(|(old, new)| old != new)
            .map(|((key, _), _)| key.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_keys_are_named() {
        let of = |text: &str| Fixed::of(&yaml_serde::from_str(text).unwrap());
        let old = of("port: 80\nlogging: {level: info}\nstatus: {port: 8080}");
        let new = of("port: 80\nlogging: {level: debug}\nstatus: {port: 8081}\nindex: 1");
        assert_eq!(old.changed(&new), ["index", "status.port"]);
        assert!(old.changed(&old).is_empty());
    }
}
