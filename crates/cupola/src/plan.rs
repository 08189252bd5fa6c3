//! The foundation's plan: its addresses and passwords, chosen at the first start and kept in `foundation.json` (mode 0600).
//!
//! Desired LRPs contain these addresses (droplet downloads, callbacks), so they stay the same over restarts. Every process of a
//! foundation, and `cupola cfdot`, `routes` and `exec`, read them here.

use crate::certs::write_private;
use crate::config::{Config, DEFAULT_DOMAIN};
use crate::roles::Role;
use anyhow::{Context as _, Result, bail};
use garden::linux::CellNetwork;
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
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
    pub(crate) nats_password: String,
    pub(crate) status_password: String,
    /// The secret of the UAA clients that components use.
    pub(crate) client_secret: String,
    pub(crate) admin_user: String,
}

/// The loopback ports. A foundation in the default data directory gets Cloud Foundry's default ports if they are free; all others
/// get any free ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) nats: u16,
    pub(crate) bbs: u16,
    pub(crate) locket: u16,
    pub(crate) auctioneer: u16,
    pub(crate) rep: u16,
    pub(crate) cloud_controller: u16,
    pub(crate) cloud_controller_internal: u16,
    pub(crate) uaa: u16,
    pub(crate) log_cache: u16,
    pub(crate) log_ingress: u16,
    pub(crate) router_status: u16,
}

impl Ports {
    fn all(&self) -> Vec<u16> {
        vec![
            self.nats,
            self.bbs,
            self.locket,
            self.auctioneer,
            self.rep,
            self.cloud_controller,
            self.cloud_controller_internal,
            self.uaa,
            self.log_cache,
            self.log_ingress,
            self.router_status,
        ]
    }
}

/// The port of metrics of the first role of the machine's main foundation; the other roles have the next ones.
const FIRST_METRICS_PORT: u16 = 9501;

pub(crate) const NATS_USER: &str = "nats";
pub(crate) const STATUS_USER: &str = "router-status";

impl Plan {
    /// Reads the plan of `config.data`, or creates and stores one. The caller must hold the [`PlanLock`].
    pub(crate) fn open(config: &Config) -> Result<Self> {
        if Self::exists(&config.data) {
            let mut plan = Self::read(&config.data)?;
            let kept = plan.clone();
            if let Some(domain) = config.domain.as_ref().filter(|d| **d != plan.domain) {
                bail!(
                    "domain {domain} differs from {}, which this foundation was made with (data {}): use --domain {} or another --data",
                    plan.domain,
                    config.data.display(),
                    plan.domain
                );
            }
            plan.cell_ip = config.cell.ip.unwrap_or(plan.cell_ip);
            plan.http_port = config.http.map_or(plan.http_port, |a| {
                if a.port() == 0 {
                    plan.http_port
                } else {
                    a.port()
                }
            });
            plan.https_port = config.https.map_or(plan.https_port, |a| {
                if a.port() == 0 {
                    plan.https_port
                } else {
                    a.port()
                }
            });
            plan.add_metrics_ports(&config.data)?;
            if plan != kept {
                plan.save(&config.data)?;
            }
            return Ok(plan);
        }
        let mut taken = Vec::new();
        // Cloud Foundry's ports are reserved for the machine's main foundation, even while it is stopped.
        let main = config.data == std::path::Path::new(crate::config::DEFAULT_DATA);
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
        let mut plan = Self {
            tag: random_hex(3),
            domain: config
                .domain
                .clone()
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
            },
            metrics_ports: BTreeMap::new(),
            nats_password: random_hex(16),
            status_password: random_hex(16),
            client_secret: random_hex(24),
            admin_user: "admin".into(),
        };
        plan.add_metrics_ports(&config.data)?;
        plan.save(&config.data)?;
        Ok(plan)
    }

    /// Chooses a port of metrics for each role that has none.
    fn add_metrics_ports(&mut self, data: &Path) -> Result<()> {
        let is_main = data == Path::new(crate::config::DEFAULT_DATA);
        let mut taken = self.ports.all();
        taken.extend([self.http_port, self.https_port]);
        taken.extend(self.metrics_ports.values());
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
        write_private(
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
            servers: vec![self.loopback(self.ports.nats).to_string()],
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

/// Locks on the roles of one data directory that this process runs, so that no other process runs the same roles. The locks are
/// released when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct RoleLocks {
    _files: Vec<File>,
}

impl RoleLocks {
    pub(crate) fn acquire(data: &Path, roles: &[Role]) -> Result<Self> {
        let mut files = Vec::new();
        for role in Role::ALL.iter().filter(|r| roles.contains(r)) {
            let file = lock_file(data, role.name())?;
            match file.try_lock() {
                Ok(()) => files.push(file),
                Err(TryLockError::WouldBlock) => bail!(
                    "data directory {} is in use: another cupola runs its role {}; stop that one, or choose another directory with --data",
                    data.display(),
                    role.name()
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error)
                        .with_context(|| format!("lock {}/{}.lock", data.display(), role.name()));
                }
            }
        }
        Ok(Self { _files: files })
    }
}

/// A lock that is held while the plan, the certificate authorities or the operator's certificate are read, created or changed.
#[derive(Debug)]
pub(crate) struct PlanLock {
    _file: File,
}

impl PlanLock {
    pub(crate) async fn acquire(data: &Path) -> Result<Self> {
        let (data, file) = (data.to_owned(), lock_file(data, "plan")?);
        tokio::task::spawn_blocking(move || {
            file.lock()
                .with_context(|| format!("lock {}/plan.lock", data.display()))?;
            Ok(Self { _file: file })
        })
        .await?
    }
}

/// A lock that a foundation holds at its first start, from choosing free ports until it listens on them. Other foundations that
/// start at the same time on this machine choose their ports after it.
#[derive(Debug)]
pub(crate) struct FirstStart {
    _folder: File,
}

impl FirstStart {
    pub(crate) async fn acquire() -> Result<Self> {
        tokio::task::spawn_blocking(|| {
            let folder = File::open("/var/lib").context("open /var/lib")?;
            folder.lock().context("lock /var/lib")?;
            Ok(Self { _folder: folder })
        })
        .await?
    }
}

fn lock_file(data: &Path, name: &str) -> Result<File> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("create data directory {}", data.display()))?;
    let path = data.join(format!("{name}.lock"));
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_plan_of_an_earlier_version_gets_ports_for_metrics() {
        let text = r#"{"tag": "a", "domain": "a.test", "cell_ip": "10.0.0.1", "http_port": 80, "https_port": 443,
            "ports": {"nats": 1, "bbs": 2, "locket": 3, "auctioneer": 4, "rep": 5, "cloud_controller": 6,
                "cloud_controller_internal": 7, "uaa": 8, "log_cache": 9, "log_ingress": 10, "router_status": 11},
            "nats_password": "", "status_password": "", "client_secret": "", "admin_user": "admin"}"#;
        let mut plan: Plan = serde_json::from_str(text).unwrap();
        assert!(plan.metrics_ports.is_empty());
        plan.add_metrics_ports(Path::new("/somewhere")).unwrap();
        let ports: BTreeSet<&u16> = plan.metrics_ports.values().collect();
        assert_eq!(ports.len(), Role::ALL.len());
        let kept = plan.clone();
        plan.add_metrics_ports(Path::new("/somewhere")).unwrap();
        assert_eq!(plan, kept);

        let address = |roles: &[Role]| plan.metrics_address(None, roles);
        assert_eq!(address(Role::ALL).port(), plan.metrics_ports["nats"]);
        assert_eq!(
            address(&[Role::Dns, Role::Cell]).port(),
            plan.metrics_ports["cell"],
            "the order of the command line does not count"
        );
        let configured = SocketAddr::from(([127, 0, 0, 1], 9600));
        assert_eq!(
            plan.metrics_address(Some(configured), Role::ALL),
            configured
        );
    }
}
