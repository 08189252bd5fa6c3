//! Links, addresses and routes, by rtnetlink.
//!
//! A container has one point-to-point link to the host, as in silk: /32 on both sides; the host's side is 169.254.0.1 and the
//! container's gateway. Nothing is bridged, so all packets pass FORWARD.

use super::addresses::Range;
use anyhow::{Context, Result, anyhow};
use futures::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::{RouteProtocol, RouteScope, RouteType};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

/// The host's address as every container sees it.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);

/// A socket to the kernel with its task. Both end when this value is dropped.
struct Netlink {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Netlink {
    fn open() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("open a netlink socket")?;
        Ok(Self {
            handle,
            task: tokio::spawn(connection),
        })
    }

    async fn index(&self, name: &str) -> Result<u32> {
        let mut links = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        let link = links
            .try_next()
            .await
            .with_context(|| format!("look up link {name}"))?;
        Ok(link
            .with_context(|| format!("link {name} does not exist"))?
            .header
            .index)
    }

    async fn up(&self, index: u32) -> Result<()> {
        self.handle
            .link()
            .set(LinkUnspec::new_with_index(index).up().build())
            .execute()
            .await
            .context("set link up")
    }

    /// Adds a /32 address whose peer is the only neighbour.
    async fn add_peer_address(&self, index: u32, local: Ipv4Addr, peer: Ipv4Addr) -> Result<()> {
        let mut request = self.handle.address().add(index, local.into(), 32);
        let attributes = &mut request.message_mut().attributes;
        attributes.retain(|attribute| {
            !matches!(
                attribute,
                AddressAttribute::Address(_)
                    | AddressAttribute::Local(_)
                    | AddressAttribute::Broadcast(_)
            )
        });
        attributes.push(AddressAttribute::Local(local.into()));
        attributes.push(AddressAttribute::Address(peer.into()));
        request
            .execute()
            .await
            .with_context(|| format!("add address {local} peer {peer}"))
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Links a container to the host. `pid` is a process in its network namespace.
pub(crate) async fn connect(veth: &str, pid: i32, address: Ipv4Addr, mtu: u32) -> Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))
        .context("open the container's network namespace")?;
    let netlink = Netlink::open()?;
    // The peer is created in the container's namespace, because moving it there would cost 20 ms.
    let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name("eth0".to_owned())
        .mtu(mtu)
        .build();
    peer.attributes
        .push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    let pair = LinkVeth::new(veth, "eth0")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .mtu(mtu)
        .build();
    netlink
        .handle
        .link()
        .add(pair)
        .execute()
        .await
        .with_context(|| format!("create link {veth}"))?;
    // Without IPv6 a container cannot bypass the IPv4 rules on its way to the host.
    write_sysctl(&format!("net/ipv6/conf/{veth}/disable_ipv6"), "1")?;
    write_sysctl(&format!("net/ipv4/conf/{veth}/rp_filter"), "1")?;
    let index = netlink.index(veth).await?;
    netlink.up(index).await?;
    netlink.add_peer_address(index, GATEWAY, address).await?;
    inside(namespace, address).await
}

/// Configures the container's end, from a thread of its own that enters the namespace.
async fn inside(namespace: File, address: Ipv4Addr) -> Result<()> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            let outcome = (|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET)
                    .context("enter the container's network namespace")?;
                write_sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .build()?;
                runtime.block_on(async {
                    let netlink = Netlink::open()?;
                    let loopback = netlink.index("lo").await?;
                    netlink.up(loopback).await?;
                    let index = netlink.index("eth0").await?;
                    netlink.up(index).await?;
                    netlink.add_peer_address(index, address, GATEWAY).await?;
                    let route = RouteMessageBuilder::<Ipv4Addr>::new()
                        .gateway(GATEWAY)
                        .output_interface(index)
                        .pref_source(address);
                    netlink
                        .handle
                        .route()
                        .add(route.build())
                        .execute()
                        .await
                        .context("add the default route")
                })
            })();
            let _ = done.send(outcome);
        })
        .context("start a thread")?;
    result
        .await
        .map_err(|_| anyhow!("the thread in the container's network namespace ended early"))?
}

fn write_sysctl(name: &str, value: &str) -> Result<()> {
    match std::fs::write(format!("/proc/sys/{name}"), value) {
        // A kernel without IPv6 has no such setting.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("set {name} to {value}")),
    }
}

/// Removes a link. A link that does not exist is no error.
pub(crate) async fn remove_link(name: &str) -> Result<()> {
    if !link_exists(name) {
        return Ok(());
    }
    let netlink = Netlink::open()?;
    let Ok(index) = netlink.index(name).await else {
        return Ok(());
    };
    match netlink.handle.link().del(index).execute().await {
        Err(_) if !link_exists(name) => Ok(()),
        other => other.with_context(|| format!("remove link {name}")),
    }
}

pub(crate) fn link_exists(name: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(name).exists()
}

/// Creates a bridge without ports that carries the cell's address, and a route that keeps packets to the cell's range from
/// leaving the machine (and shows others that the range is in use).
pub(crate) async fn create_cell(bridge: &str, address: Ipv4Addr, range: Range) -> Result<()> {
    let netlink = Netlink::open()?;
    netlink
        .handle
        .link()
        .add(LinkBridge::new(bridge).build())
        .execute()
        .await
        .with_context(|| format!("create bridge {bridge}"))?;
    let index = netlink.index(bridge).await?;
    netlink.up(index).await?;
    netlink
        .handle
        .address()
        .add(index, address.into(), 32)
        .execute()
        .await
        .with_context(|| format!("add address {address}"))?;
    reserve(range).await
}

/// Adds the route that keeps packets to a range of containers from leaving the machine.
pub(crate) async fn reserve(range: Range) -> Result<()> {
    let netlink = Netlink::open()?;
    netlink
        .handle
        .route()
        .add(unreachable(range))
        // A route that an earlier bridge left is replaced.
        .replace()
        .execute()
        .await
        .with_context(|| format!("add unreachable route {range}"))
}

/// Removes the route of a range. It may already be absent.
pub(crate) async fn release(range: Range) -> Result<()> {
    let netlink = Netlink::open()?;
    let _ = netlink
        .handle
        .route()
        .del(unreachable(range))
        .execute()
        .await;
    Ok(())
}

fn unreachable(range: Range) -> rtnetlink::packet_route::route::RouteMessage {
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range.network(), range.prefix())
        .kind(RouteType::Unreachable)
        .scope(RouteScope::Universe)
        .protocol(RouteProtocol::Static)
        .build();
    route.header.address_family = AddressFamily::Inet;
    route
}
