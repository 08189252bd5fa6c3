//! The cell's section: its name and place, its address, what it offers, and the programs that it uses.

use super::file::CellSection;
use super::values::parsed;
use garden::linux::{HostService, Range};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// The default zone.
const ZONE: &str = "z1";
/// The default size in MB of the download cache.
const CACHE_MB: u64 = 10 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// The cell's name in the foundation. If it is `None`, the name is made from the plan's tag.
    pub(crate) id: Option<String>,
    pub(crate) zone: String,
    pub(crate) placement_tags: Vec<String>,
    pub(crate) optional_placement_tags: Vec<String>,
    /// The cell's address. If it is `None`, an address on a bridge of our own is used.
    pub(crate) ip: Option<Ipv4Addr>,
    /// The range of the containers, if [`Self::ip`] is an address of the machine itself.
    pub(crate) overlay: Option<Range>,
    pub(crate) memory_mb: Option<u64>,
    pub(crate) disk_mb: Option<u64>,
    pub(crate) containers: Option<u64>,
    /// The container runtime: `crun`, `runc`, or a path.
    pub(crate) runtime: String,
    pub(crate) envoy: Option<PathBuf>,
    /// The stacks: name to tar or directory. If there is none, the stack beside the binary is used.
    pub(crate) stacks: BTreeMap<String, PathBuf>,
    pub(crate) route_integrity: bool,
    pub(crate) unproxied_ports: bool,
    pub(crate) instance_cert_validity: Duration,
    pub(crate) cache_mb: u64,
    /// The ports of this machine that all apps reach.
    pub(crate) host_services: Vec<HostService>,
    /// The limits of each container on resources that all containers share.
    pub(crate) limits: garden::linux::SharedLimits,
}

/// Checks the section.
pub(super) fn check(section: CellSection, problems: &mut Vec<String>) -> Cell {
    let ip = parsed(
        "cell.ip",
        section.ip,
        "an IPv4 address: use e.g. 10.254.0.1, or leave the key out",
        problems,
    );
    let overlay = overlay(section.overlay, ip, problems);
    let id = section.id;
    if let Some(wrong) = id.as_ref().filter(|id| !is_id(id)) {
        problems.push(format!(
            "cell.id {wrong:?} is no name of a cell: use 1 to 64 letters, digits, dots, dashes and underscores, e.g. cell-2"
        ));
    }
    let zone = section.zone.unwrap_or_else(|| ZONE.into());
    if !is_id(&zone) {
        problems.push(format!(
            "cell.zone {zone:?} is no name of a zone: use 1 to 64 letters, digits, dots, dashes and underscores, e.g. z1"
        ));
    }
    for (key, tags) in [
        ("placement_tags", &section.placement_tags),
        ("optional_placement_tags", &section.optional_placement_tags),
    ] {
        if tags.iter().any(String::is_empty) {
            problems.push(format!(
                "cell.{key} has an empty tag: give it a name, or remove it"
            ));
        }
    }
    let route_integrity = match section.route_integrity.as_deref() {
        None | Some("on" | "true") => true,
        Some("off" | "false") => false,
        Some(other) => {
            problems.push(format!(
                "cell.route_integrity {other:?} is neither on nor off: use one of them"
            ));
            true
        }
    };
    programs(&section.stacks, section.envoy.as_ref(), problems);
    let host_services = host_services(section.host_services, problems);
    let validity = section.instance_cert_validity_minutes.unwrap_or(24 * 60);
    if validity < 1 {
        problems.push("cell.instance_cert_validity_minutes must be at least 1".into());
    }
    Cell {
        id,
        zone,
        placement_tags: section.placement_tags,
        optional_placement_tags: section.optional_placement_tags,
        ip,
        overlay,
        memory_mb: section.memory_mb,
        disk_mb: section.disk_mb,
        containers: section.containers,
        runtime: section.runtime.unwrap_or_else(|| "crun".into()),
        envoy: section.envoy,
        stacks: section.stacks,
        route_integrity,
        unproxied_ports: section.enable_unproxied_port_mappings,
        instance_cert_validity: Duration::from_secs(validity * 60),
        cache_mb: section.cache_mb.unwrap_or(CACHE_MB),
        host_services,
        limits: section.limits,
    }
}

/// Returns the range of the containers. It must hold at least a few of them, and the cell's own address must not lie in it.
fn overlay(
    text: Option<String>,
    ip: Option<Ipv4Addr>,
    problems: &mut Vec<String>,
) -> Option<Range> {
    let example = "an IPv4 network: use e.g. 10.255.3.0/24";
    let range: Range = parsed("cell.overlay", text, example, problems)?;
    if !(16..=28).contains(&range.prefix()) {
        problems.push(format!(
            "cell.overlay {range} has a prefix that is not between 16 and 28: use e.g. 10.255.3.0/24"
        ));
    }
    match ip {
        None => problems.push(format!(
            "cell.overlay {range} is set and cell.ip is not: set cell.ip to an address of this machine, or remove cell.overlay"
        )),
        Some(ip) if range.contains(ip) => problems.push(format!(
            "cell.overlay {range} contains cell.ip {ip}: use another range"
        )),
        Some(_) => {}
    }
    Some(range)
}

/// Returns the ports of this machine that all apps reach.
fn host_services(texts: Vec<String>, problems: &mut Vec<String>) -> Vec<HostService> {
    let mut found = Vec::new();
    for text in texts {
        match text.parse::<HostService>() {
            Ok(service) => found.push(service),
            Err(error) => problems.push(format!(
                "cell.host_services has {text:?}: {error}; use e.g. tcp:10.0.0.5:5432"
            )),
        }
    }
    found
}

fn programs(
    stacks: &BTreeMap<String, PathBuf>,
    envoy: Option<&PathBuf>,
    problems: &mut Vec<String>,
) {
    for (name, path) in stacks.iter().filter(|(_, path)| !path.exists()) {
        problems.push(format!(
            "cell.stacks.{name} {:?} does not exist: name a tar file or a directory",
            path.display().to_string()
        ));
    }
    if let Some(path) = envoy.filter(|path| !path.is_file()) {
        problems.push(format!(
            "cell.envoy {:?} is not a file: set the path of an Envoy binary, or leave the key out",
            path.display().to_string()
        ));
    }
}

fn is_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}
