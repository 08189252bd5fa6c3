//! Reads the route-registrar's own configuration: a JSON file, and YAML files that jobs put beside it. All errors are reported at
//! once, by key.

mod routes;
mod routing_api;

use crate::route::{AnyRoute, Registration};
use crate::tcp_routes::TcpRoutes;
use kit::tls::Identity;
use routes::RouteSection;
use routing_api::{RoutingApi, RoutingApiSection};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// The checked configuration. Certificates are named, not read.
#[derive(Debug)]
pub struct Config {
    /// The message bus without its certificates, which [`Config::nats`] reads.
    bus: Option<clients::nats::Config>,
    /// The paths of certificate, key and authority for mutual TLS with NATS.
    nats_tls_files: Option<[PathBuf; 3]>,
    /// The Routing API without its certificates, which [`Config::tcp_routes`] reads.
    routing_api: Option<RoutingApi>,
    pub registrations: Vec<Registration>,
    /// The highest number of consecutive unregistrations of a route whose health check fails.
    pub unregistration_limit: u32,
    /// The paths of all files that were read.
    pub files: Vec<PathBuf>,
    pub warnings: Vec<String>,
}

impl Config {
    /// Returns the message bus, and reads its certificates. `None` means that there is none, and that no route needs it.
    pub fn nats(&self) -> anyhow::Result<Option<clients::nats::Config>> {
        let files = self.nats_tls_files.as_ref();
        let read = |[cert, key, ca]: &[PathBuf; 3]| {
            Identity::from_files([
                ("nats_mtls_config.cert_path", cert.as_path()),
                ("nats_mtls_config.key_path", key.as_path()),
                ("nats_mtls_config.ca_path", ca.as_path()),
            ])
        };
        let tls = files.map(read).transpose()?;
        let with = |bus: &clients::nats::Config| clients::nats::Config { tls, ..bus.clone() };
        Ok(self.bus.as_ref().map(with))
    }

    /// Returns the Routing API, and reads its certificates. `None` means that no route needs it.
    pub fn tcp_routes(&self) -> anyhow::Result<Option<TcpRoutes>> {
        let api = self.routing_api.as_ref();
        api.map(RoutingApi::read).transpose()
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct File {
    message_bus_servers: Vec<Server>,
    host: String,
    /// The number of this machine, for `prepend_instance_index`. This key is ours.
    index: Option<u32>,
    availability_zone: String,
    unregistration_message_limit: u32,
    nats_mtls_config: Mtls,
    dynamic_config_globs: Vec<String>,
    routes: Vec<RouteSection>,
    routing_api: Option<RoutingApiSection>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            message_bus_servers: Vec::new(),
            host: String::new(),
            index: None,
            availability_zone: String::new(),
            unregistration_message_limit: 5,
            nats_mtls_config: Mtls::default(),
            dynamic_config_globs: Vec::new(),
            routes: Vec::new(),
            routing_api: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    host: String,
    user: String,
    password: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mtls {
    enabled: bool,
    cert_path: PathBuf,
    key_path: PathBuf,
    ca_path: PathBuf,
}

/// The file of a job.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobFile {
    routes: Vec<RouteSection>,
}

/// Reads and checks the configuration. An error lists everything that is wrong.
pub fn load(path: &Path) -> Result<Config, Vec<String>> {
    // JSON is valid YAML.
    let file: File = read(path).map_err(|problem| vec![problem])?;
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let mut sections: Vec<(String, RouteSection)> = Vec::new();
    let number = |prefix: &str, sections: Vec<RouteSection>| {
        let prefix = prefix.to_owned();
        let numbered = sections.into_iter().enumerate();
        numbered.map(move |(n, section)| (format!("{prefix}routes[{n}]"), section))
    };
    sections.extend(number("", file.routes));
    let mut files = vec![path.to_owned()];
    for pattern in &file.dynamic_config_globs {
        let paths = matching(pattern).unwrap_or_else(|problem| {
            problems.push(problem);
            Vec::new()
        });
        for path in paths {
            files.push(path.clone());
            match read::<JobFile>(&path) {
                Ok(job) => sections.extend(number(&format!("{}: ", path.display()), job.routes)),
                Err(problem) => problems.push(problem),
            }
        }
    }
    let has_tcp = sections.iter().any(|(_, section)| section.is_tcp());
    let has_http = sections.iter().any(|(_, section)| !section.is_tcp());
    let mut registrations = Vec::new();
    for (key, section) in sections {
        let checked = section.registration(&file.host, &file.availability_zone, file.index);
        match checked {
            Ok(registration) => {
                if let AnyRoute::Tcp(route) = &registration.route
                    && section.is_sni()
                    && route.sni_hostname.is_empty()
                {
                    warnings.push(format!("{key}.sni_routable_san is missing: every client of external_port {} reaches this route; set the name that its own clients request", route.external_port));
                }
                registrations.push(registration);
            }
            Err(wrong) => problems.extend(wrong.into_iter().map(|w| format!("{key}.{w}"))),
        }
    }
    if file.host.is_empty() {
        problems
            .push("host is missing: set the address by which routers reach this machine".into());
    }
    // A registrar without routes may receive some later.
    if file.message_bus_servers.is_empty() && (has_http || !has_tcp) {
        problems.push("message_bus_servers is empty: list at least one NATS server".into());
    }
    let routing_api = file.routing_api.unwrap_or_default();
    let routing_api = routing_api.checked(has_tcp, &mut problems);
    let bus = bus(file.message_bus_servers, &mut problems);
    let mtls = file.nats_mtls_config;
    let mtls_files = [mtls.cert_path, mtls.key_path, mtls.ca_path];
    if mtls.enabled && mtls_files.iter().any(|f| f.as_os_str().is_empty()) {
        problems.push("nats_mtls_config.enabled is true, but cert_path, key_path or ca_path is missing: set all three".into());
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Config {
        bus,
        nats_tls_files: mtls.enabled.then_some(mtls_files),
        routing_api,
        registrations,
        unregistration_limit: file.unregistration_message_limit,
        files,
        warnings,
    })
}

/// Returns the message bus, or `None` if no server is configured.
fn bus(servers: Vec<Server>, problems: &mut Vec<String>) -> Option<clients::nats::Config> {
    let login = servers.first()?;
    let (user, password) = (login.user.clone(), login.password.clone());
    for (n, server) in servers.iter().enumerate() {
        if server.host.is_empty() {
            problems.push(format!(
                "message_bus_servers[{n}].host is missing: set host:port"
            ));
        }
        if (&server.user, &server.password) != (&user, &password) {
            problems.push(format!("message_bus_servers[{n}] has another user or password than the first: servers of one cluster share them; use the same ones"));
        }
    }
    Some(clients::nats::Config {
        servers: servers.into_iter().map(|server| server.host).collect(),
        user,
        password,
        ..clients::nats::Config::default()
    })
}

/// Returns the existing files that match a pattern, sorted. Folders that cannot be read contain none.
fn matching(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let paths = glob::glob(pattern).map_err(|error| {
        format!("dynamic_config_globs has {pattern:?}, which is not a pattern of paths: {error}")
    })?;
    Ok(paths.flatten().filter(|path| path.is_file()).collect())
}

fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    yaml_serde::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
