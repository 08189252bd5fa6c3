//! The cell's address and the range of its containers.
//!
//! Sockets are bound on the cell's address before any role is built, so this comes first and stands alone. The bridge
//! itself is the record of the choice: whoever finds it takes it over.

use super::addresses::{self, DEFAULT_POOLS, Range, choose_range};
use super::config::check_tag;
use super::netlink;
use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::net::Ipv4Addr;

/// Where mapped ports are reached, and where containers live.
#[derive(Clone, Debug)]
pub struct CellNetwork {
    pub cell_ip: Ipv4Addr,
    /// This cell's containers.
    pub range: Range,
    /// All apps' containers, this cell's and others'.
    pub pool: Range,
    /// The bridge that carries the address; none if it is the machine's own.
    pub bridge: Option<String>,
}

impl CellNetwork {
    /// An address for a cell to come. Nothing is made: whoever claims it later may have to take another one.
    pub fn choose() -> Result<Ipv4Addr> {
        Ok(choose(None, &default_pools())?.0.address(1))
    }

    /// The cell's address on a bridge of its own: the one of an earlier run, else `wanted` if its /24 overlaps nothing on
    /// this machine, else in the first such /24 of the default pools.
    pub async fn claim(tag: &str, wanted: Option<Ipv4Addr>) -> Result<Self> {
        check_tag(tag)?;
        let bridge = format!("cupola-{tag}");
        let pools = default_pools();
        // Two foundations that start at once must not choose the same range.
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
        // Half-made by a run that was killed.
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

    /// Removes the bridge and the route. Not before all sockets on the address are closed.
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

/// A free /24 and the pool it is of.
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

/// Everything that a new range must keep clear of.
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

/// What a packet to the outside may measure.
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
