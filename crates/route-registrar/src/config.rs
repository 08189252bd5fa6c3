//! The route-registrar's own configuration: a JSON file, and YAML files that jobs drop beside it. Everything that is
//! wrong is told at once, by key.

use crate::registrar::{Registration, Route};
use crate::{HealthCheck, duration, glob};
use kit::tls::Identity;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Checked; certificates are named, not read.
#[derive(Debug)]
pub struct Config {
    /// Without certificates: [`Config::nats`] reads them.
    bus: clients::nats::Config,
    /// Certificate, key and authority for mutual TLS with NATS.
    nats_tls_files: Option<[PathBuf; 3]>,
    pub registrations: Vec<Registration>,
    /// Most unregistrations in a row of a route whose health check fails.
    pub unregistration_limit: u32,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
    pub warnings: Vec<String>,
}

impl Config {
    /// The message bus; reads the certificates.
    pub fn nats(&self) -> anyhow::Result<clients::nats::Config> {
        let files = self.nats_tls_files.as_ref();
        let read = |files| Identity::from_files("nats_mtls_config", files);
        Ok(clients::nats::Config {
            tls: files.map(read).transpose()?,
            ..self.bus.clone()
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct File {
    message_bus_servers: Vec<Server>,
    host: String,
    /// Ours: this machine's number, for `prepend_instance_index`.
    index: Option<u32>,
    availability_zone: String,
    unregistration_message_limit: u32,
    nats_mtls_config: Mtls,
    dynamic_config_globs: Vec<String>,
    routes: Vec<RouteSection>,
    routing_api: Option<serde_json::Value>,
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

/// A job's own file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobFile {
    routes: Vec<RouteSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RouteSection {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    host: String,
    port: Option<u16>,
    tls_port: Option<u16>,
    protocol: String,
    uris: Vec<String>,
    tags: BTreeMap<String, String>,
    registration_interval: String,
    route_service_url: String,
    server_cert_domain_san: String,
    prepend_instance_index: bool,
    health_check: Option<HealthCheckSection>,
    options: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HealthCheckSection {
    name: String,
    script_path: PathBuf,
    timeout: String,
}

/// Reads and checks; on failure everything that is wrong.
pub fn load(path: &Path) -> Result<Config, Vec<String>> {
    // JSON is YAML.
    let file: File = read(path).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let mut routes: Vec<(String, RouteSection)> = Vec::new();
    let number = |prefix: &str, sections: Vec<RouteSection>| {
        let prefix = prefix.to_owned();
        let numbered = sections.into_iter().enumerate();
        numbered.map(move |(n, section)| (format!("{prefix}routes[{n}]"), section))
    };
    routes.extend(number("", file.routes));
    let mut files = vec![path.to_owned()];
    for pattern in &file.dynamic_config_globs {
        for path in glob::files(pattern) {
            files.push(path.clone());
            match read::<JobFile>(&path) {
                Ok(job) => routes.extend(number(&format!("{}: ", path.display()), job.routes)),
                Err(problem) => problems.push(problem),
            }
        }
    }
    let (mut registrations, mut warnings) = (Vec::new(), Vec::new());
    if file.routing_api.is_some() {
        warnings
            .push("routing_api is not read: TCP and SNI routes need it, HTTP routes do not".into());
    }
    for (key, section) in routes {
        if !matches!(section.kind.as_str(), "" | "http") {
            warnings.push(format!(
                "{key}.type {:?} needs the Routing API, which this registrar does not speak: this route is left out",
                section.kind
            ));
            continue;
        }
        let checked = registration(section, &file.host, &file.availability_zone, file.index);
        match checked {
            Ok(registration) => registrations.push(registration),
            Err(wrong) => problems.extend(wrong.into_iter().map(|w| format!("{key}.{w}"))),
        }
    }
    if file.host.is_empty() {
        problems
            .push("host is missing: give the address by which routers reach this machine".into());
    }
    if file.message_bus_servers.is_empty() {
        problems.push("message_bus_servers is empty: give at least one NATS server".into());
    }
    let login = file.message_bus_servers.first();
    let (user, password) = login.map_or(("", ""), |s| (&s.user, &s.password));
    for (n, server) in file.message_bus_servers.iter().enumerate() {
        if server.host.is_empty() {
            problems.push(format!(
                "message_bus_servers[{n}].host is missing: give host:port"
            ));
        }
        if (server.user.as_str(), server.password.as_str()) != (user, password) {
            problems.push(format!("message_bus_servers[{n}] has another user or password than the first: servers of one cluster share them"));
        }
    }
    let mtls = file.nats_mtls_config;
    let mtls_files = [mtls.cert_path, mtls.key_path, mtls.ca_path];
    if mtls.enabled && mtls_files.iter().any(|f| f.as_os_str().is_empty()) {
        problems.push("nats_mtls_config.enabled is true, but cert_path, key_path or ca_path is missing: give all three".into());
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let (user, password) = (user.to_owned(), password.to_owned());
    let servers = file.message_bus_servers.into_iter().map(|s| s.host);
    Ok(Config {
        bus: clients::nats::Config {
            servers: servers.collect(),
            user,
            password,
            tls: None,
        },
        nats_tls_files: mtls.enabled.then_some(mtls_files),
        registrations,
        unregistration_limit: file.unregistration_message_limit,
        files,
        warnings,
    })
}

fn registration(
    section: RouteSection,
    host: &str,
    zone: &str,
    index: Option<u32>,
) -> Result<Registration, Vec<String>> {
    let mut wrong = Vec::new();
    let interval = duration::parse(&section.registration_interval).filter(|i| !i.is_zero());
    if interval.is_none() {
        wrong.push(format!(
            "registration_interval {:?} is not a duration above 0: write e.g. 20s",
            section.registration_interval
        ));
    }
    let (port, tls_port) = (section.port.unwrap_or(0), section.tls_port.unwrap_or(0));
    if port == 0 && tls_port == 0 {
        wrong.push("port is missing, and tls_port as well: give one of them".into());
    }
    if tls_port != 0 && section.server_cert_domain_san.is_empty() {
        wrong.push("server_cert_domain_san is missing: tls_port needs it".into());
    }
    if section.uris.is_empty() || section.uris.iter().any(String::is_empty) {
        wrong.push(
            "uris has no entry or an empty one: give at least one, e.g. api.example.com".into(),
        );
    }
    let url = &section.route_service_url;
    if !url.is_empty() && !url.starts_with("https://") {
        wrong.push(format!(
            "route_service_url {url:?} does not begin with https://"
        ));
    }
    if !matches!(section.protocol.as_str(), "" | "http1" | "http2") {
        wrong.push(format!(
            "protocol {:?} is neither http1 nor http2",
            section.protocol
        ));
    }
    let mut uris = section.uris;
    match index {
        Some(index) if section.prepend_instance_index => {
            uris = uris.iter().map(|uri| format!("{index}-{uri}")).collect();
        }
        None if section.prepend_instance_index => wrong.push(
            "prepend_instance_index is true, but the file has no index: give this machine's number as index beside host".into(),
        ),
        _ => {}
    }
    let interval = interval.unwrap_or_default();
    let health_check = section
        .health_check
        .filter(|c| !c.script_path.as_os_str().is_empty());
    let health_check = health_check.map(|check| {
        let timeout = if check.timeout.is_empty() {
            Some(interval / 2)
        } else {
            duration::parse(&check.timeout).filter(|t| !t.is_zero() && *t < interval)
        };
        if timeout.is_none() {
            wrong.push(format!(
                "health_check.timeout {:?} is not a duration above 0 and below registration_interval",
                check.timeout
            ));
        }
        HealthCheck {
            name: check.name,
            script: check.script_path,
            timeout: timeout.unwrap_or_default(),
        }
    });
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let own_host = Some(section.host).filter(|own| !own.is_empty());
    Ok(Registration {
        name: section.name,
        route: Route {
            uris,
            host: own_host.unwrap_or_else(|| host.to_owned()),
            port,
            tls_port,
            server_cert_domain_san: section.server_cert_domain_san,
            tags: section.tags,
            protocol: section.protocol,
            route_service_url: section.route_service_url,
            availability_zone: zone.to_owned(),
            options: section.options,
        },
        interval,
        health_check,
    })
}

fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    serde_yaml_ng::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn of(text: &str) -> Result<Config, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let job = folder.path().join("job");
        std::fs::create_dir(&job).unwrap();
        std::fs::write(
            job.join("r.yml"),
            "routes:\n- {name: y, port: 81, uris: [y.test], registration_interval: 10s}\n",
        )
        .unwrap();
        let path = folder.path().join("config.json");
        let globs = format!("{}/*/r.yml", folder.path().display());
        std::fs::write(&path, text.replace("GLOB", &globs)).unwrap();
        load(&path)
    }

    #[test]
    fn json_and_the_jobs_yaml() {
        let config = of(r#"{"message_bus_servers": [{"host": "10.0.0.1:4222", "user": "u", "password": "p"}], "host": "10.0.0.9", "availability_zone": "z1",
            "dynamic_config_globs": ["GLOB"],
            "routes": [{"name": "x", "tls_port": 443, "server_cert_domain_san": "x.internal", "uris": ["x.test"], "registration_interval": "20s",
                        "tags": {"component": "x"}, "options": {"loadbalancing": "least-connection"}, "health_check": {"name": "hc", "script_path": "/bin/true"}},
                       {"type": "tcp", "port": 1},
                       {"port": 2, "uris": ["z.test"], "registration_interval": "1s", "prepend_instance_index": true}], "index": 3}"#)
        .unwrap();
        assert_eq!(config.unregistration_limit, 5);
        assert_eq!(config.registrations.len(), 3);
        assert_eq!(config.files.len(), 2);
        let first = &config.registrations[0];
        assert_eq!(first.route.host, "10.0.0.9");
        assert_eq!(first.route.availability_zone, "z1");
        assert_eq!(
            first.health_check.as_ref().unwrap().timeout,
            Duration::from_secs(10)
        );
        assert_eq!(config.registrations[1].route.uris, ["3-z.test"]);
        assert_eq!(config.registrations[2].name, "y");
        assert!(config.warnings[0].starts_with("routes[1].type \"tcp\""));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let problems = of(r#"{"nats_mtls_config": {"enabled": true}, "routes": [{"registration_interval": "20", "tls_port": 1, "prepend_instance_index": true, "health_check": {"script_path": "x", "timeout": "1h"}}]}"#)
            .unwrap_err();
        for wanted in [
            "routes[0].registration_interval \"20\"",
            "routes[0].server_cert_domain_san",
            "routes[0].uris",
            "routes[0].prepend_instance_index is true, but",
            "routes[0].health_check.timeout \"1h\"",
            "host is missing",
            "message_bus_servers is empty",
            "nats_mtls_config.enabled",
        ] {
            assert!(
                problems.iter().any(|p| p.starts_with(wanted)),
                "{wanted} in {problems:#?}"
            );
        }
    }
}
