//! The keys of the Routing API and of the UAA that issues its tokens: `routing_api`, `oauth` and `token_fetcher_*`.
//!
//! The Routing API is off, as in gorouter, without `routing_api.uri` or `routing_api.port`; deployments always write `oauth`.

use super::keys::Keys;
use super::tls;
use clients::http::{Authorities, Tls};
use clients::routing_api::Config;
use clients::uaa::ClientCredentials;
use std::path::PathBuf;
use std::time::Duration;

/// The Routing API's configuration, and the file that is still to be read for it.
#[derive(Clone, Debug)]
pub struct RoutingApiKeys {
    pub api: Config,
    /// The file of `oauth.ca_certs`: the UAA's authorities. `None`: the machine's.
    pub oauth_ca_file: Option<PathBuf>,
}

pub(super) fn routing_api(keys: &mut Keys<'_>) -> Option<RoutingApiKeys> {
    let mut section = keys.section("routing_api");
    let uri = section.text("uri").unwrap_or_default();
    let port = section.signed::<u16>("port").unwrap_or(0);
    let auth_disabled = section.flag("auth_disabled", false);
    let authorities = tls::authorities(&mut section, "ca_certs");
    let on = !uri.is_empty() && port != 0;
    let shown = if on {
        tls::pair(&mut section, "cert_chain", "private_key")
    } else {
        tls::pair_or_none(&mut section, "cert_chain", "private_key")
    };
    if uri.is_empty() != (port == 0) {
        section.warn(
            "port",
            "and uri belong together: without both the Routing API is not used",
        );
    }
    let encrypted = uri.starts_with("https://");
    if on && !encrypted && !uri.starts_with("http://") {
        section.problem("uri", &format!("{uri:?} begins with neither https:// nor http://: write e.g. https://routing-api.service.cf.internal"));
    }
    if on && encrypted && authorities.trim().is_empty() {
        section.problem("ca_certs", "is missing, but uri begins with https://: give the authority of the Routing API's certificate as PEM");
    }
    let (oauth, oauth_ca_file) = oauth(keys, on.then_some(port).filter(|_| !auth_disabled));
    on.then(|| RoutingApiKeys {
        api: Config {
            url: format!("{}:{port}", uri.trim_end_matches('/')),
            tls: Tls {
                authorities: Authorities::Pem(authorities),
                identity: shown.map(|pair| (pair.cert_pem, pair.key_pem)),
            },
            oauth,
        },
        oauth_ca_file,
    })
}

/// Reads the credentials. `needed_for`: the port of a Routing API that requires tokens.
fn oauth(
    keys: &mut Keys<'_>,
    needed_for: Option<u16>,
) -> (Option<ClientCredentials>, Option<PathBuf>) {
    let max_retries = keys.number("token_fetcher_max_retries").unwrap_or(3);
    let interval = keys.duration("token_fetcher_retry_interval");
    let buffer = keys.signed::<i64>("token_fetcher_expiration_buffer_time");
    let buffer = buffer.and_then(|seconds| u64::try_from(seconds).ok());
    let mut section = keys.section("oauth");
    let is_there = !section.is_empty();
    let host = section.text("token_endpoint").unwrap_or_default();
    let port = section.number::<u16>("port").unwrap_or(0);
    let skip = section.flag("skip_ssl_validation", false);
    let id = section.text("client_name").unwrap_or_default();
    let secret = section.text("client_secret").unwrap_or_default();
    let ca_file = section.path("ca_certs");
    if let Some(api_port) = needed_for {
        if is_there {
            for (key, missing, example) in [
                (
                    "token_endpoint",
                    host.is_empty(),
                    "the UAA's name, e.g. uaa.service.cf.internal",
                ),
                (
                    "port",
                    port == 0,
                    "the UAA's TLS port, e.g. 8443 (UAA client requires TLS enabled)",
                ),
                (
                    "client_name",
                    id.is_empty(),
                    "the client that may read routes, e.g. gorouter",
                ),
                ("client_secret", secret.is_empty(), "that client's secret"),
            ] {
                if missing {
                    section.problem(key, &format!("is missing: routing_api.port is {api_port} and routing_api.auth_disabled is not true; give {example}"));
                }
            }
        } else {
            keys.problem("oauth", &format!("is missing, but routing_api.port is {api_port} and routing_api.auth_disabled is not true: give token_endpoint, port, client_name and client_secret of the UAA, or set routing_api.auth_disabled to true"));
        }
        if host.contains(['/', ':']) {
            section.problem("token_endpoint", &format!("{host:?} is no host name: write it without scheme, port and path (the port has a key of its own)"));
        }
    }
    let credentials = ClientCredentials {
        url: format!("https://{host}:{port}"),
        key: "oauth.token_endpoint",
        id,
        secret,
        tls: Tls {
            authorities: if skip {
                Authorities::Any
            } else {
                Authorities::System
            },
            identity: None,
        },
        max_retries,
        retry_interval: interval.unwrap_or(Duration::from_secs(5)),
        expiration_buffer: Duration::from_secs(buffer.unwrap_or(30)),
    };
    // A client that accepts every certificate needs no authority.
    let ca_file = ca_file.filter(|_| needed_for.is_some() && !skip);
    (needed_for.map(|_| credentials), ca_file)
}
