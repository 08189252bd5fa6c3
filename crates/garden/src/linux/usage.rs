//! The current resource usage of a container.

use super::cgroups::Cgroups;
use super::config::Paths;
use super::record::Record;
use crate::api::Metrics;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn metrics(cgroups: &Cgroups, paths: &Paths, record: &Record) -> Metrics {
    let (memory, cpu) = cgroups.usage(&record.key);
    let statistic = |name: &str| {
        let file = format!("/sys/class/net/{}/statistics/{name}", record.veth);
        fs::read_to_string(file)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    };
    let began = UNIX_EPOCH + Duration::from_secs(record.since);
    let age = SystemTime::now().duration_since(began).unwrap_or_default();
    Metrics {
        memory,
        memory_limit: record.memory,
        disk: disk_use(paths, record),
        disk_limit: record.disk,
        cpu,
        age: u64::try_from(age.as_nanos()).unwrap_or(u64::MAX),
        // The container receives what the host sends.
        rx_bytes: statistic("tx_bytes"),
        tx_bytes: statistic("rx_bytes"),
        refused_packets: 0,
    }
}

/// Returns the bytes used in the writable layer.
pub(crate) fn disk_use(paths: &Paths, record: &Record) -> u64 {
    let layer = paths.container(&record.key).join("layer");
    if record.disk == 0 {
        return tree_size(&layer.join("upper"), 0);
    }
    layer_use(record.shim, &layer).saturating_sub(record.disk_overhead)
}

/// Returns the bytes that the layer's own file system has allocated.
pub(crate) fn layer_use(shim: i32, layer: &Path) -> u64 {
    let place = format!("/proc/{shim}/root{}", layer.display());
    nix::sys::statvfs::statvfs(place.as_str()).map_or(0, |about| {
        (about.blocks() - about.blocks_free()) * about.fragment_size()
    })
}

/// Returns the size of a folder in bytes. Links are counted but not followed.
fn tree_size(folder: &Path, depth: usize) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let about = entry.metadata().ok()?;
        let below = if about.is_dir() && depth < 256 {
            tree_size(&entry.path(), depth + 1)
        } else {
            0
        };
        Some(about.blocks() * 512 + below)
    });
    sizes.sum()
}
