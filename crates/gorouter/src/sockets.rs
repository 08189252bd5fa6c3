//! The router's listening sockets. They are bound here, or passed on by the process that started this one (the predecessor or
//! systemd). A passed socket is used for the address on which it listens; a socket that no configuration key needs is closed.

use anyhow::{Context as _, Result, ensure};
use nix::unistd::close;
use rustix::net::sockopt::socket_acceptconn;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use tokio::net::TcpSocket;

/// The first descriptor that systemd passes.
const FIRST: i32 = 3;

#[derive(Debug, Default)]
pub(super) struct Sockets {
    inherited: Vec<TcpListener>,
    /// A second descriptor of each socket in use, for a successor.
    kept: Vec<OwnedFd>,
}

/// An address for clients that is reserved for this process.
#[derive(Debug)]
pub(super) enum Reserved {
    /// The socket listens already, because another process passed it on.
    Listening(tokio::net::TcpListener),
    /// The socket is bound, but nobody can connect yet.
    Bound(TcpSocket),
}

impl Sockets {
    /// Returns the sockets that systemd has opened (`LISTEN_FDS`), if systemd started this process.
    pub(super) fn from_systemd() -> Result<Self> {
        let number = |name: &str| std::env::var(name).ok()?.parse::<i32>().ok();
        let pid = number("LISTEN_PID");
        let Some(count) = number("LISTEN_FDS").filter(|_| pid == Some(getpid().as_raw_pid()))
        else {
            return Ok(Self::default());
        };
        let this = pidfd_open(getpid(), PidfdFlags::empty()).context("open this process")?;
        let mut inherited = Vec::new();
        for number in FIRST..FIRST.saturating_add(count) {
            let descriptor = pidfd_getfd(&this, number, PidfdGetfdFlags::empty())
                .with_context(|| format!("inherit socket {number} of LISTEN_FDS={count}"))?;
            // The copy has close-on-exec; the original does not.
            let _ = close(number);
            inherited.push(descriptor);
        }
        Self::inherited(inherited)
    }

    /// Returns sockets that another process passed on. It fails if one does not listen.
    pub(super) fn inherited(descriptors: Vec<OwnedFd>) -> Result<Self> {
        let checked = descriptors.into_iter().map(|descriptor| {
            let listens = socket_acceptconn(&descriptor).unwrap_or(false);
            ensure!(listens, "an inherited descriptor is not a listening socket");
            let listener = TcpListener::from(descriptor);
            listener
                .local_addr()
                .context("an inherited socket is not a TCP socket")?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        Ok(Self {
            inherited: checked.collect::<Result<_>>()?,
            kept: Vec::new(),
        })
    }

    /// Listens on the address. `key` is the configuration key that the error names.
    pub(super) fn listen(
        &mut self,
        address: SocketAddr,
        key: &str,
    ) -> Result<tokio::net::TcpListener> {
        let listener = match self.claim(address) {
            Some(inherited) => inherited,
            None => {
                let bound = TcpListener::bind(address);
                let bound = bound.with_context(|| cannot_listen(address.port(), key))?;
                bound.set_nonblocking(true)?;
                bound
            }
        };
        self.keep(listener.as_fd().try_clone_to_owned()?);
        Ok(tokio::net::TcpListener::from_std(listener)?)
    }

    /// Reserves the address for this process. Nobody can connect before the start delay is over, unless the socket was passed on.
    pub(super) fn reserve(&mut self, address: SocketAddr, key: &str) -> Result<Reserved> {
        let reserved = match self.claim(address) {
            Some(inherited) => Reserved::Listening(tokio::net::TcpListener::from_std(inherited)?),
            None => {
                let bind = || {
                    let socket = match address {
                        SocketAddr::V4(_) => TcpSocket::new_v4()?,
                        SocketAddr::V6(_) => TcpSocket::new_v6()?,
                    };
                    socket.set_reuseaddr(true)?;
                    socket.bind(address)?;
                    Ok::<_, std::io::Error>(socket)
                };
                Reserved::Bound(bind().with_context(|| cannot_listen(address.port(), key))?)
            }
        };
        let descriptor = match &reserved {
            Reserved::Listening(listener) => listener.as_fd(),
            Reserved::Bound(socket) => socket.as_fd(),
        };
        self.keep(descriptor.try_clone_to_owned()?);
        Ok(reserved)
    }

    /// Returns the descriptors for a successor.
    pub(super) fn all(&self) -> &[OwnedFd] {
        &self.kept
    }

    /// Closes the descriptors for a successor. The sockets then disappear when the router closes its own descriptors.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Closes passed sockets that are not used. It is called after all keys have been processed.
    pub(super) fn close_unused(&mut self) {
        for unused in self.inherited.drain(..) {
            let address = unused.local_addr().map(|a| a.to_string());
            let address = address.unwrap_or_default();
            tracing::warn!(
                address,
                "inherited-socket-closed: no key of the configuration names its address"
            );
        }
    }

    fn keep(&mut self, descriptor: OwnedFd) {
        self.kept.push(descriptor);
    }

    fn claim(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let at = self.inherited.iter().position(|inherited| {
            inherited
                .local_addr()
                .is_ok_and(|address| fits(address, wanted))
        })?;
        Some(self.inherited.swap_remove(at))
    }
}

/// Returns whether a socket at `inherited` serves the address `wanted`: the port is the same, and the address is the same or both
/// mean all addresses.
fn fits(inherited: SocketAddr, wanted: SocketAddr) -> bool {
    inherited.port() == wanted.port()
        && (inherited.ip() == wanted.ip()
            || inherited.ip().is_unspecified() && wanted.ip().is_unspecified())
}

fn cannot_listen(port: u16, key: &str) -> String {
    format!(
        "{key} {port}: cannot listen there; is another program using the port, or is it below 1024 and you are not root?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_known_by_their_address() {
        for (inherited, wanted, fitting) in [
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", false),
            ("0.0.0.0:81", "0.0.0.0:80", false),
        ] {
            assert_eq!(
                fits(inherited.parse().unwrap(), wanted.parse().unwrap()),
                fitting,
                "{inherited} {wanted}"
            );
        }
    }

    #[tokio::test]
    async fn only_listening_sockets_are_inherited() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Sockets::inherited(vec![file.into()]).is_err());
        let unused = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sockets = Sockets::inherited(vec![listener.into(), unused.into()]).unwrap();
        let taken = sockets.listen(address, "port").unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        sockets.close_unused();
        assert_eq!(sockets.all().len(), 1);
        drop(taken);
        assert!(TcpListener::bind(address).is_err(), "kept for a successor");
        sockets.forget();
        TcpListener::bind(address).unwrap();
    }
}
