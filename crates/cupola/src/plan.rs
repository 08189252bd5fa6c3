//! The foundation's plan: its addresses and passwords, chosen at the first start and kept in `foundation.json` (mode 0600).
//!
//! Desired LRPs contain these addresses (droplet downloads, callbacks), so they stay the same over restarts. Every process of a
//! foundation, and `cupola cfdot`, `routes` and `exec`, read them here.

mod locks;
mod ports;

#[cfg(test)]
mod tests;

pub(crate) use locks::{FirstStart, PlanLock, RoleLocks};

use crate::addresses::{Address, Addresses, Configured, Service, is_loopback, resolve};
use crate::bundle::Bundle;
use crate::config::{Config, DEFAULT_DATA, DEFAULT_DOMAIN};
use crate::role::Role;
use anyhow::{Context as _, Result, bail, ensure};
use garden::linux::CellNetwork;
use kit::private_file;
use ports::Ports;
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

/// The plan of a foundation, which is kept over restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The short name of this foundation on this machine. It is part of the names of links, chains and cgroups.
    pub(crate) tag: String,
    pub(crate) domain: String,
    pub(crate) cell_ip: Ipv4Addr,
    /// The port of the router's HTTP listener for clients; the next one is that of the HTTPS listener.
    pub(crate) http_port: u16,
    pub(crate) https_port: u16,
    pub(crate) ports: Ports,
    /// The loopback port of a process's metrics, by the first of its roles in the order of [`Role::ALL`]. A role runs once in a
    /// foundation, so every process has a port of its own. Plans of earlier versions have none.
    #[serde(default)]
    pub(crate) metrics_ports: BTreeMap<String, u16>,
    /// Where each service listens on this machine and where it is reached, as the configuration of the last start says. Plans of
    /// earlier versions have none: then every service is on loopback.
    #[serde(default)]
    pub(crate) addresses: Addresses,
    /// The client addresses of all servers of the message bus; if there is none, the bus has the one server in `addresses`.
    #[serde(default)]
    pub(crate) nats_servers: Vec<String>,
    /// Whether the message bus uses TLS: as soon as other machines reach it.
    #[serde(default)]
    pub(crate) bus_has_tls: bool,
    /// Whether this machine joined the foundation of another machine.
    #[serde(default)]
    pub(crate) joined: bool,
    pub(crate) nats_password: String,
    pub(crate) status_password: String,
    /// The secret of the UAA clients that components use.
    pub(crate) client_secret: String,
    /// The host key of the ssh-proxy, as a PEM text. Clients know its fingerprint from the API. Plans of earlier versions have none.
    #[serde(default)]
    pub(crate) ssh_host_key: String,
    /// The secret from which routers derive the keys of their notes for route services. Plans of earlier versions have none.
    #[serde(default)]
    pub(crate) route_services_secret: String,
    pub(crate) admin_user: String,
}

/// The port of metrics of the first role of the machine's main foundation; the other roles have the next ones.
const FIRST_METRICS_PORT: u16 = 9501;
/// The port of the ssh-proxy of the machine's main foundation.
const SSH_PORT: u16 = 2222;

/// The port of the dashboard of the machine's main foundation.
const DASHBOARD_PORT: u16 = 8084;
/// The ports of the broker of databases and of its server, of the machine's main foundation.
const POSTGRES_BROKER_PORT: u16 = 8086;
const POSTGRES_PORT: u16 = 5432;

pub(crate) const NATS_USER: &str = "nats";
pub(crate) const STATUS_USER: &str = "router-status";

impl Plan {
    /// Reads the plan of `config.data`, or creates one, and stores it with the addresses of the configuration. `bundle` is that of the
    /// foundation that this machine joins. The caller must hold the [`PlanLock`].
    pub(crate) fn open(config: &Config, bundle: Option<&Bundle>) -> Result<Self> {
        let kept = match Self::exists(&config.data) {
            true => Some(Self::read(&config.data)?),
            false => None,
        };
        let mut plan = match &kept {
            Some(kept) => kept.clone(),
            None => Self::new(config, bundle)?,
        };
        plan.check_origin(config, bundle)?;
        plan.add_ports(&config.data)?;
        plan.add_ssh(&config.data)?;
        plan.add_route_services_secret();
        plan.follow(config);
        if let Some(bundle) = bundle {
            plan.join(bundle);
        }
        plan.set_addresses(config, bundle);
        plan.add_metrics_ports(&config.data)?;
        if kept.as_ref() != Some(&plan) {
            plan.save(&config.data)?;
        }
        Ok(plan)
    }

    /// Creates a plan with new passwords and free ports.
    fn new(config: &Config, bundle: Option<&Bundle>) -> Result<Self> {
        let mut taken = Vec::new();
        // Cloud Foundry's ports are reserved for the machine's main foundation, even while it is stopped.
        let main = config.data == Path::new(DEFAULT_DATA);
        let port = |wanted: u16, taken: &mut Vec<u16>| -> Result<u16> {
            let port = free_port(if main { wanted } else { 0 }, taken)?;
            taken.push(port);
            Ok(port)
        };
        let public = |address: Option<SocketAddr>, default: u16, taken: &mut Vec<u16>| match address
        {
            Some(address) if address.port() == 0 => port(0, taken),
            Some(address) => Ok(address.port()),
            None => Ok(default),
        };
        let domain = bundle.map(|bundle| bundle.domain.clone());
        Ok(Self {
            tag: random_hex(3),
            domain: domain
                .or_else(|| config.domain.clone())
                .unwrap_or_else(|| DEFAULT_DOMAIN.to_owned()),
            cell_ip: config.cell.ip.map_or_else(CellNetwork::choose, Ok)?,
            http_port: public(config.http, 80, &mut taken)?,
            https_port: public(config.https, 443, &mut taken)?,
            ports: Ports {
                nats: port(4222, &mut taken)?,
                bbs: port(8889, &mut taken)?,
                locket: port(8891, &mut taken)?,
                auctioneer: port(9016, &mut taken)?,
                rep: port(1801, &mut taken)?,
                cloud_controller: port(9022, &mut taken)?,
                cloud_controller_internal: port(9023, &mut taken)?,
                uaa: port(8081, &mut taken)?,
                log_cache: port(8083, &mut taken)?,
                log_ingress: port(3458, &mut taken)?,
                router_status: port(8082, &mut taken)?,
                dashboard: port(DASHBOARD_PORT, &mut taken)?,
                ssh_proxy: 0,
                postgres_broker: 0,
                postgres: 0,
            },
            metrics_ports: BTreeMap::new(),
            addresses: Addresses::new(),
            nats_servers: Vec::new(),
            bus_has_tls: false,
            joined: bundle.is_some(),
            nats_password: random_hex(16),
            status_password: random_hex(16),
            client_secret: random_hex(24),
            ssh_host_key: String::new(),
            route_services_secret: String::new(),
            admin_user: "admin".into(),
        })
    }

    /// Checks that the plan belongs to the configured domain, and to the machine that made the bundle.
    fn check_origin(&self, config: &Config, bundle: Option<&Bundle>) -> Result<()> {
        let data = config.data.display();
        match bundle {
            Some(_) => ensure!(
                self.joined,
                "data directory {data} has a foundation of its own, which cannot join another one: choose another directory with --data, or remove the key join"
            ),
            None => ensure!(
                !self.joined,
                "data directory {data} belongs to a machine that joined a foundation: name its bundle with the key join, or choose another directory with --data"
            ),
        }
        let domains = [config.domain.as_ref(), bundle.map(|bundle| &bundle.domain)];
        for domain in domains.into_iter().flatten() {
            if *domain != self.domain {
                bail!(
                    "domain {domain} differs from {}, which this foundation was made with (data {data}): use --domain {} or another --data",
                    self.domain,
                    self.domain
                );
            }
        }
        Ok(())
    }

    /// Takes the values over that a later configuration may change.
    fn follow(&mut self, config: &Config) {
        self.cell_ip = config.cell.ip.unwrap_or(self.cell_ip);
        for (port, configured) in [
            (&mut self.http_port, config.http),
            (&mut self.https_port, config.https),
        ] {
            let fixed = configured.filter(|address| address.port() != 0);
            *port = fixed.map_or(*port, |address| address.port());
        }
        for (service, configured) in &config.addresses {
            if let Some(listen) = configured.listen {
                *self.ports.of(*service) = listen.port();
            }
        }
    }

    /// Takes over the secrets of the foundation that this machine joined. Those of roles that cannot join are empty.
    fn join(&mut self, bundle: &Bundle) {
        self.nats_password.clone_from(&bundle.nats_password);
        if let Some(password) = &bundle.status_password {
            self.status_password.clone_from(password);
        }
        self.client_secret.clear();
        let secret = bundle.route_services_secret.as_deref();
        self.route_services_secret = secret.unwrap_or_default().to_owned();
        self.admin_user.clone_from(&bundle.admin_user);
    }

    fn set_addresses(&mut self, config: &Config, bundle: Option<&Bundle>) {
        let peers = bundle.map(|bundle| &bundle.peers);
        let address = |service: &Service| {
            let joined = peers.and_then(|peers| peers.get(service));
            let loopback = self.loopback(self.ports.get(*service));
            let address = resolve(config.addresses.get(service), joined, loopback);
            (*service, address)
        };
        self.addresses = Service::ALL.iter().map(address).collect();
        let own = config.addresses.get(&Service::Nats);
        let is_elsewhere = own.is_some_and(|a| a.advertise.is_some() && a.listen.is_none());
        let joined = bundle.filter(|_| !is_elsewhere);
        self.nats_servers = match config.bus.servers.as_slice() {
            [] => joined.map_or_else(Vec::new, |bundle| bundle.nats_servers.clone()),
            servers => servers.to_vec(),
        };
        let cluster = config.bus.cluster.as_ref();
        let servers = self.nats_servers();
        self.bus_has_tls = servers.iter().any(|server| !is_loopback(server))
            || cluster.is_some_and(|cluster| !cluster.listen.ip().is_loopback());
    }

    /// Returns where a service listens and where it is reached.
    pub(crate) fn address(&self, service: Service) -> Address {
        let known = self.addresses.get(&service).cloned();
        known.unwrap_or_else(|| resolve(None, None, self.loopback(self.ports.get(service))))
    }

    /// Returns where the server of the broker of databases listens, and where apps reach it: at the cell's address, unless the
    /// configuration names another one.
    pub(crate) fn postgres(&self, configured: Option<&Configured>) -> Address {
        let at_cell = SocketAddr::from((self.cell_ip, self.ports.postgres));
        resolve(configured, None, at_cell)
    }

    /// Returns the address, as `host:port`, at which a service is reached.
    pub(crate) fn reach(&self, service: Service) -> String {
        self.address(service).advertise
    }

    /// Returns the client addresses of all servers of the message bus.
    pub(crate) fn nats_servers(&self) -> Vec<String> {
        match self.nats_servers.as_slice() {
            [] => vec![self.reach(Service::Nats)],
            servers => servers.to_vec(),
        }
    }

    /// Chooses the port and the host key of the ssh-proxy if there is none.
    fn add_ssh(&mut self, data: &Path) -> Result<()> {
        if self.ports.ssh_proxy == 0 {
            let is_main = data == Path::new(DEFAULT_DATA);
            let wanted = if is_main { SSH_PORT } else { 0 };
            self.ports.ssh_proxy = free_port(wanted, &self.taken_ports())?;
        }
        if self.ssh_host_key.is_empty() && !self.joined {
            self.ssh_host_key = ssh_proxy::host_key::create()?;
        }
        Ok(())
    }

    /// Chooses the secret of the routers' notes if there is none.
    fn add_route_services_secret(&mut self) {
        if self.route_services_secret.is_empty() && !self.joined {
            self.route_services_secret = random_hex(32);
        }
    }

    /// Returns the ports that the plan has given away.
    fn taken_ports(&self) -> Vec<u16> {
        let mut taken: Vec<u16> = Service::ALL.iter().map(|s| self.ports.get(*s)).collect();
        taken.extend([self.http_port, self.https_port]);
        taken.extend(self.metrics_ports.values());
        taken
    }

    /// Chooses ports for the services that the version which made the plan did not have.
    fn add_ports(&mut self, data: &Path) -> Result<()> {
        let is_main = data == Path::new(DEFAULT_DATA);
        for (service, wanted) in [
            (Service::Dashboard, DASHBOARD_PORT),
            (Service::PostgresBroker, POSTGRES_BROKER_PORT),
            (Service::Postgres, POSTGRES_PORT),
        ] {
            if self.ports.get(service) == 0 {
                let wanted = if is_main { wanted } else { 0 };
                *self.ports.of(service) = free_port(wanted, &self.taken_ports())?;
            }
        }
        Ok(())
    }

    /// Chooses a port of metrics for each role that has none.
    fn add_metrics_ports(&mut self, data: &Path) -> Result<()> {
        let is_main = data == Path::new(DEFAULT_DATA);
        let mut taken = self.taken_ports();
        for (role, wanted) in Role::ALL.iter().zip(FIRST_METRICS_PORT..) {
            if !self.metrics_ports.contains_key(role.name()) {
                let port = free_port(if is_main { wanted } else { 0 }, &taken)?;
                taken.push(port);
                self.metrics_ports.insert(role.name().to_owned(), port);
            }
        }
        Ok(())
    }

    /// Returns the address of the metrics of a process with these roles.
    pub(crate) fn metrics_address(
        &self,
        configured: Option<SocketAddr>,
        chosen: &[Role],
    ) -> SocketAddr {
        let first = Role::ALL.iter().find(|role| chosen.contains(role));
        let port = first.and_then(|role| self.metrics_ports.get(role.name()));
        configured.unwrap_or_else(|| self.loopback(port.copied().unwrap_or_default()))
    }

    pub(crate) fn exists(data: &Path) -> bool {
        data.join("foundation.json").exists()
    }

    /// Waits until another process has changed the plan, and returns the new one.
    pub(crate) async fn changed(data: &Path, from: &Self) -> Self {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            match Self::read(data) {
                Ok(plan) if plan != *from => return plan,
                _ => {}
            }
        }
    }

    /// Reads the plan of a foundation that was started before.
    pub(crate) fn read(data: &Path) -> Result<Self> {
        let file = data.join("foundation.json");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("no foundation in {}: start one with `cupola up --data {}`, or name another with --data", data.display(), data.display()))?;
        serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))
    }

    fn save(&self, data: &Path) -> Result<()> {
        private_file::replace(
            &data.join("foundation.json"),
            &serde_json::to_string_pretty(self)?,
        )
    }

    /// Stores the plan with another cell address, and returns it.
    pub(crate) async fn with_cell_ip(data: &Path, cell_ip: Ipv4Addr) -> Result<Self> {
        let _lock = PlanLock::acquire(data).await?;
        let mut plan = Self::read(data)?;
        if plan.cell_ip != cell_ip {
            plan.cell_ip = cell_ip;
            plan.save(data)?;
        }
        Ok(plan)
    }

    pub(crate) fn api_url(&self) -> String {
        self.url("api")
    }

    /// Returns the address of the ssh-proxy for users. `advertised` is the configured one.
    pub(crate) fn ssh_endpoint(&self, advertised: Option<&str>) -> String {
        match advertised {
            Some(address) => address.to_owned(),
            None => {
                let port = self.address(Service::SshProxy).listen.port();
                format!("ssh.{}:{port}", self.domain)
            }
        }
    }

    /// Returns the external URL of a system component.
    pub(crate) fn url(&self, host: &str) -> String {
        format!(
            "https://{host}.{}{}",
            self.domain,
            port_suffix(self.https_port, 443)
        )
    }

    /// Returns the URL of a pushed app's route, over plain HTTP.
    pub(crate) fn route_url(&self, route: &str) -> String {
        format!("http://{route}{}", port_suffix(self.http_port, 80))
    }

    pub(crate) fn loopback(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    }

    pub(crate) fn nats(&self) -> clients::nats::Config {
        clients::nats::Config {
            servers: self.nats_servers(),
            user: NATS_USER.into(),
            password: self.nats_password.clone(),
            ..clients::nats::Config::default()
        }
    }
}

fn port_suffix(port: u16, default: u16) -> String {
    if port == default {
        String::new()
    } else {
        format!(":{port}")
    }
}

fn free_port(wanted: u16, taken: &[u16]) -> Result<u16> {
    if wanted != 0
        && !taken.contains(&wanted)
        && TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).is_ok()
    {
        return Ok(wanted);
    }
    loop {
        let port = kit::net::free_port()?;
        if !taken.contains(&port) {
            return Ok(port);
        }
    }
}

pub(crate) fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0u8; bytes];
    rand::rng().fill_bytes(&mut buffer);
    hex::encode(buffer)
}
