//! Creates a container. If a step fails, everything that was made before is removed again.

use super::addresses::listened_ports;
use super::cgroups::{APP, SIDECAR};
use super::config::{SharedLimits, base_id, key, veth_name};
use super::firewall::{self, Rules};
use super::garden::LinuxGarden;
use super::record::{Record, write_private};
use super::{netlink, oci, preflight, shim, usage};
use crate::api::{ContainerSpec, GardenError, NetIn};
use anyhow::{Context, Result, anyhow};
use shim_protocol::{Bind, Setup};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

impl LinuxGarden {
    pub(super) async fn create_container(
        &self,
        spec: ContainerSpec,
    ) -> Result<Record, GardenError> {
        if spec.privileged {
            return Err(anyhow!(
                "container {}: privileged containers are not supported; leave privileged out",
                spec.handle
            )
            .into());
        }
        let rootfs = self
            .stacks
            .folder(&spec.rootfs)
            .ok_or_else(|| GardenError::UnknownRootfs(spec.rootfs.clone()))?;
        let _own = self.turns.acquire(&spec.handle).await;
        let _turn = self.creates.acquire().await.map_err(anyhow::Error::from)?;
        let record = self.reserve(&spec)?;
        match self.make(&spec, record, rootfs).await {
            Ok(record) => Ok(record),
            Err(error) => {
                let error = error.context(format!("create container {}", spec.handle));
                if let Err(also) = self.destroy_in_turn(&spec.handle).await {
                    tracing::error!(
                        handle = spec.handle,
                        error = format!("{:#}", anyhow::Error::from(also)),
                        "cannot remove what is left of a failed container"
                    );
                }
                Err(error.into())
            }
        }
    }

    /// Allocates name, address and ports, and writes the record.
    fn reserve(&self, spec: &ContainerSpec) -> Result<Record, GardenError> {
        let listened = listened();
        let mut table = self.table();
        if table.containers.contains_key(&spec.handle) {
            return Err(GardenError::ContainerExists(spec.handle.clone()));
        }
        let address = table.addresses.allocate().ok_or(GardenError::NoAddresses)?;
        let mut ports: Vec<(u16, u16)> = Vec::new();
        for NetIn {
            host_port,
            container_port,
        } in &spec.net_in
        {
            let taken = match host_port {
                0 => table.ports.allocate(&listened),
                port => table.ports.allocate_exactly(*port).then_some(*port),
            };
            let Some(port) = taken else {
                ports
                    .iter()
                    .for_each(|(port, _)| table.ports.release(*port));
                table.addresses.release(address);
                return Err(if *host_port == 0 {
                    GardenError::NoPorts
                } else {
                    anyhow!("host port {host_port} is used by another container; choose 0 for any")
                        .into()
                });
            };
            ports.push((port, *container_port));
        }
        let chain = firewall::chain_name(&spec.handle, table.chains.keys().map(String::as_str));
        table.chains.insert(chain.clone(), spec.handle.clone());
        let record = Record {
            handle: spec.handle.clone(),
            key: key(&spec.handle),
            created: false,
            since: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
            address,
            veth: veth_name(&self.cell.tag, address),
            chain,
            rules: String::new(),
            ports,
            env: spec.env.clone(),
            memory: spec.limits.memory,
            disk: spec.limits.disk,
            disk_overhead: 0,
            properties: spec.properties.clone(),
            shim: 0,
            init: 0,
            app_env: Vec::new(),
        };
        table.containers.insert(spec.handle.clone(), record.clone());
        let next = table.ports.next();
        drop(table);
        // This file only delays the reuse of ports after a restart, so a failure is ignored.
        let _ = fs::write(self.paths.next_port(), next.to_string());
        Ok(record)
    }

    async fn make(
        &self,
        spec: &ContainerSpec,
        mut record: Record,
        rootfs: PathBuf,
    ) -> Result<Record> {
        let net_in = record.net_in();
        let rules = Rules {
            name: &record.chain,
            veth: &record.veth,
            address: record.address,
            net_in: &net_in,
            egress: &spec.egress,
        };
        record.rules = firewall::add(&self.cell, &rules);
        let folder = self.paths.container(&record.key);
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        record.save(&self.paths)?;
        let (stacks, base) = (self.stacks.clone(), base_id(record.address));
        let lower = tokio::task::spawn_blocking(move || stacks.mounted(&rootfs, base)).await??;
        self.write_bundle(spec, &record, lower, &folder)?;
        let mut limits = spec.limits.clone();
        if limits.pids == 0 {
            limits.pids = self.config.limits.pids;
        }
        self.cgroups.create(&record.key, &limits)?;
        let starting = shim::spawn(
            &self.config.inside,
            &self.cgroups.shim_procs(),
            &folder.join("setup.json"),
            &folder.join("shim.log"),
        )?;
        record.shim = starting.pid;
        self.store_record(&record)?;
        let (init, filtered) = tokio::join!(
            starting.ready(),
            self.iptables.add(&record.chain, &record.rules)
        );
        record.init = init?;
        filtered?;
        self.apply_policies().await?;
        // The rules are applied before the link that they guard exists.
        netlink::connect(&record.veth, record.init, record.address, self.mtu).await?;
        if record.disk > 0 {
            record.disk_overhead = usage::layer_use(record.shim, &folder.join("layer"));
        }
        record.created = true;
        self.store_record(&record)?;
        Ok(record)
    }

    /// Writes the record to the table and to disk.
    pub(super) fn store_record(&self, record: &Record) -> Result<()> {
        record.save(&self.paths)?;
        self.table()
            .containers
            .insert(record.handle.clone(), record.clone());
        Ok(())
    }

    fn write_bundle(
        &self,
        spec: &ContainerSpec,
        record: &Record,
        lower: PathBuf,
        folder: &Path,
    ) -> Result<()> {
        for name in ["processes", "exits"] {
            fs::create_dir(folder.join(name)).with_context(|| format!("make {name}"))?;
        }
        let root = self.paths.root(&record.key);
        fs::create_dir_all(&root).with_context(|| format!("make {}", root.display()))?;
        let hostname = oci::hostname(if spec.hostname.is_empty() {
            &spec.handle
        } else {
            &spec.hostname
        });
        let config = oci::container(&oci::Bundle {
            root: &root,
            inside: &self.config.inside,
            hostname: &hostname,
            nofile: preflight::nofile(0),
            shared_memory_mb: self.config.limits.shared_memory_mb,
            cgroups: &self.cgroups.views(&record.key),
            base_id: base_id(record.address),
        });
        write_private(&folder.join("config.json"), &serde_json::to_vec(&config)?)?;
        let setup = Setup {
            key: record.key.clone(),
            dir: folder.to_owned(),
            root,
            socket: self.paths.socket(&record.key),
            crun: self.crun.clone(),
            crun_root: self.paths.crun(),
            lower,
            disk: record.disk,
            base_id: base_id(record.address),
            files: vec![
                ("/etc/hostname".to_owned(), format!("{hostname}\n")),
                (
                    "/etc/hosts".to_owned(),
                    format!("127.0.0.1\tlocalhost\n{}\t{hostname}\n", record.address),
                ),
                (
                    "/etc/resolv.conf".to_owned(),
                    format!("nameserver {}\n", self.config.dns),
                ),
            ],
            binds: spec
                .bind_mounts
                .iter()
                .map(|bind| Bind {
                    host: bind.host.clone(),
                    container: bind.container.clone(),
                    read_only: bind.read_only,
                })
                .collect(),
            app_cgroups: self.cgroups.procs(&record.key, APP),
            sidecar_cgroups: self.cgroups.procs(&record.key, SIDECAR),
            oom_counter: self.cgroups.oom_counter(&record.key, APP),
            sidecar_oom_counter: self.cgroups.oom_counter(&record.key, SIDECAR),
            user_limits: user_limits(&self.config.limits),
        };
        write_private(&folder.join("setup.json"), &serde_json::to_vec(&setup)?)
    }
}

/// Returns the limits of the container's user namespace, by the kernel's names. The container may create no namespaces at all.
fn user_limits(limits: &SharedLimits) -> Vec<(String, u64)> {
    let mut set = vec![
        ("max_fanotify_groups".to_owned(), 0),
        ("max_fanotify_marks".to_owned(), 0),
    ];
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        set.push((format!("max_{kind}_namespaces"), 0));
    }
    for (name, most) in [
        ("max_inotify_instances", limits.inotify_instances),
        ("max_inotify_watches", limits.inotify_watches),
    ] {
        if most > 0 {
            set.push((name.to_owned(), most));
        }
    }
    set
}

/// Returns the ports on which somebody on the machine listens, on any address.
fn listened() -> BTreeSet<u16> {
    let files = ["/proc/net/tcp", "/proc/net/tcp6"];
    files
        .iter()
        .flat_map(|file| listened_ports(&fs::read_to_string(file).unwrap_or_default()))
        .collect()
}
