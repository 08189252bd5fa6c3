//! The configuration of the Routing API, which TCP routes need.

use crate::tcp_routes::TcpRoutes;
use anyhow::{Context as _, Result};
use clients::http::{Authorities, Tls};
use clients::uaa::ClientCredentials;
use go_values::duration;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// The default time to live of a route that is not refreshed.
const MAX_TTL: Duration = Duration::from_secs(120);

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RoutingApiSection {
    api_url: String,
    oauth_url: String,
    client_id: String,
    client_secret: String,
    /// The path of a file with the authorities of the UAA.
    ca_certs: PathBuf,
    skip_ssl_validation: bool,
    client_cert_path: PathBuf,
    client_private_key_path: PathBuf,
    server_ca_cert_path: PathBuf,
    max_ttl: String,
}

impl std::fmt::Debug for RoutingApiSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoutingApiSection")
            .field("api_url", &self.api_url)
            .field("oauth_url", &self.oauth_url)
            .finish_non_exhaustive()
    }
}

/// The checked section. Certificates are named, not read.
#[derive(Debug)]
pub(super) struct RoutingApi {
    section: RoutingApiSection,
    max_ttl: Duration,
}

impl RoutingApiSection {
    /// Returns the checked section, or `None` if no route needs it: deployments always contain parts of it.
    pub(super) fn checked(self, needed: bool, problems: &mut Vec<String>) -> Option<RoutingApi> {
        if !needed {
            return None;
        }
        let encrypted = self.api_url.starts_with("https://");
        let empty = |path: &PathBuf| path.as_os_str().is_empty();
        for (key, missing) in [
            ("api_url", self.api_url.is_empty()),
            ("oauth_url", self.oauth_url.is_empty()),
            ("client_id", self.client_id.is_empty()),
            ("client_secret", self.client_secret.is_empty()),
        ] {
            if missing {
                problems.push(format!(
                    "routing_api.{key} is missing: routes of type tcp and sni need it"
                ));
            }
        }
        for (key, missing) in [
            ("client_cert_path", empty(&self.client_cert_path)),
            (
                "client_private_key_path",
                empty(&self.client_private_key_path),
            ),
            ("server_ca_cert_path", empty(&self.server_ca_cert_path)),
        ] {
            if encrypted && missing {
                problems.push(format!(
                    "routing_api.{key} is missing: api_url begins with https://, so set it to a PEM file"
                ));
            }
        }
        for (key, url) in [("api_url", &self.api_url), ("oauth_url", &self.oauth_url)] {
            let known = ["http://", "https://"];
            if !url.is_empty() && !known.iter().any(|scheme| url.starts_with(scheme)) {
                problems.push(format!(
                    "routing_api.{key} {url:?} begins with neither https:// nor http://: write e.g. https://host:8443"
                ));
            }
        }
        let max_ttl = match self.max_ttl.as_str() {
            "" => Some(MAX_TTL),
            text => duration::parse(text),
        };
        if max_ttl.is_none() {
            problems.push(format!(
                "routing_api.max_ttl {:?} is not a duration: write e.g. 120s",
                self.max_ttl
            ));
        }
        let max_ttl = max_ttl.filter(|ttl| !ttl.is_zero()).unwrap_or(MAX_TTL);
        Some(RoutingApi {
            section: self,
            max_ttl,
        })
    }
}

impl RoutingApi {
    /// Reads the certificates.
    pub(super) fn read(&self) -> Result<TcpRoutes> {
        let section = &self.section;
        let encrypted = section.api_url.starts_with("https://");
        let tls = if encrypted {
            Tls {
                authorities: Authorities::Pem(file(
                    "server_ca_cert_path",
                    &section.server_ca_cert_path,
                )?),
                identity: Some((
                    file("client_cert_path", &section.client_cert_path)?,
                    file("client_private_key_path", &section.client_private_key_path)?,
                )),
            }
        } else {
            Tls {
                authorities: Authorities::Pem(String::new()),
                identity: None,
            }
        };
        let uaa_authorities = if section.skip_ssl_validation {
            Authorities::Any
        } else if section.ca_certs.as_os_str().is_empty() {
            Authorities::System
        } else {
            Authorities::Pem(file("ca_certs", &section.ca_certs)?)
        };
        let api = clients::routing_api::Config {
            url: section.api_url.clone(),
            tls,
            oauth: Some(ClientCredentials {
                url: section.oauth_url.trim_end_matches('/').to_owned(),
                key: "routing_api.oauth_url",
                id: section.client_id.clone(),
                secret: section.client_secret.clone(),
                tls: Tls {
                    authorities: uaa_authorities,
                    identity: None,
                },
                // These values are the original's.
                max_retries: 3,
                retry_interval: Duration::from_millis(500),
                expiration_buffer: Duration::from_secs(30),
            }),
        };
        TcpRoutes::new(&api, self.max_ttl).context("routing_api: use its certificates")
    }
}

fn file(key: &str, path: &PathBuf) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!(
            "routing_api.{key} {}: the file cannot be read: does it exist, and may this process read it?",
            path.display()
        )
    })
}
