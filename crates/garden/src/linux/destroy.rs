//! Removes containers, including those of a killed run. Every step may have been done before, or may not have been needed.

use super::config::BASE_ID;
use super::garden::LinuxGarden;
use super::record::Record;
use super::{firewall, netlink, shim, stacks};
use crate::api::{Exit, GardenError};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shim_protocol::{Ended, Setup};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

impl LinuxGarden {
    /// Waits for a running change of the same container, then destroys it.
    pub(super) async fn destroy_container(&self, handle: &str) -> Result<(), GardenError> {
        let _own = self.turns.acquire(handle).await;
        self.destroy_in_turn(handle).await
    }

    /// Destroys the container. The caller must hold the container's turn.
    pub(super) async fn destroy_in_turn(&self, handle: &str) -> Result<(), GardenError> {
        let Some(record) = self.table().containers.get(handle).cloned() else {
            return Ok(());
        };
        self.remove(&record)
            .await
            .with_context(|| format!("destroy container {handle}"))?;
        let mut table = self.table();
        table.containers.remove(handle);
        table.chains.remove(&record.chain);
        table.addresses.release(record.address);
        record
            .ports
            .iter()
            .for_each(|(port, _)| table.ports.release(*port));
        Ok(())
    }

    /// Removes everything of the container from the machine. Processes end first, because they use the rest.
    async fn remove(&self, record: &Record) -> Result<()> {
        self.end(record).await;
        let (filtered, link) = tokio::join!(
            self.iptables
                .remove(&record.chain, &record.veth, record.address),
            netlink::remove_link(&record.veth)
        );
        let (cgroups, key, folder) = (
            self.cgroups.clone(),
            record.key.clone(),
            self.paths.container(&record.key),
        );
        let (root, crun, socket) = (
            self.paths.root(&record.key),
            self.paths.crun().join(&record.key),
            self.paths.socket(&record.key),
        );
        let own_lower = self.own_lower(record);
        tokio::task::spawn_blocking(move || {
            if let Some(lower) = own_lower {
                stacks::Stacks::release(&lower)?;
            }
            cgroups.destroy(&key)?;
            let _ = fs::remove_file(socket);
            stacks::remove_tree(&crun)?;
            let _ = fs::remove_dir(root);
            // The record is removed last, with its folder, so that the next run can continue if this one is killed.
            remove_folder(&folder)
        })
        .await??;
        filtered.context("remove its chains")?;
        link
    }

    /// Returns the lower that only this container has. Returns `None` if it is not known, or if an older version made the
    /// container when containers shared their lowers.
    fn own_lower(&self, record: &Record) -> Option<PathBuf> {
        let text = fs::read(self.paths.container(&record.key).join("setup.json")).ok()?;
        let setup: Setup = serde_json::from_slice(&text).ok()?;
        let is_ours = setup.lower.parent() == Some(self.paths.lowers().as_path());
        (is_ours && setup.base_id != BASE_ID).then_some(setup.lower)
    }

    /// Ends the container and its shim, by request or by KILL.
    async fn end(&self, record: &Record) {
        let setup = self.paths.container(&record.key).join("setup.json");
        let _ = shim::stop(&self.paths.socket(&record.key)).await;
        for _ in 0..500 {
            let shims = shims(record, &setup);
            if shims.is_empty() {
                return;
            }
            for shim in shims {
                let _ = kill(Pid::from_raw(shim), Signal::SIGKILL);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Takes over, after a start, the containers whose shim answers, and removes the rest. A container that cannot be removed is
    /// left for the next start; it must not keep the others from serving.
    pub(super) async fn adopt_all(&self) -> Result<()> {
        let mut known = BTreeSet::new();
        for entry in fs::read_dir(self.paths.containers())
            .context("list containers")?
            .flatten()
        {
            let folder = entry.path();
            if let Err(error) = self.adopt_folder(&folder, &mut known).await {
                tracing::error!(
                    folder = %folder.display(),
                    error = format!("{error:#}"),
                    "a container could neither be adopted nor removed"
                );
            }
        }
        for name in self.iptables.repair().await? {
            tracing::warn!(name, "the container's rules were incomplete; applied again");
        }
        self.remove_strangers(&known).await
    }

    async fn adopt_folder(&self, folder: &Path, known: &mut BTreeSet<String>) -> Result<()> {
        match Record::load(folder) {
            Ok(Some(record)) => self.adopt(record, known).await,
            // Garden writes the record before it makes anything else. A folder without a record has lost it.
            Ok(None) if folder.is_dir() => {
                let key = folder.file_name().unwrap_or_default().to_string_lossy();
                self.remove(&Record::unreadable(&key)).await
            }
            Ok(None) => fs::remove_file(folder).context("remove a file that is not a container"),
            Err(error) => {
                let key = folder.file_name().unwrap_or_default().to_string_lossy();
                tracing::error!(
                    container = %key,
                    error = format!("{error:#}"),
                    "a container's record cannot be read; the container is removed"
                );
                self.remove(&Record::unreadable(&key)).await
            }
        }
    }

    async fn adopt(&self, record: Record, known: &mut BTreeSet<String>) -> Result<()> {
        let state = shim::state(&self.paths.socket(&record.key)).await;
        let lives = record.created
            && state
                .as_ref()
                .is_ok_and(|state| state.init_status.is_none())
            && self.cell.range.contains(record.address);
        if !lives {
            tracing::info!(
                handle = record.handle,
                "removing what is left of a container"
            );
            let removed = self.remove(&record).await;
            if removed.is_err() {
                self.mark_used(&record);
            }
            return removed
                .with_context(|| format!("remove what is left of container {}", record.handle));
        }
        tracing::info!(handle = record.handle, "container adopted");
        known.insert(record.key.clone());
        self.mark_used(&record);
        self.table()
            .containers
            .insert(record.handle.clone(), record.clone());
        self.iptables.watch(&record.chain, &record.rules).await;
        Ok(())
    }

    /// Marks the container's address, ports and chains as in use.
    fn mark_used(&self, record: &Record) {
        let mut table = self.table();
        table.addresses.remove(record.address);
        for (port, _) in &record.ports {
            table.ports.allocate_exactly(*port);
        }
        table
            .chains
            .insert(record.chain.clone(), record.handle.clone());
    }

    /// Removes things with our names that no record has, for instance after the data folder was deleted.
    async fn remove_strangers(&self, known: &BTreeSet<String>) -> Result<()> {
        for key in self
            .cgroups
            .keys()
            .into_iter()
            .filter(|key| !known.contains(key))
        {
            tracing::info!(key, "removing a cgroup without a container");
            self.cgroups.destroy(&key)?;
        }
        let (chains, veths): (BTreeSet<String>, BTreeSet<String>) = {
            let table = self.table();
            (
                table.chains.keys().cloned().collect(),
                table
                    .containers
                    .values()
                    .map(|record| record.veth.clone())
                    .collect(),
            )
        };
        let save = self.iptables.save().await?;
        for name in firewall::present(&save, &self.cell.tag, self.cell.range)
            .into_iter()
            .filter(|name| !chains.contains(name))
        {
            tracing::info!(name, "removing chains without a container");
            self.iptables
                .remove_chains(&name, &firewall::chains(&name))
                .await?;
        }
        let ours = format!("{}{}-", super::config::VETH_PREFIX, self.cell.tag);
        for entry in fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&ours) && !veths.contains(&name) {
                netlink::remove_link(&name).await?;
            }
        }
        Ok(())
    }

    /// Returns the exits of processes as the shim wrote them to disk, for a shim that cannot be asked. `None` means that an exit
    /// is not known.
    pub(super) fn exits_on_disk(&self, record: &Record) -> BTreeMap<String, Option<Exit>> {
        let folder = self.paths.container(&record.key);
        let read = |name: &str| {
            let entries = fs::read_dir(folder.join(name))
                .into_iter()
                .flatten()
                .flatten();
            entries
                .filter_map(|entry| fs::read(entry.path()).ok())
                .collect::<Vec<_>>()
        };
        let started = read("processes").into_iter().filter_map(|text| {
            serde_json::from_slice::<serde_json::Value>(&text).ok()?["id"]
                .as_str()
                .map(str::to_owned)
        });
        let mut exits: BTreeMap<String, Option<Exit>> = started.map(|id| (id, None)).collect();
        let ended = read("exits")
            .into_iter()
            .filter_map(|text| serde_json::from_slice::<(String, Ended)>(&text).ok());
        exits.extend(ended.map(|(id, ended)| (id, Some(shim::exit(ended)))));
        exits
    }
}

/// Returns the process of the recorded number if it still is the container's shim (a later process may have the same number). If
/// there is no number, it returns all processes that were started with the container's set-up: a garden that is killed just after
/// starting a shim has not recorded its number.
fn shims(record: &Record, setup: &Path) -> Vec<i32> {
    if record.shim > 1 {
        return Some(record.shim)
            .filter(|pid| is_shim(*pid, setup))
            .into_iter()
            .collect();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_shim(*pid, setup))
        .collect()
}

/// Returns whether the process is the container's shim. Its last argument is the set-up, even while `enter` has not yet become
/// the shim.
fn is_shim(pid: i32, setup: &Path) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = command.rsplit(|byte| *byte == 0).skip(1);
    arguments.next() == Some(setup.as_os_str().as_bytes()) && arguments.next() == Some(b"shim")
}

/// Removes a folder. It retries, because a file system that is just being unmounted keeps its folder busy for a moment.
fn remove_folder(folder: &Path) -> Result<()> {
    for _ in 0..100 {
        if stacks::remove_tree(folder).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    stacks::remove_tree(folder)
}
