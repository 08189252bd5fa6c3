//! Sockets on the cell's address. The router and the name server may run before the cell has created that address, and must
//! survive while it disappears and returns. So they bind it even if it does not exist (`IP_FREEBIND`).

use anyhow::{Context as _, Result};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, sockopt,
};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use tokio::net::{TcpListener, UdpSocket};

/// Returns a TCP listener. The address need not exist yet.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = bound(address, SockType::Stream)?;
    socket::listen(&socket, Backlog::new(1024)?)?;
    TcpListener::from_std(std::net::TcpListener::from(socket))
}

/// Returns the UDP and TCP sockets of a name server. The address need not exist yet.
pub(crate) fn name_server(address: SocketAddr) -> Result<dns::Sockets> {
    let both = || -> std::io::Result<dns::Sockets> {
        let udp = bound(address, SockType::Datagram)?;
        Ok(dns::Sockets {
            udp: UdpSocket::from_std(std::net::UdpSocket::from(udp))?,
            tcp: listen(address)?,
        })
    };
    both().with_context(|| {
        format!("the name server for containers cannot listen on {address}: is another name server using this address? `ss -ulnp sport = 53` shows it; stop it there, or set cell.ip in the configuration to an address of another /24")
    })
}

fn bound(address: SocketAddr, kind: SockType) -> std::io::Result<OwnedFd> {
    let (family, protocol) = match address {
        SocketAddr::V4(_) => (AddressFamily::Inet, None::<SockProtocol>),
        SocketAddr::V6(_) => (AddressFamily::Inet6, None),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, kind, flags, protocol)?;
    if kind == SockType::Stream {
        socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    socket::setsockopt(&socket, sockopt::IpFreebind, &true)?;
    socket::bind(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &SockaddrStorage::from(address),
    )?;
    Ok(socket)
}
