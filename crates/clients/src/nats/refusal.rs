//! Why a server of the bus does not take us, and what an operator does about it.

use async_nats::Server;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What each server last answered, as far as it was told.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Mutex<HashMap<String, String>>,
}

impl Refusals {
    /// Tells what is new.
    pub(super) fn look(&self, servers: &[Server]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for server in servers {
            let address = server.to_string();
            let Some(error) = &server.last_error else {
                told.remove(&address);
                continue;
            };
            if told.get(&address) == Some(error) {
                continue;
            }
            match fix(error) {
                Some(fix) => {
                    tracing::error!(server = address, error, fix, "nats-connection-refused");
                }
                None => tracing::warn!(server = address, error, "nats-not-reachable"),
            }
            told.insert(address, error.clone());
        }
    }
}

/// By the text of the client's error, for it keeps nothing else. `None`: the server may come by itself.
fn fix(error: &str) -> Option<&'static str> {
    let says = |part: &str| error.contains(part);
    Some(if says("authorization violation") {
        "the server does not know this user or its password: correct nats.user and nats.pass (route-registrar: user and password in message_bus_servers)"
    } else if says("NotValidForName") || says("not valid for name") {
        "the server's certificate does not name the host that was dialled: write a name of the certificate in nats.hosts (route-registrar: message_bus_servers)"
    } else if says("invalid peer certificate") {
        "the server's certificate is not of a known authority, or has run out: give its authority in nats.ca_certs, with nats.tls_enabled true (route-registrar: nats_mtls_config.ca_path)"
    } else if says("received fatal alert") {
        "the server does not take this client's certificate: give one of an authority that the server trusts in nats.cert_chain and nats.private_key (route-registrar: nats_mtls_config.cert_path and key_path)"
    } else if says("received corrupt message") {
        "the server does not speak TLS: set nats.tls_enabled to false (route-registrar: nats_mtls_config.enabled), or give the server a certificate"
    } else {
        return None;
    })
}
