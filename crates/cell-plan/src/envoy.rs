//! Configures the Envoy of an instance: its bootstrap configuration and its secrets, as JSON (which is YAML too).
//!
//! One TLS listener per TLS port forwards the bytes to the app at the container's own address. Certificates come from files in a
//! watched directory (they are replaced by rename there). The admin page listens on loopback.

use crate::ports::PortPlan;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// The path in the container at which the configuration directory is mounted.
pub const CONFIG_DIR: &str = "/etc/cf-assets/envoy_config";
pub const BOOTSTRAP_FILE: &str = "envoy.yaml";
pub const ID_SECRET_FILE: &str = "sds-id-cert-and-key.yaml";
pub const C2C_SECRET_FILE: &str = "sds-c2c-cert-and-key.yaml";
pub const VALIDATION_SECRET_FILE: &str = "sds-id-validation-context.yaml";
pub const BINARY_DIR: &str = "/etc/cf-assets/envoy";

const ID_SECRET: &str = "id-cert-and-key";
const C2C_SECRET: &str = "c2c-cert-and-key";
const VALIDATION_SECRET: &str = "id-validation-context";
const TLS_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
const NO_LIMIT: u32 = u32::MAX;
/// The percentage of the memory that the heap may use. The rest is for stacks, sockets and health checks.
const HEAP_PERCENT: u64 = 75;
/// The number of bytes that wait on one side of a connection. By default Envoy keeps up to 1 MiB.
const BUFFER: u32 = 32 << 10;

/// Returns the program's path and arguments inside the container. It has one worker and no hot restart (two Envoys of one network
/// namespace would conflict).
pub fn command() -> (String, Vec<String>) {
    let args = [
        "-c",
        &format!("{CONFIG_DIR}/{BOOTSTRAP_FILE}"),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--drain-time-s",
        "900",
        "--log-level",
        "critical",
    ];
    (
        format!("{BINARY_DIR}/envoy"),
        args.iter().map(|a| (*a).to_owned()).collect(),
    )
}

/// Returns the bootstrap configuration of the Envoy of instance `guid`. It may use `memory` bytes, and stops accepting connections
/// before they are exhausted.
pub fn bootstrap(guid: &str, container_ip: Ipv4Addr, ports: &PortPlan, memory: u64) -> Value {
    let listeners: Vec<Value> = ports
        .tls
        .iter()
        .map(|p| listener(p.app, p.tls, p.is_c2c()))
        .collect();
    let mut apps: Vec<u16> = ports.tls.iter().map(|p| p.app).collect();
    apps.dedup();
    let mut config = json!({
        "node": { "id": format!("sidecar~{container_ip}~{guid}~x"), "cluster": "proxy-cluster" },
        "stats_config": { "stats_matcher": { "reject_all": true } },
        "overload_manager": overload(memory),
        "static_resources": {
            "clusters": apps.iter().map(|port| cluster(container_ip, *port)).collect::<Vec<_>>(),
            "listeners": listeners,
        },
    });
    if let Some(port) = ports.admin {
        config["admin"] = json!({ "address": address("127.0.0.1", port) });
    }
    config
}

fn overload(memory: u64) -> Value {
    const HEAP: &str = "envoy.resource_monitors.fixed_heap";
    let action = |name: &str, threshold: f64| {
        json!({
            "name": format!("envoy.overload_actions.{name}"),
            "triggers": [{ "name": HEAP, "threshold": { "value": threshold } }],
        })
    };
    json!({
        "refresh_interval": "0.25s",
        "resource_monitors": [{
            "name": HEAP,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                "max_heap_size_bytes": memory * HEAP_PERCENT / 100,
            },
        }],
        "actions": [action("shrink_heap", 0.9), action("stop_accepting_connections", 0.95)],
    })
}

/// Returns the secret file of a certificate. `c2c` selects the container-to-container one.
pub fn certificate_secret(c2c: bool, chain_pem: &str, key_pem: &str) -> Value {
    let name = if c2c { C2C_SECRET } else { ID_SECRET };
    secret(json!({
        "name": name,
        "tls_certificate": { "certificate_chain": { "inline_string": chain_pem }, "private_key": { "inline_string": key_pem } },
    }))
}

/// Returns the secret file that defines whose client certificates are accepted: those issued by `trusted_ca_pem`.
pub fn validation_secret(trusted_ca_pem: &str) -> Value {
    secret(
        json!({ "name": VALIDATION_SECRET, "validation_context": { "trusted_ca": { "inline_string": trusted_ca_pem } } }),
    )
}

fn secret(mut secret: Value) -> Value {
    secret["@type"] = json!(format!("{TLS_TYPE}.Secret"));
    json!({ "resources": [secret] })
}

fn address(ip: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": ip, "port_value": port } })
}

fn cluster(container_ip: Ipv4Addr, port: u16) -> Value {
    let name = format!("service-cluster-{port}");
    json!({
        "name": name,
        "type": "STATIC",
        // Short time-outs would lose connections under heavy load, though the app is on the same machine.
        "connect_timeout": "5s",
        "per_connection_buffer_limit_bytes": BUFFER,
        "circuit_breakers": { "thresholds": [{ "max_connections": NO_LIMIT, "max_pending_requests": NO_LIMIT, "max_requests": NO_LIMIT, "max_retries": NO_LIMIT }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(&container_ip.to_string(), port) } }] }],
        },
    })
}

fn listener(app: u16, tls: u16, c2c: bool) -> Value {
    json!({
        "name": format!("listener-{app}-{tls}"),
        "per_connection_buffer_limit_bytes": BUFFER,
        "address": address("0.0.0.0", tls),
        "filter_chains": [{
            "filters": [{
                "name": "envoy.tcp_proxy",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "0-stats",
                    "cluster": format!("service-cluster-{app}"),
                },
            }],
            "transport_socket": { "name": "envoy.transport_sockets.tls", "typed_config": tls_context(c2c) },
        }],
    })
}

fn tls_context(c2c: bool) -> Value {
    let mut common = json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_2",
            "tls_maximum_protocol_version": "TLSv1_3",
            "cipher_suites": [
                "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
            ],
        },
        "tls_certificate_sds_secret_configs": [if c2c { sds(C2C_SECRET, C2C_SECRET_FILE) } else { sds(ID_SECRET, ID_SECRET_FILE) }],
    });
    if !c2c {
        common["alpn_protocols"] = json!(["h2", "http/1.1"]);
        common["validation_context_sds_secret_config"] =
            sds(VALIDATION_SECRET, VALIDATION_SECRET_FILE);
    }
    json!({
        "@type": format!("{TLS_TYPE}.DownstreamTlsContext"),
        "require_client_certificate": !c2c,
        "common_tls_context": common,
    })
}

fn sds(name: &str, file: &str) -> Value {
    json!({
        "name": name,
        "sds_config": {
            "path_config_source": { "path": format!("{CONFIG_DIR}/{file}"), "watched_directory": { "path": CONFIG_DIR } },
            "resource_api_version": "V3",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports;

    fn config() -> Value {
        bootstrap(
            "guid",
            Ipv4Addr::new(10, 255, 0, 2),
            &ports::plan(&[8080, 2222], true, false).unwrap(),
            64 << 20,
        )
    }

    #[test]
    fn listeners_clusters_and_admin() {
        let config = config();
        let resources = &config["static_resources"];
        let names = |kind: &str| {
            resources[kind]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v["name"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names("listeners"),
            [
                "listener-8080-61001",
                "listener-8080-61443",
                "listener-2222-61002"
            ]
        );
        assert_eq!(
            names("clusters"),
            ["service-cluster-8080", "service-cluster-2222"]
        );
        let endpoint = &resources["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"]
            [0]["endpoint"]["address"]["socket_address"];
        assert_eq!(
            *endpoint,
            json!({ "address": "10.255.0.2", "port_value": 8080 })
        );
        assert_eq!(
            config["admin"]["address"]["socket_address"],
            json!({ "address": "127.0.0.1", "port_value": 61003 })
        );
    }

    #[test]
    fn connections_end_before_memory_does() {
        let manager = &config()["overload_manager"];
        let heap = &manager["resource_monitors"][0]["typed_config"]["max_heap_size_bytes"];
        assert_eq!(*heap, json!(48 << 20));
        assert_eq!(
            manager["actions"][1]["name"],
            "envoy.overload_actions.stop_accepting_connections"
        );
    }

    #[test]
    fn only_the_container_to_container_listener_requests_no_certificate() {
        let config = config();
        let context = |at: usize| {
            config["static_resources"]["listeners"][at]["filter_chains"][0]["transport_socket"]["typed_config"].clone()
        };
        for (at, required) in [(0, true), (1, false), (2, true)] {
            assert_eq!(context(at)["require_client_certificate"], json!(required));
            assert_eq!(
                context(at)["common_tls_context"]
                    .get("validation_context_sds_secret_config")
                    .is_some(),
                required
            );
            assert_eq!(
                context(at)["common_tls_context"]
                    .get("alpn_protocols")
                    .is_some(),
                required
            );
        }
        assert_eq!(
            context(1)["common_tls_context"]["tls_certificate_sds_secret_configs"][0]["name"],
            "c2c-cert-and-key"
        );
    }
}
