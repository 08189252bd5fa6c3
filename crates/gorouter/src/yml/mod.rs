//! `gorouter.yml`: an original router's configuration file, read for this router.
//!
//! Absent keys have the defaults of gorouter's own code (a BOSH deployment writes them all). Unknown keys, and keys for features
//! that this router does not have yet, cause a warning each. All invalid values are reported together. This module reads no file
//! and binds nothing: its caller does.

mod fixed;
mod keys;
mod observe;
mod route_services;
mod routing_api;
mod settings;
mod tls;
mod traces;

pub use fixed::Fixed;
pub use routing_api::RoutingApiKeys;

use crate::log::TimestampFormat;
use clients::nats::PING_INTERVAL;
use keys::{Keys, Notes};
use kit::tls::Identity;
use observe::Logging;
use router::{Certificate, Settings, TlsTerms};
use settings::Handling;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use yaml_serde::Value;

/// The configuration that a `gorouter.yml` asks for.
#[derive(Debug)]
pub struct GorouterYml {
    pub http_port: Option<u16>,
    pub https_port: Option<u16>,
    pub certificates: Vec<Certificate>,
    pub status: StatusKeys,
    pub prometheus: Option<Prometheus>,
    pub nats: clients::nats::Config,
    /// The Routing API; `None`: it is not used.
    pub routing_api: Option<RoutingApiKeys>,
    pub backend_tls: Identity,
    pub access_log: Option<PathBuf>,
    /// The log level: `debug`, `info`, `warn` or `error`.
    pub log_level: &'static str,
    pub log_timestamp: TimestampFormat,
    /// The template for the router's own errors, which is to be read into `settings.error_page`.
    pub error_page: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    /// The address on which `PUT /log-level` changes the level.
    pub debug_addr: Option<SocketAddr>,
    pub settings: Settings,
    /// The segments that the file lists, for the log.
    pub isolation_segments: Vec<String>,
    /// The values that cannot change while the router runs.
    pub fixed: Fixed,
    /// The warnings by key, as texts for operators.
    pub warnings: Vec<String>,
}

/// The section `status`: pages for load balancers and operators.
#[derive(Debug)]
pub struct StatusKeys {
    pub host: IpAddr,
    /// The port of the health page; `None`: there is none without TLS.
    pub port: Option<u16>,
    pub tls: Option<(u16, Certificate)>,
    /// The versions and cipher suites of that port. They are those of HTTPS for clients.
    pub tls_terms: TlsTerms,
    /// The port of `/routes` on loopback.
    pub routes_port: u16,
    pub user: String,
    pub pass: String,
    /// Whether `/varz`, `/healthz` and `/routes` exist beside `/health`.
    pub deprecated_pages: bool,
}

/// The section `prometheus`: `/metrics` on loopback.
#[derive(Debug)]
pub struct Prometheus {
    pub port: u16,
    /// The files for mutual TLS: certificate, key and authority.
    pub tls_files: Option<[PathBuf; 3]>,
}

/// Reads the text of the file. On failure it returns everything that is wrong with the file, by key, and then the warnings,
/// because an unknown key may be the misspelt name of a missing one.
pub fn read(text: &str) -> Result<GorouterYml, Vec<String>> {
    let notes = Notes::default();
    let document = if text.trim().is_empty() {
        Value::Null
    } else {
        yaml_serde::from_str(text)
            .map_err(|error| vec![format!("the file is not YAML: {error}")])?
    };
    let fixed = Fixed::of(&document);
    let mut read = {
        let mut keys = Keys::new("", document, &notes);
        file(&mut keys, fixed)
    };
    let mut problems = notes.problems.into_inner();
    let warnings = notes.warnings.into_inner();
    if !problems.is_empty() {
        problems.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
        return Err(problems);
    }
    read.warnings = warnings;
    Ok(read)
}

fn file(keys: &mut Keys<'_>, fixed: Fixed) -> GorouterYml {
    let Handling {
        settings,
        own,
        isolation_segments,
    } = settings::settings(keys);
    let (http_port, https_port) = ports(keys);
    let front = tls::front(keys, https_port.is_some(), own);
    let mut status = observe::status(&mut keys.section("status"));
    status.tls_terms = front.service_terms.clone();
    let (prometheus, buckets) = observe::prometheus(&mut keys.section("prometheus"));
    let route_services = route_services::route_services(keys, &front.service_terms);
    let nats = clients::nats::Config {
        ping_interval: ping_interval(keys),
        ..nats(&mut keys.section("nats"))
    };
    let routing_api = routing_api::routing_api(keys);
    let Logging {
        access_log,
        rotation,
        level,
        timestamp,
        format,
        headers,
        syslog,
        metron,
    } = observe::logging(keys);
    elsewhere(keys);
    GorouterYml {
        http_port,
        https_port,
        certificates: front.certificates,
        prometheus,
        nats,
        routing_api,
        backend_tls: front.backend_tls,
        access_log,
        log_level: level,
        log_timestamp: timestamp,
        error_page: keys.path("html_error_template_file"),
        pid_file: keys.path("pid_file"),
        debug_addr: debug_addr(keys),
        settings: Settings {
            front_tls: front.tls,
            backend_terms: front.backend_terms,
            system_backend_cas: true,
            log_format: format,
            logged_headers: headers,
            syslog,
            access_log_rotation: rotation,
            route_services,
            buckets,
            deprecated_pages: status.deprecated_pages,
            metron,
            ..settings
        },
        isolation_segments,
        status,
        fixed,
        warnings: Vec::new(),
    }
}

/// Reads the keys of which another part of the system takes care, or which the design of this router makes needless.
fn elsewhere(keys: &mut Keys<'_>) {
    keys.elsewhere(
        "publish_active_apps_interval",
        "has no effect: no component has subscribed to router.active_apps since the DEAs; remove it",
    );
    keys.without_effect(&[
        // gorouter does not use these either.
        "publish_start_message_interval",
        "load_balancer_healthy_threshold",
        "websocket_dial_timeout",
        // These belong to the program that watches a gorouter.
        "healthcheck_poll_interval",
        "healthcheck_timeout",
        // Connections are kept per endpoint; the kernel's own probes find dead ones.
        "max_idle_conns",
        "endpoint_keep_alive_probe_interval",
        // This router always does so.
        "keep_alive_100_continue_requests",
        "enable_http1_concurrent_read_write",
    ]);
}

/// Reads the address as gorouter does: an empty host means every address of this machine, and an empty text counts as absent.
fn debug_addr(keys: &mut Keys<'_>) -> Option<SocketAddr> {
    keys.word("debug_addr").and_then(|address| {
        let parsed = match address.rsplit_once(':') {
            Some(("", port)) => format!("0.0.0.0:{port}").parse().ok(),
            Some(("localhost", port)) => format!("127.0.0.1:{port}").parse().ok(),
            _ => address.parse().ok(),
        };
        if parsed.is_none() {
            keys.problem(
                "debug_addr",
                &format!("{address:?} is not an address with a port: write e.g. 127.0.0.1:17002"),
            );
        }
        parsed
    })
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

fn nats(keys: &mut Keys<'_>) -> clients::nats::Config {
    let mut servers = Vec::new();
    for mut host in keys.sections("hosts") {
        let port = host.port("port").filter(|port| *port != 0);
        let port = port.unwrap_or(4222);
        let name = host.word("hostname").unwrap_or_else(|| {
            host.warn("hostname", "is missing or empty: localhost is used");
            "localhost".into()
        });
        servers.push(if name.parse::<Ipv6Addr>().is_ok() {
            format!("[{name}]:{port}")
        } else {
            format!("{name}:{port}")
        });
    }
    if servers.is_empty() {
        servers.push("localhost:4222".into());
    }
    let user = keys.text("user").unwrap_or_default();
    let password = keys.text("pass").unwrap_or_default();
    let enabled = keys.flag("tls_enabled", false);
    let ca = tls::authorities(keys, "ca_certs");
    let pair = if enabled {
        tls::pair(keys, "cert_chain", "private_key")
    } else {
        tls::pair_or_none(keys, "cert_chain", "private_key")
    };
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
        ..clients::nats::Config::default()
    }
}

fn ping_interval(keys: &mut Keys<'_>) -> Duration {
    let key = "nats_client_ping_interval";
    let interval = keys.duration(key).unwrap_or(PING_INTERVAL);
    if interval.is_zero() {
        keys.warn(key, "is 0, and the loss of a silent NATS server would never be noticed: 20s is used; give e.g. 20s");
        return PING_INTERVAL;
    }
    interval
}

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod reload_tests;
#[cfg(test)]
mod tests;
