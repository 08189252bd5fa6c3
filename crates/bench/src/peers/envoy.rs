//! Envoy with `--concurrency 1` and an access log to a file (which it buffers).

use super::{Scheme, Started};
use crate::process::Process;
use crate::rig::{INSTANCE, Rig};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

pub(super) fn start(scheme: Scheme, rig: &Rig) -> Result<Started> {
    ensure!(
        rig.envoy.is_file(),
        "{} is missing: run `make setup` first",
        rig.envoy.display()
    );
    let port = kit::net::free_port()?;
    let file = rig.path(&format!("envoy-{port}.json"));
    std::fs::write(&file, config(port, scheme, rig).to_string())?;
    let envoy = rig.envoy.to_string_lossy();
    let command = [
        &*envoy,
        "-c",
        &file,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ];
    let mut process = Process::start(
        &format!("envoy-{port}"),
        Some(rig.proxy_core),
        &command,
        &rig.folder,
    )?;
    process.listens(port)?;
    Ok((Some(process), port))
}

fn config(port: u16, scheme: Scheme, rig: &Rig) -> Value {
    let address =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let file = |name: &str| json!({"filename": rig.certs.path(name)});
    let pair = |name: &str| json!([{"certificate_chain": file(&format!("{name}.crt")), "private_key": file(&format!("{name}.key"))}]);
    let versions = json!({"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"});
    let connections = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "use_remote_address": true,
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": rig.path(&format!("envoy-{port}-access.log"))}}],
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend"}}]}]},
    });
    let protocols = if scheme == Scheme::Http2 {
        vec!["h2"]
    } else {
        vec![]
    };
    let mut chain = json!({"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}]});
    let mut cluster = json!({
        "name": "backend",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(rig.backend_port(scheme))}}]}]},
    });
    if scheme != Scheme::Http {
        chain["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": pair("front"), "tls_params": versions, "alpn_protocols": protocols}}});
    }
    if scheme == Scheme::Https {
        cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": INSTANCE,
            "common_tls_context": {"tls_certificates": pair("client"), "tls_params": versions,
                "validation_context": {"trusted_ca": file("ca.pem"),
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": INSTANCE}}]}}}});
    }
    json!({"static_resources": {
        "listeners": [{"name": "front", "address": address(port), "filter_chains": [chain]}],
        "clusters": [cluster],
    }})
}
