//! The cell's address and the range of its containers.
//!
//! Sockets are bound on the cell's address before any role is built, so this module runs first and depends on no other. The
//! bridge itself records the choice: a process that finds it uses it.

use super::addresses::{self, DEFAULT_POOLS, Range, choose_range};
use super::config::check_tag;
use super::netlink;
use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::net::Ipv4Addr;

/// The address on which mapped ports are reached, and the range in which containers live.
#[derive(Clone, Debug)]
pub struct CellNetwork {
    pub cell_ip: Ipv4Addr,
    /// The range of this cell's containers.
    pub range: Range,
    /// The range of all apps' containers, on this cell and others.
    pub pool: Range,
    /// The bridge that carries the address; `None` if the address is the machine's own.
    pub bridge: Option<String>,
}

impl CellNetwork {
    /// Returns an address for a future cell. Nothing is created, so a later claim may have to use another address.
    pub fn choose() -> Result<Ipv4Addr> {
        Ok(choose(None, &default_pools())?.0.address(1))
    }

    /// Claims the cell's address on a bridge of its own. It is the address of an earlier run, else `wanted` if its /24 overlaps
    /// nothing on this machine, else one in the first such /24 of the default pools.
    pub async fn claim(tag: &str, wanted: Option<Ipv4Addr>) -> Result<Self> {
        check_tag(tag)?;
        let bridge = format!("cupola-{tag}");
        let pools = default_pools();
        // Two foundations that start at the same time must not choose the same range.
        let _one_at_a_time = tokio::task::spawn_blocking(|| {
            let folder = File::open("/run").context("open /run")?;
            Flock::lock(folder, FlockArg::LockExclusive)
                .map_err(|(_, error)| error)
                .context("lock /run")
        })
        .await??;
        if let Some(cell_ip) = address_of(&bridge)? {
            let range = Range::new(cell_ip, 24);
            let pool = pools
                .iter()
                .copied()
                .find(|pool| pool.contains(cell_ip))
                .unwrap_or(range);
            return Ok(Self {
                cell_ip,
                range,
                pool,
                bridge: Some(bridge),
            });
        }
        // A run that was killed may have left a half-made bridge.
        netlink::remove_link(&bridge).await?;
        let (range, pool) = choose(wanted, &pools)?;
        let cell_ip = wanted
            .filter(|ip| range.contains(*ip))
            .unwrap_or_else(|| range.address(1));
        netlink::create_cell(&bridge, cell_ip, range).await?;
        Ok(Self {
            cell_ip,
            range,
            pool,
            bridge: Some(bridge),
        })
    }

    /// Removes the bridge and the route. All sockets on the address must be closed before.
    pub async fn remove(&self) -> Result<()> {
        match &self.bridge {
            Some(bridge) => netlink::remove_cell(bridge, self.range).await,
            None => Ok(()),
        }
    }
}

fn default_pools() -> Vec<Range> {
    DEFAULT_POOLS
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

/// Returns a free /24 and its pool.
fn choose(wanted: Option<Ipv4Addr>, pools: &[Range]) -> Result<(Range, Range)> {
    let used = in_use()?;
    if let Some((range, own)) = wanted.and_then(|ip| choose_range(&[Range::new(ip, 24)], &used)) {
        let pool = pools.iter().copied().find(|p| p.contains(range.address(1)));
        return Ok((range, pool.unwrap_or(own)));
    }
    choose_range(pools, &used).with_context(|| {
        let tried: Vec<String> = pools.iter().map(Range::to_string).collect();
        format!("no free /24 for containers in {}: each overlaps an address, route or name server here; set cell.ip in the configuration to an address of a free /24", tried.join(", "))
    })
}

pub(crate) fn address_of(interface: &str) -> Result<Option<Ipv4Addr>> {
    let addresses = nix::ifaddrs::getifaddrs().context("list interface addresses")?;
    let mut of_it = addresses.filter(|entry| entry.interface_name == interface);
    Ok(of_it.find_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip())))
}

/// Returns all networks that a new range must not overlap.
fn in_use() -> Result<Vec<Range>> {
    let mut used = Vec::new();
    for entry in nix::ifaddrs::getifaddrs().context("list interface addresses")? {
        if let Some(address) = entry
            .address
            .as_ref()
            .and_then(|address| address.as_sockaddr_in())
        {
            let mask = entry
                .netmask
                .as_ref()
                .and_then(|mask| mask.as_sockaddr_in())
                .map_or(32, |mask| u32::from(mask.ip()).leading_ones() as u8);
            used.push(Range::new(address.ip(), mask));
        }
    }
    used.extend(addresses::routed_networks(
        &std::fs::read_to_string("/proc/net/route").context("read /proc/net/route")?,
    ));
    let servers =
        addresses::name_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    used.extend(servers.into_iter().map(|server| Range::new(server, 32)));
    Ok(used)
}

/// Returns the maximum size of a packet to the outside (the MTU of the default route's interface).
pub(crate) fn uplink_mtu() -> u32 {
    let route = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mtu = |name: String| {
        std::fs::read_to_string(format!("/sys/class/net/{name}/mtu"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    addresses::default_interface(&route)
        .and_then(mtu)
        .unwrap_or(1500)
}
