//! `cupola router -c gorouter.yml` with a nats-server of its own. Access log and metrics are on.

use super::Scheme;
use crate::bus::{Nats, Rate};
use crate::client::Client;
use crate::messages;
use crate::process::{Process, wait_for};
use crate::rig::{HOST, INSTANCE, Rig};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;
use wire::router::RegistryMessage;

/// The settings of the router that a section needs.
#[derive(Clone, Copy)]
pub(crate) struct Cupola {
    /// The core of all its threads; `None` means that the kernel chooses.
    core: Option<usize>,
    /// The value of `go_max_procs`; `None` means the router's own default.
    workers: Option<usize>,
    nats_core: Option<usize>,
    /// The port of a metron agent, which gets everything that deployments send to it. `None` means no envelopes.
    envelopes_to: Option<u16>,
    /// Whether the router is that of the other build.
    beside: bool,
}

pub(crate) struct Router {
    pub(crate) process: Process,
    pub(crate) nats: Nats,
    http: u16,
    https: u16,
    metrics: u16,
    health: u16,
}

impl Cupola {
    /// Returns a router with one worker on the core of the proxies. NATS is on the other core.
    pub(crate) fn pinned(rig: &Rig) -> Self {
        Self {
            core: Some(rig.proxy_core),
            workers: Some(1),
            nats_core: Some(rig.load_core),
            envelopes_to: None,
            beside: false,
        }
    }

    /// Returns a router with the default settings, on the whole machine.
    pub(crate) fn free() -> Self {
        Self {
            core: None,
            workers: None,
            nats_core: None,
            envelopes_to: None,
            beside: false,
        }
    }

    /// Adds envelopes to the agent at this port.
    pub(crate) fn with_envelopes(self, agent: u16) -> Self {
        Self {
            envelopes_to: Some(agent),
            ..self
        }
    }

    /// Takes the router of the other build.
    pub(crate) fn of_build_beside(self) -> Self {
        Self {
            beside: true,
            ..self
        }
    }

    pub(crate) fn start(self, rig: &Rig) -> Result<Router> {
        let binary = match self.beside {
            true => rig.beside.as_ref().context("no other build is measured")?,
            false => &rig.cupola,
        };
        let nats = Nats::start(&rig.folder, self.nats_core)?;
        let [http, https, metrics, health, routes] = ports()?;
        let identity = |chain: &str, own: &kit::tls::Identity| json!({chain: own.cert_pem, "private_key": own.key_pem});
        let mut config = json!({
            "status": {"host": "127.0.0.1", "port": health, "user": "bench", "pass": "bench", "routes": {"port": routes}},
            "nats": {"hosts": [{"hostname": "127.0.0.1", "port": nats.port}]},
            "logging": {"level": "info"},
            "access_log": {"file": rig.path(&format!("cupola-{http}-access.log"))},
            "prometheus": {"enabled": true, "port": metrics},
            "port": http,
            "enable_ssl": true,
            "ssl_port": https,
            "tls_pem": [identity("cert_chain", &rig.certs.front)],
            "ca_certs": [rig.certs.front.ca_pem],
            "client_cert_validation": "none",
            "min_tls_version": "TLSv1.2",
            "max_tls_version": "TLSv1.3",
            "cipher_suites": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "backends": identity("cert_chain", &rig.certs.client),
            "disable_keep_alives": false,
            "max_idle_conns": 1000,
            "max_idle_conns_per_host": 1000,
            "start_response_delay_interval": "0s",
            // The routes are registered once and must last as long as the section.
            "droplet_stale_threshold": "24h",
            "suspend_pruning_if_nats_unavailable": true,
            // The other peers do not report each request by UDP either.
            "enable_envelope_v1_metrics": false,
            "send_http_start_stop_server_event": false,
            "send_http_start_stop_client_event": false,
        });
        if let Some(agent) = self.envelopes_to {
            let on = [
                "enable_envelope_v1_metrics",
                "send_http_start_stop_server_event",
                "send_http_start_stop_client_event",
            ];
            for key in on {
                config[key] = true.into();
            }
            config["logging"]["loggregator_enabled"] = true.into();
            config["logging"]["metron_address"] = format!("127.0.0.1:{agent}").into();
        }
        config["backends"]["max_attempts"] = 3.into();
        if let Some(workers) = self.workers {
            config["go_max_procs"] = workers.into();
        }
        let process = run(binary, &config, http, self.core, rig)?;
        let router = Router {
            process,
            nats,
            http,
            https,
            metrics,
            health,
        };
        wait_for("the router's health", Duration::from_secs(20), || {
            Ok(fetch(router.health, "/health").is_ok_and(|text| text.contains(" 200 ")))
        })
        .with_context(|| router.process.log_text())?;
        let mut bus = router.nats.connect()?;
        bus.greet(Duration::from_secs(20))?;
        Ok(router)
    }
}

fn run(
    cupola: &Path,
    config: &Value,
    port: u16,
    core: Option<usize>,
    rig: &Rig,
) -> Result<Process> {
    let file = rig.path(&format!("gorouter-{port}.yml"));
    std::fs::write(&file, serde_json::to_string_pretty(config)?)?;
    let binary = cupola.to_string_lossy();
    let command = [&*binary, "router", "-c", &file];
    let mut process = Process::start(&format!("cupola-{port}"), core, &command, &rig.folder)?;
    process.listens(port)?;
    Ok(process)
}

fn ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = kit::net::free_port()?;
    }
    Ok(ports)
}

impl Router {
    pub(crate) fn port(&self, scheme: Scheme) -> u16 {
        match scheme {
            Scheme::Http => self.http,
            Scheme::Https | Scheme::Http2 => self.https,
        }
    }

    /// Returns the number of uris in the table, according to its metrics.
    pub(crate) fn routes(&self) -> Result<u64> {
        let text = fetch(self.metrics, "/metrics")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("total_routes"));
        let value = line.and_then(|line| line.split_whitespace().last());
        let value: f64 = value.context("/metrics has no total_routes")?.parse()?;
        Ok(value as u64)
    }

    pub(crate) fn has_routes(&self, count: u64) -> Result<()> {
        wait_for(
            &format!("a table of {count} routes"),
            Duration::from_secs(60),
            || Ok(self.routes()? >= count),
        )
        .with_context(|| format!("it has {}", self.routes().unwrap_or_default()))
    }

    /// Registers new routes, in portions that wait for each other, so that even a router that reads slowly loses none. Returns
    /// their number.
    pub(crate) fn load(&self, payloads: impl Iterator<Item = impl AsRef<[u8]>>) -> Result<u64> {
        let before = self.routes()?;
        let mut bus = self.nats.connect()?;
        let mut payloads = payloads.peekable();
        let mut sent = 0;
        while payloads.peek().is_some() {
            let portion = payloads.by_ref().take(10_000);
            bus.register_at(Rate::even(40_000.0), portion.inspect(|_| sent += 1))?;
            self.has_routes(before + sent)?;
        }
        Ok(sent)
    }

    /// Registers the route of the backend under [`HOST`], and waits until it answers.
    pub(crate) fn register_backend(&self, rig: &Rig, scheme: Scheme) -> Result<()> {
        let plain = messages::small(HOST, rig.backend_port(scheme));
        let message = match scheme {
            Scheme::Http | Scheme::Http2 => plain,
            Scheme::Https => RegistryMessage {
                port: 0,
                tls_port: Some(rig.backend_port(scheme)),
                server_cert_domain_san: Some(INSTANCE.to_owned()),
                private_instance_id: Some(INSTANCE.to_owned()),
                ..plain
            },
        };
        self.register_and_wait(&message, HOST)
    }

    pub(crate) fn register_and_wait(&self, message: &RegistryMessage, host: &str) -> Result<()> {
        let mut bus = self.nats.connect()?;
        let mut client = Client::connect(&crate::client::Target {
            port: self.http,
            tls: None,
        })?;
        let payload = messages::text(message);
        bus.publish("router.register", &payload)?;
        wait_for("the backend's route", Duration::from_secs(20), || {
            Ok(client.get(host)? == 200)
        })
    }
}

/// Returns head and body of a page.
fn fetch(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
