//! Finds ports for programs that are about to be started.

use anyhow::{Result, bail};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The range of ports. It is below the ports that the kernel assigns to clients and to listeners on port 0, so no process gets
/// one of these by chance between our check and the start of the program. Ports above the kernel's range may be mapped to
/// containers.
const PORTS: Range<u16> = 20_000..32_000;

/// Returns a TCP port on which no process listens now, at no address of this machine. Two calls in one process return the same
/// port only after all others were tried. The port is not reserved against other processes, so bind it soon.
///
/// # Errors
/// It fails if every port between 20,000 and 32,000 is in use.
pub fn free_port() -> Result<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random()));
    for _ in PORTS {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + number % (PORTS.end - PORTS.start);
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!(
        "every port from {} to {} is in use: stop some programs",
        PORTS.start,
        PORTS.end - 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 50);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0]));
        assert!(taken.is_ok());
    }
}
