//! Restores links that somebody removed or switched off: the cell's bridge with its address, and each container's link to the
//! host. It is part of every repair.

use super::cell_network;
use super::garden::LinuxGarden;
use super::netlink;
use super::record::Record;
use anyhow::{Context, Result};
use std::net::Ipv4Addr;

/// The machine's routing table, read once for all links.
#[derive(Debug)]
struct Routes(String);

impl Routes {
    fn read() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/net/route").context("read /proc/net/route")?;
        Ok(Self(text))
    }

    /// Returns whether packets to this single address leave by this link.
    fn route_by(&self, link: &str, address: Ipv4Addr) -> bool {
        let wanted = format!("{:08X}", u32::from(address).swap_bytes());
        self.0.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [name, destination, .., mask, _, _, _] = fields.as_slice() else {
                return false;
            };
            *name == link && *destination == wanted && *mask == "FFFFFFFF"
        })
    }
}

/// Returns whether the link is administratively up.
fn is_up(link: &str) -> bool {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{link}/flags"));
    let flags = flags.unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
    flags.is_ok_and(|flags| flags & 1 == 1)
}

impl LinuxGarden {
    /// Repairs the links. Returns the names of the containers whose link had to be made again. A link that cannot be repaired is
    /// logged and tried again later.
    pub(super) async fn repair_links(&self) -> Result<Vec<String>> {
        self.repair_bridge().await?;
        let routes = Routes::read()?;
        let is_whole =
            |record: &Record| is_up(&record.veth) && routes.route_by(&record.veth, record.address);
        let broken: Vec<String> = self
            .table()
            .containers
            .values()
            .filter(|record| record.created && !is_whole(record))
            .map(|record| record.handle.clone())
            .collect();
        let mut repaired = Vec::new();
        for handle in broken {
            match self.reconnect(&handle).await {
                Ok(true) => {
                    tracing::warn!(
                        container = handle,
                        "the container's link was missing or changed; made again"
                    );
                    repaired.push(handle);
                }
                Ok(false) => {}
                Err(error) => tracing::error!(
                    container = handle,
                    error = format!("{error:#}"),
                    "the container's link cannot be made again"
                ),
            }
        }
        Ok(repaired)
    }

    /// Makes both ends of a link again, because the container's end is removed with the host's. Returns `false` if the container
    /// no longer exists.
    async fn reconnect(&self, handle: &str) -> Result<bool> {
        let _own = self.turns.acquire(handle).await;
        let Ok(record) = self.record(handle) else {
            return Ok(false);
        };
        if nix::sys::signal::kill(nix::unistd::Pid::from_raw(record.init), None).is_err() {
            return Ok(false);
        }
        netlink::remove_link(&record.veth).await?;
        netlink::connect(&record.veth, record.init, record.address, self.mtu).await?;
        Ok(true)
    }

    async fn repair_bridge(&self) -> Result<()> {
        let network = &self.config.network;
        let Some(bridge) = &network.bridge else {
            return Ok(());
        };
        let address = cell_network::address_of(bridge)?;
        if address == Some(network.cell_ip) && is_up(bridge) {
            return Ok(());
        }
        netlink::remove_link(bridge).await?;
        netlink::create_cell(bridge, network.cell_ip, network.range)
            .await
            .with_context(|| format!("make the cell's bridge {bridge} again"))?;
        tracing::warn!(
            bridge,
            "the cell's bridge was missing or changed; made again"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_to_one_address_is_found() {
        let routes = Routes(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             cvt-0102\t0200FF0A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n\
             eth0\t0000FF0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
                .to_owned(),
        );
        assert!(routes.route_by("cvt-0102", Ipv4Addr::new(10, 255, 0, 2)));
        assert!(!routes.route_by("cvt-0103", Ipv4Addr::new(10, 255, 0, 2)));
        assert!(!routes.route_by("cvt-0102", Ipv4Addr::new(10, 255, 0, 3)));
        assert!(!routes.route_by("eth0", Ipv4Addr::new(10, 255, 0, 0)));
    }
}
