//! Measures the memory of a foundation's own processes as PSS: all processes below `cupola up` except the programs that are not
//! ours.

use super::APPS;
use crate::table::verdict;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The programs that are not ours: the message bus, the sidecars, the apps.
const OTHERS: &[&str] = &["nats-server", "envoy", "proxy"];

/// The memory in bytes, by the name of the program.
pub(super) struct Memory(BTreeMap<String, f64>);

pub(super) fn of(cupola: u32) -> Result<Memory> {
    std::thread::sleep(Duration::from_secs(5));
    let mut by_name = BTreeMap::new();
    for pid in descendants(cupola)? {
        // Short-lived processes may be gone.
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            continue;
        };
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
        *by_name.entry(name(pid)).or_default() += kilobytes.unwrap_or_default() * 1024.0;
    }
    Ok(Memory(by_name))
}

impl Memory {
    pub(super) fn text(&self) -> String {
        let ours = self
            .0
            .iter()
            .filter(|(name, _)| !OTHERS.contains(&name.as_str()));
        let total: f64 = ours.map(|(_, bytes)| bytes).sum::<f64>() / 1e6;
        let list: Vec<String> = self
            .0
            .iter()
            .map(|(name, bytes)| format!("{name} {:.1}", bytes / 1e6))
            .collect();
        format!(
            "PSS with {APPS} apps in MB: {}. Without {}: {}",
            list.join(", "),
            OTHERS.join(", "),
            verdict(total <= 200.0, &format!("{total:.0} MB, ≤ 200 MB"))
        )
    }
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

fn descendants(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if let Some(parent) = parent.and_then(|p| p.trim().parse::<u32>().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut family = vec![root];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(
            parents
                .iter()
                .filter(|(_, p)| *p == parent)
                .map(|(pid, _)| *pid),
        );
        at += 1;
    }
    Ok(family)
}
