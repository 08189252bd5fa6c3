//! The cell's address and the range of its containers.
//!
//! Sockets are bound on the cell's address before any role is built, so this module runs first and depends on no other. The
//! bridge itself records the choice: a process that finds it uses it.

use super::addresses::{self, DEFAULT_POOLS, Range, choose_range};
use super::config::check_tag;
use super::netlink;
use anyhow::{Context, Result, bail, ensure};
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

    /// Claims an address of the machine itself for the cell, and `range` for its containers. Other machines reach the cell there,
    /// and no bridge is created.
    ///
    /// # Errors Fails if no interface has the address, or if the range overlaps an address, a name server or a wider route.
    pub async fn claim_own(tag: &str, cell_ip: Ipv4Addr, range: Range) -> Result<Self> {
        check_tag(tag)?;
        ensure!(
            is_own(cell_ip)?,
            "the address {cell_ip} of the cell is no address of this machine: set cell.ip to one that `ip address` lists"
        );
        let (fixed, routes) = (fixed_networks()?, routed_networks()?);
        let fixed = fixed.iter().find(|used| used.overlaps(range));
        if let Some(other) = fixed.or_else(|| routes.iter().find(|route| conflicts(range, **route)))
        {
            bail!(
                "the range {range} of containers overlaps {other}, an address, route or name server of this machine: set cell.overlay to a free range"
            );
        }
        netlink::reserve(range).await?;
        let pools = default_pools();
        let pool = pools.iter().find(|pool| pool.contains(range.address(1)));
        Ok(Self {
            cell_ip,
            range,
            pool: pool.copied().unwrap_or(range),
            bridge: None,
        })
    }

    /// Removes the bridge and the route. All sockets on the address must be closed before.
    pub async fn remove(&self) -> Result<()> {
        netlink::release(self.range).await?;
        match &self.bridge {
            Some(bridge) => netlink::remove_link(bridge).await,
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

/// Returns whether the range cannot be used because of a route of the machine. Routes inside the range are those of its own
/// containers, and the range itself is the route of an earlier run.
fn conflicts(range: Range, route: Range) -> bool {
    let inside = route.prefix() >= range.prefix() && range.contains(route.network());
    range.overlaps(route) && !inside
}

/// Returns whether an interface of this machine has the address.
fn is_own(address: Ipv4Addr) -> Result<bool> {
    let mut entries = nix::ifaddrs::getifaddrs().context("list interface addresses")?;
    Ok(entries.any(|entry| {
        let own = entry.address.as_ref().and_then(|own| own.as_sockaddr_in());
        own.is_some_and(|own| own.ip() == address)
    }))
}

pub(crate) fn address_of(interface: &str) -> Result<Option<Ipv4Addr>> {
    let addresses = nix::ifaddrs::getifaddrs().context("list interface addresses")?;
    let mut of_it = addresses.filter(|entry| entry.interface_name == interface);
    Ok(of_it.find_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip())))
}

/// Returns all networks that a new range must not overlap.
fn in_use() -> Result<Vec<Range>> {
    let mut used = fixed_networks()?;
    used.extend(routed_networks()?);
    Ok(used)
}

/// Returns the networks for which the machine has a route other than the default one.
fn routed_networks() -> Result<Vec<Range>> {
    let text = std::fs::read_to_string("/proc/net/route").context("read /proc/net/route")?;
    Ok(addresses::routed_networks(&text))
}

/// Returns the networks of the machine's addresses, and the addresses of its name servers.
fn fixed_networks() -> Result<Vec<Range>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_conflicts_with_wider_routes_only() {
        let range = |text: &str| text.parse::<Range>().unwrap();
        let own = range("10.255.3.0/24");
        for route in ["10.255.0.0/16", "10.0.0.0/8", "10.255.2.0/23"] {
            assert!(conflicts(own, range(route)), "{route}");
        }
        for route in [
            "10.255.3.0/24",
            "10.255.3.7/32",
            "10.255.4.0/24",
            "10.9.0.0/24",
        ] {
            assert!(!conflicts(own, range(route)), "{route}");
        }
    }

    #[test]
    fn an_address_belongs_to_the_machine_or_not() {
        assert!(is_own(Ipv4Addr::LOCALHOST).unwrap());
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 77)).unwrap());
    }
}
