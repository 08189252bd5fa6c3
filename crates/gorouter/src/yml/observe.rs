//! The keys of observability: status pages, metrics, logs.

use super::keys::Keys;
use super::{Prometheus, StatusKeys, tls};
use crate::log::TimestampFormat;
use http::HeaderName;
use router::{Buckets, LogField, LogFormat, Metron, RedactQuery, Rotation, Syslog, TlsTerms};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr as _;
use yaml_serde::Value;

pub(super) fn status(keys: &mut Keys<'_>) -> StatusKeys {
    let deprecated_pages = keys.flag("enable_deprecated_varz_healthz_endpoints", false);
    // An empty host means every address of this machine.
    let host = keys.read("host", "an IP address, e.g. 0.0.0.0", |value| {
        match value.as_str()? {
            "" => Some(None),
            "localhost" => Some(Some(Ipv4Addr::LOCALHOST.into())),
            address => address.parse().ok().map(Some),
        }
    });
    let port = keys.port("port").unwrap_or(8080);
    let plain = keys.flag("enable_nontls_health_checks", true);
    let mut tls = keys.section("tls");
    let tls_port = tls.port("port").unwrap_or(8443);
    let certificate = tls::pair(&mut tls, "certificate", "key");
    if certificate.is_none() && tls_port != 8443 {
        tls.problem(
            "certificate",
            "and key are missing, but port is given: give both as PEM, or remove port",
        );
    }
    if certificate.is_none() && !plain {
        keys.problem("enable_nontls_health_checks", "is false, and status.tls has no certificate: no load balancer could ask for the router's health; give status.tls.certificate and key, or set this to true");
    }
    StatusKeys {
        host: host.flatten().unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        port: plain.then_some(port).filter(|port| *port != 0),
        tls: certificate.map(|certificate| (tls_port, certificate)),
        routes_port: keys.section("routes").port("port").unwrap_or(8082),
        user: keys.text("user").unwrap_or_default(),
        pass: keys.text("pass").unwrap_or_default(),
        deprecated_pages,
        tls_terms: TlsTerms::default(),
    }
}

/// Reads the page and its buckets.
pub(super) fn prometheus(keys: &mut Keys<'_>) -> (Option<Prometheus>, Buckets) {
    let buckets = buckets(&mut keys.section("meters"));
    let enabled = keys.flag("enabled", false);
    let port = keys.port("port").unwrap_or(0);
    let files = ["cert_path", "key_path", "ca_path"].map(|key| keys.path(key));
    let given = files.iter().flatten().count();
    if given != 0 && given != files.len() {
        keys.problem(
            "cert_path",
            "needs key_path and ca_path beside it: give all three, or none",
        );
    }
    let tls_files = (given == files.len()).then(|| files.map(Option::unwrap_or_default));
    if enabled && port == 0 {
        keys.problem("port", "is missing: /metrics needs one, e.g. 7070");
    }
    let page = (enabled || port != 0).then_some(Prometheus { port, tls_files });
    (page, buckets)
}

fn buckets(keys: &mut Keys<'_>) -> Buckets {
    let mut of = |key: &str, default: Vec<f64>| {
        let want = "a list of numbers, each above the one before";
        let given = keys.read(key, want, |value| {
            let numbers = value.as_sequence()?.iter().map(Value::as_f64);
            let numbers: Vec<f64> = numbers.collect::<Option<_>>()?;
            numbers.is_sorted_by(|a, b| a < b).then_some(numbers)
        });
        given
            .filter(|buckets| !buckets.is_empty())
            .unwrap_or(default)
    };
    let default = Buckets::default();
    Buckets {
        lookup: of("route_lookup_time_histogram_buckets", default.lookup),
        gorouter_time: of("gorouter_time_histogram_buckets", default.gorouter_time),
        latency: of(
            "routing_response_latency_histogram_buckets",
            default.latency,
        ),
        registration: of(
            "route_registration_latency_histogram_buckets",
            default.registration,
        ),
        http_latency: of("http_latency_histogram_buckets", default.http_latency),
    }
}

/// The destinations of the logs and their contents.
pub(super) struct Logging {
    pub(super) access_log: Option<PathBuf>,
    pub(super) rotation: Option<Rotation>,
    pub(super) level: &'static str,
    pub(super) timestamp: TimestampFormat,
    pub(super) format: LogFormat,
    pub(super) headers: Vec<HeaderName>,
    pub(super) syslog: Option<Syslog>,
    pub(super) metron: Metron,
}

pub(super) fn logging(keys: &mut Keys<'_>) -> Logging {
    let mut access = keys.section("access_log");
    let streaming = access.flag("enable_streaming", false);
    let json = access.choice("format", &[("gorouter", false), ("json", true)]);
    let file = access.path("file");
    let rotation = rotation(&mut access);
    drop(access);
    let mut logging = keys.section("logging");
    let metron = metron(keys, &mut logging);
    let syslog = syslog(&mut logging).filter(|_| streaming);
    let mut format = logging.section("format");
    let timestamp = format.choice_or_empty(
        "timestamp",
        &[
            ("unix-epoch", TimestampFormat::UnixEpoch),
            ("rfc3339", TimestampFormat::Rfc3339),
        ],
    );
    drop(format);
    let level = level(&mut logging);
    Logging {
        access_log: file,
        rotation,
        level,
        timestamp: timestamp.unwrap_or_default(),
        format: LogFormat {
            json: json.unwrap_or(false),
            ..log_format(&mut logging)
        },
        headers: logged_headers(keys),
        syslog,
        metron,
    }
}

/// Reads the level. gorouter ignores the case of the names, and an empty one means `info`.
fn level(logging: &mut Keys<'_>) -> &'static str {
    let want = "one of debug, info, warn, error, fatal";
    let level = logging.read("level", want, |value| {
        match value.as_str()?.to_ascii_lowercase().as_str() {
            "debug" => Some("debug"),
            "info" | "" => Some("info"),
            "warn" | "warning" => Some("warn"),
            "error" | "dpanic" | "panic" | "fatal" => Some("error"),
            _ => None,
        }
    });
    level.unwrap_or("debug")
}

fn logged_headers(keys: &mut Keys<'_>) -> Vec<HeaderName> {
    let mut headers = Vec::new();
    let names = keys.texts("extra_headers_to_log").unwrap_or_default();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        match HeaderName::from_str(&name) {
            Ok(header) => headers.push(header),
            Err(_) => keys.problem(
                "extra_headers_to_log",
                &format!("has {name:?}, which is not a header name: correct or remove it"),
            ),
        }
    }
    headers
}

/// Reads our own rotation keys. Without them another program rotates the file, as with gorouter.
fn rotation(access: &mut Keys<'_>) -> Option<Rotation> {
    let megabytes: Option<u64> = access.number("rotate_megabytes");
    let keep = access.number("rotate_keep");
    match megabytes {
        Some(megabytes @ 1..) => Some(Rotation {
            max_bytes: megabytes.saturating_mul(1 << 20),
            keep: keep.unwrap_or(Rotation::KEEP),
        }),
        _ => {
            if keep.is_some() {
                access.problem(
                    "rotate_keep",
                    "needs access_log.rotate_megabytes beside it: give the size at which a file is full",
                );
            }
            None
        }
    }
}

fn metron(keys: &mut Keys<'_>, logging: &mut Keys<'_>) -> Metron {
    let want = "a host with a port: write e.g. localhost:3457";
    let address = logging.read("metron_address", want, |value| {
        let address = value.as_str()?;
        if address.is_empty() {
            return Some(None);
        }
        let (host, port) = address.rsplit_once(':')?;
        let host = if host.is_empty() { "localhost" } else { host };
        let port: u16 = port.parse().ok()?;
        (port != 0).then(|| Some(format!("{host}:{port}")))
    });
    let wanted = Metron {
        address: String::new(),
        logs: logging.flag("loggregator_enabled", false),
        server_events: keys.flag("send_http_start_stop_server_event", true),
        client_events: keys.flag("send_http_start_stop_client_event", true),
        metrics: keys.flag("enable_envelope_v1_metrics", true),
    };
    match address {
        Some(None) if wanted.metrics => {
            logging.problem("metron_address", "is empty, but enable_envelope_v1_metrics is true: give e.g. localhost:3457, or set enable_envelope_v1_metrics to false");
            Metron::default()
        }
        // gorouter starts with an empty address, and its envelopes reach no agent.
        Some(None) => {
            logging.warn("metron_address", "is empty: no envelopes are sent");
            Metron::default()
        }
        Some(Some(address)) => Metron { address, ..wanted },
        None => Metron {
            address: "localhost:3457".into(),
            ..wanted
        },
    }
}

/// Reads the server for access log lines.
fn syslog(keys: &mut Keys<'_>) -> Option<Syslog> {
    let network = keys.choice_or_empty("syslog_network", &[("udp", false), ("tcp", true)]);
    let address = keys.word("syslog_addr");
    let tag = keys.text("syslog").unwrap_or_default();
    Some(Syslog {
        address: address.unwrap_or_else(|| "127.0.0.1:514".into()),
        tcp: network.unwrap_or(false),
        tag: if tag.is_empty() {
            "gorouter".into()
        } else {
            tag
        },
        truncate: keys.signed("syslog_truncate").unwrap_or(0),
    })
}

const ATTEMPTS: [LogField; 6] = [
    LogField::FailedAttempts,
    LogField::FailedAttemptsTime,
    LogField::DnsTime,
    LogField::DialTime,
    LogField::TlsTime,
    LogField::BackendTime,
];

fn log_format(logging: &mut Keys<'_>) -> LogFormat {
    let redact = logging.choice(
        "redact_query_params",
        &[
            ("none", RedactQuery::None),
            ("", RedactQuery::None),
            ("all", RedactQuery::All),
            ("hash", RedactQuery::Hash),
            ("credentials", RedactQuery::Credentials),
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
    // This is the older key for the same fields.
    if logging.flag("enable_attempts_details", false) && format.extra_fields.is_empty() {
        format.extra_fields = ATTEMPTS.to_vec();
    }
    format
}
