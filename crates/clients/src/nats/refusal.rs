//! Logs why a server of the bus refuses us, and what an operator can do about it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time that a server may need longer than this process to start.
const LATE: Duration = Duration::from_secs(1);

/// The last error of each server, as far as the client reported it.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    seen: Mutex<HashMap<String, Seen>>,
}

#[derive(Debug)]
struct Seen {
    error: String,
    since: Instant,
    logged: bool,
}

impl Refusals {
    /// Logs the error of a server if it is new. `None` means that the server accepted us.
    pub(super) fn record(&self, server: &str, error: Option<&str>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = error else {
            seen.remove(server);
            return;
        };
        let before = seen.remove(server).filter(|seen| seen.error == error);
        let mut now = before.unwrap_or_else(|| Seen {
            error: error.into(),
            since: Instant::now(),
            logged: false,
        });
        if !now.logged {
            now.logged = log(server, &now);
        }
        seen.insert(server.into(), now);
    }
}

/// Logs the error. Returns whether it did: an error that may pass is not logged at first.
fn log(server: &str, seen: &Seen) -> bool {
    let error = &seen.error;
    match fix(error) {
        Some(fix) => tracing::error!(server, error, fix, "nats-connection-refused"),
        None if seen.since.elapsed() < LATE => return false,
        None => tracing::warn!(server, error, "nats-not-reachable"),
    }
    true
}

/// Returns the remedy for an error, or `None` if the server may become available without one. It examines the text of the error,
/// because the publishers' client keeps nothing else.
fn fix(error: &str) -> Option<&'static str> {
    let error = error.to_lowercase();
    let contains = |part: &str| error.contains(part);
    Some(if contains("authorization violation") {
        "the server does not know this user or its password: correct nats.user and nats.pass (route-registrar: user and password in message_bus_servers)"
    } else if contains("permissions violation") {
        "the server does not allow this user to subscribe or publish there: grant the permission on the server, or configure another user in nats.user and nats.pass (route-registrar: message_bus_servers)"
    } else if contains("notvalidforname") || contains("not valid for name") {
        "the server's certificate does not name the host that was dialled: write a name of the certificate in nats.hosts (route-registrar: message_bus_servers)"
    } else if contains("invalid peer certificate") {
        "the server's certificate is not from a known authority, or has expired: configure its authority in nats.ca_certs, with nats.tls_enabled true (route-registrar: nats_mtls_config.ca_path)"
    } else if contains("requires tls") {
        "the server accepts TLS connections only: set nats.tls_enabled to true, with nats.ca_certs, nats.cert_chain and nats.private_key (route-registrar: nats_mtls_config)"
    } else if contains("received fatal alert") {
        "the server refuses this client's certificate: configure one from an authority that the server trusts in nats.cert_chain and nats.private_key (route-registrar: nats_mtls_config.cert_path and key_path)"
    } else if contains("received corrupt message") || contains("does not support tls") {
        "the server does not support TLS: set nats.tls_enabled to false (route-registrar: nats_mtls_config.enabled), or configure a certificate on the server"
    } else {
        return None;
    })
}
