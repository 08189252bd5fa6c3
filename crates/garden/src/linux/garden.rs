//! [`LinuxGarden`]: its state, its start and end, and the [`Garden`] calls. Each call is a few lines that delegate to a module.

use super::addresses::{AddressPool, PortPool, listeners};
use super::cgroups::Cgroups;
use super::config::{GardenConfig, Paths};
use super::files::Root;
use super::firewall::{self, Cell, Feature, Rules};
use super::iptables::{CELL, Iptables};
use super::policies::Policies;
use super::record::Record;
use super::stacks::Stacks;
use super::turns::Turns;
use super::{cell_network, preflight, shim, usage};
use crate::api::{
    Capacity, Container, ContainerSpec, EgressRule, Exit, FirewallRule, Garden, GardenError,
    Metrics, Policy, Process, ProcessSpec, Signal,
};
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use shim_protocol::Setup;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// The number of containers that are made at the same time. More would only slow each other down.
const CREATES_AT_ONCE: usize = 8;

/// The containers of one foundation on this machine.
#[derive(Debug)]
pub struct LinuxGarden {
    pub(super) config: GardenConfig,
    pub(super) paths: Paths,
    pub(super) crun: PathBuf,
    pub(super) cell: Cell,
    pub(super) cgroups: Cgroups,
    pub(super) stacks: Stacks,
    pub(super) iptables: Iptables,
    pub(super) policies: tokio::sync::Mutex<Policies>,
    pub(super) mtu: u32,
    pub(super) creates: Semaphore,
    pub(super) turns: Turns,
    pub(super) table: Mutex<Table>,
    capacity: Capacity,
    // The lock is held as long as this garden lives. A second garden on the same folder would remove containers.
    _lock: Flock<File>,
}

/// The allocated names, addresses and ports.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) containers: BTreeMap<String, Record>,
    pub(super) addresses: AddressPool,
    pub(super) ports: PortPool,
    /// The containers' parts of their chain names, each with the handle. A name is taken until its container is removed.
    pub(super) chains: BTreeMap<String, String>,
}

impl LinuxGarden {
    /// Checks the machine, takes over existing containers, and removes what is left of others. If that fails and there are no
    /// containers, nothing of it is left on the machine.
    pub async fn build(config: GardenConfig) -> Result<Self> {
        let kept = config.clone();
        let built = Self::try_build(config).await;
        if built.is_err() && !Self::has_containers(&kept) {
            undo(&kept).await;
        }
        built
    }

    /// Returns whether an earlier run left containers, running or half-made.
    pub fn has_containers(config: &GardenConfig) -> bool {
        fs::read_dir(config.paths().containers()).is_ok_and(|mut folders| folders.next().is_some())
    }

    async fn try_build(config: GardenConfig) -> Result<Self> {
        let crun = preflight::check(&config)?;
        let paths = config.paths();
        let lock = lock(&paths)?;
        let cgroups = Cgroups::open(&config.cgroup_parent())?;
        let stacks = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || Stacks::open(&config)).await??
        };
        let network = &config.network;
        let cell = Cell {
            tag: config.tag.clone(),
            cell_ip: network.cell_ip,
            range: network.range,
            pool: network.pool,
            dns: config.dns,
            router_ports: config.router_ports.clone(),
            host_services: config.host_services.clone(),
            log_denied: config.log_denied,
            can_log: true,
            limits: config.limits.network,
        };
        let addresses = AddressPool::new(network.range, &BTreeSet::new());
        let capacity = capacity(&config, addresses.free())?;
        let next = fs::read_to_string(paths.next_port())
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let table = Table {
            containers: BTreeMap::new(),
            addresses,
            ports: PortPool::new(next, BTreeSet::new()),
            chains: BTreeMap::new(),
        };
        let mut garden = Self {
            mtu: cell_network::uplink_mtu(),
            creates: Semaphore::new(CREATES_AT_ONCE),
            turns: Turns::default(),
            table: Mutex::new(table),
            iptables: Iptables::default(),
            policies: tokio::sync::Mutex::default(),
            _lock: lock,
            config,
            paths,
            crun,
            cell,
            cgroups,
            stacks,
            capacity,
        };
        garden
            .prepare_firewall()
            .await
            .context("prepare the firewall")?;
        garden.probe().await?;
        garden
            .adopt_all()
            .await
            .context("adopt the containers of an earlier run")?;
        garden.restore_policies().await?;
        // Stacks that stay only use space.
        let removed = garden
            .lowers_in_use()
            .and_then(|used| garden.stacks.remove_unused(&used));
        if let Err(error) = removed {
            tracing::warn!(error = format!("{error:#}"), "old stacks not removed");
        }
        Ok(garden)
    }

    /// Creates the cell's own chains. They are emptied and filled again each time, in case the configuration has changed.
    async fn prepare_firewall(&self) -> Result<()> {
        let chains = firewall::base_chains(&self.cell);
        self.iptables.restore(&chains).await?;
        let all = chains + &firewall::base_jumps(&self.cell);
        self.iptables.watch(CELL, &all).await;
        self.iptables.repair().await.map(drop)
    }

    /// Returns the lowers of all containers, as their set-ups name them.
    fn lowers_in_use(&self) -> Result<BTreeSet<PathBuf>> {
        let table = self.table();
        let lowers = table.containers.values().map(|record| {
            let file = self.paths.container(&record.key).join("setup.json");
            let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            let setup: Setup = serde_json::from_slice(&text)
                .with_context(|| format!("parse {}", file.display()))?;
            Ok(setup.lower)
        });
        lowers.collect()
    }

    /// Disables features that the kernel does not have, and logs each.
    async fn probe(&mut self) -> Result<()> {
        self.cell.can_log = self.has(Feature::Log, "egress rules will not log").await?;
        let mut limits = self.cell.limits;
        if !self
            .has(
                Feature::Rates,
                "rates of packets and connections are not limited",
            )
            .await?
        {
            (limits.packets_per_second, limits.new_connections_per_second) = (0, 0);
        }
        if !self
            .has(Feature::Counts, "numbers of connections are not limited")
            .await?
        {
            (limits.connections_in, limits.connections_out) = (0, 0);
        }
        self.cell.limits = limits;
        Ok(())
    }

    async fn has(&self, feature: Feature, otherwise: &str) -> Result<bool> {
        let (text, chain) = firewall::probe(&self.cell, feature);
        let works = self.iptables.restore(&text).await;
        if let Err(error) = &works {
            tracing::warn!(
                error = format!("{error:#}"),
                "the kernel lacks a part of iptables: {otherwise}"
            );
        }
        self.iptables
            .remove_chains(&chain, std::slice::from_ref(&chain))
            .await?;
        Ok(works.is_ok())
    }

    /// Removes everything that this garden made on the machine. All containers must be destroyed before.
    pub async fn shutdown_clean(&self) -> Result<()> {
        let left = self.table().containers.len();
        if left > 0 {
            bail!("{left} containers are left; destroy them before cleaning up");
        }
        self.iptables
            .remove_chains(CELL, &firewall::base(&self.cell.tag))
            .await
            .context("remove the cell's chains")?;
        self.config.network.remove().await?;
        Stacks::unmount(&self.paths)?;
        self.cgroups.remove_parent()?;
        super::stacks::remove_tree(&self.paths.run)
    }

    /// Locks the table. Sections under the lock must be short and leave the table valid.
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, handle: &str) -> Result<Record, GardenError> {
        let record = self.table().containers.get(handle).cloned();
        record
            .filter(|record| record.created)
            .ok_or_else(|| GardenError::ContainerNotFound(handle.to_owned()))
    }

    pub(super) fn root(&self, record: &Record) -> Result<Root> {
        Root::of(record.shim, &self.paths.root(&record.key))
    }

    async fn change_egress(&self, handle: &str, rules: &[EgressRule]) -> Result<(), GardenError> {
        let _own = self.turns.acquire(handle).await;
        let mut record = self.record(handle)?;
        let net_in = record.net_in();
        let text = firewall::egress(&self.cell, &record.chain, rules);
        self.iptables
            .change(&record.chain, &text)
            .await
            .with_context(|| format!("change what container {handle} may reach"))?;
        let whole = firewall::add(
            &self.cell,
            &Rules {
                name: &record.chain,
                veth: &record.veth,
                address: record.address,
                net_in: &net_in,
                egress: rules,
            },
        );
        record.rules = whole;
        Ok(self.store_record(&record)?)
    }

    async fn describe(&self, record: &Record) -> Container {
        let processes: Vec<(String, Option<Exit>)> =
            match shim::state(&self.paths.socket(&record.key)).await {
                Ok(state) => state
                    .processes
                    .into_iter()
                    .map(|(id, ended)| (id, ended.map(shim::exit)))
                    .collect(),
                Err(error) => {
                    tracing::warn!(
                        handle = record.handle,
                        error = format!("{error:#}"),
                        "the container's shim does not answer"
                    );
                    let exits = self.exits_on_disk(record).into_iter();
                    // All processes have ended with their shim.
                    exits
                        .map(|(id, exit)| (id, Some(exit.unwrap_or(shim::VANISHED))))
                        .collect()
                }
            };
        let visible = processes
            .into_iter()
            .filter(|(id, _)| !id.starts_with(super::process::OWN));
        Container {
            handle: record.handle.clone(),
            container_ip: record.address,
            net_in: record.net_in(),
            properties: record.properties.clone(),
            processes: visible.collect(),
        }
    }
}

/// Removes what a failed build may have made, unless another process holds this garden.
async fn undo(config: &GardenConfig) {
    let paths = config.paths();
    let Ok(_lock) = lock(&paths) else { return };
    let chains = Iptables::default()
        .remove_chains(CELL, &firewall::base(&config.tag))
        .await;
    let rest = Stacks::unmount(&paths)
        .and_then(|()| Cgroups::open(&config.cgroup_parent())?.remove_parent())
        .and_then(|()| super::stacks::remove_tree(&paths.run));
    for error in [chains, rest].into_iter().filter_map(Result::err) {
        tracing::warn!(
            error = format!("{error:#}"),
            "remains of a failed start were not removed"
        );
    }
}

fn lock(paths: &Paths) -> Result<Flock<File>> {
    let place = paths.data.join("garden.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&place)
        .with_context(|| format!("open {}", place.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => bail!(
            "{} is in use by another foundation; stop it, or choose another data directory",
            paths.data.display()
        ),
    }
}

fn capacity(config: &GardenConfig, addresses: usize) -> Result<Capacity> {
    let meminfo = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let total = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    let disk = nix::sys::statvfs::statvfs(&config.data_dir).context("examine the disk")?;
    let free_mb = disk.blocks_available() as u64 * disk.fragment_size() as u64 / (1 << 20);
    let or = |configured: u64, otherwise: u64| {
        if configured > 0 {
            configured
        } else {
            otherwise
        }
    };
    Ok(Capacity {
        memory_mb: or(config.memory_mb, total.unwrap_or(0) / 1024),
        disk_mb: or(config.disk_mb, free_mb),
        containers: or(config.max_containers, 250).min(addresses as u64),
    })
}

#[async_trait::async_trait]
impl Garden for LinuxGarden {
    async fn create(&self, spec: ContainerSpec) -> Result<Container, GardenError> {
        let record = self.create_container(spec).await?;
        Ok(self.describe(&record).await)
    }

    async fn containers(&self) -> Result<Vec<Container>, GardenError> {
        let records: Vec<Record> = self
            .table()
            .containers
            .values()
            .filter(|record| record.created)
            .cloned()
            .collect();
        Ok(futures::future::join_all(records.iter().map(|record| self.describe(record))).await)
    }

    async fn run(&self, handle: &str, spec: ProcessSpec) -> Result<Process, GardenError> {
        self.run_process(handle, spec).await
    }

    async fn attach(&self, handle: &str, process_id: &str) -> Result<Process, GardenError> {
        self.attach_process(handle, process_id).await
    }

    async fn signal(
        &self,
        handle: &str,
        process_id: &str,
        signal: Signal,
    ) -> Result<(), GardenError> {
        self.signal_process(handle, process_id, signal).await
    }

    async fn destroy(&self, handle: &str) -> Result<(), GardenError> {
        self.destroy_container(handle).await
    }

    async fn set_policies(&self, policies: Vec<Policy>) -> Result<(), GardenError> {
        Ok(self.replace_policies(&policies).await?)
    }

    async fn set_properties(
        &self,
        handle: &str,
        properties: BTreeMap<String, String>,
    ) -> Result<(), GardenError> {
        let mut table = self.table();
        let record = table
            .containers
            .get_mut(handle)
            .filter(|record| record.created);
        let record = record.ok_or_else(|| GardenError::ContainerNotFound(handle.to_owned()))?;
        record.properties.extend(properties);
        Ok(record.save(&self.paths)?)
    }

    async fn stream_in(
        &self,
        handle: &str,
        directory: &str,
        user: &str,
        tar: PathBuf,
    ) -> Result<(), GardenError> {
        self.unpack(handle, directory, user, tar).await
    }

    async fn read_file(
        &self,
        handle: &str,
        path: &str,
        limit: u64,
    ) -> Result<Vec<u8>, GardenError> {
        let root = self.root(&self.record(handle)?)?;
        let path = path.to_owned();
        let content = tokio::task::spawn_blocking(move || root.read(&path, limit))
            .await
            .map_err(anyhow::Error::from)?;
        Ok(content?)
    }

    async fn stream_out(
        &self,
        handle: &str,
        path: &str,
        user: &str,
        tar: PathBuf,
    ) -> Result<(), GardenError> {
        self.pack(handle, path, user, tar).await
    }

    async fn set_egress(&self, handle: &str, rules: Vec<EgressRule>) -> Result<(), GardenError> {
        Ok(self.change_egress(handle, &rules).await?)
    }

    async fn repair(&self) -> Result<Vec<String>, GardenError> {
        if preflight::ensure_forwarding()? {
            tracing::warn!("net.ipv4.ip_forward was switched off; switched on again");
        }
        let reconnected = self.repair_links().await?;
        let mut repaired = self.iptables.repair().await?;
        for name in &repaired {
            match name.as_str() {
                CELL => tracing::warn!(
                    "firewall rules of the cell were missing or changed; applied again"
                ),
                name => tracing::warn!(
                    container = name,
                    "firewall rules of a container were missing or changed; applied again"
                ),
            }
        }
        repaired.extend(reconnected);
        Ok(repaired)
    }

    async fn firewall(&self, handle: &str) -> Result<Vec<FirewallRule>, GardenError> {
        let record = self.record(handle)?;
        Ok(self.iptables.towards(&record.chain).await?)
    }

    async fn listeners(&self, handle: &str) -> Result<Vec<SocketAddr>, GardenError> {
        let init = self.record(handle)?.init;
        let read =
            |name: &str| fs::read_to_string(format!("/proc/{init}/net/{name}")).unwrap_or_default();
        Ok(listeners(&read("tcp"), &read("tcp6")))
    }

    async fn metrics(&self, handle: &str) -> Result<Metrics, GardenError> {
        let record = self.record(handle)?;
        let mut metrics = usage::metrics(&self.cgroups, &self.paths, &record);
        metrics.refused_packets = self.iptables.refused(&record.chain).await;
        Ok(metrics)
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn cell_ip(&self) -> Ipv4Addr {
        self.config.network.cell_ip
    }
}
