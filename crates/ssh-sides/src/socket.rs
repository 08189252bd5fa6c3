//! Sets up the TCP socket of an SSH connection.

use rustix::net::sockopt;
use std::time::Duration;
use tokio::net::TcpStream;

/// The time without a packet after which the peer is probed. It also keeps firewalls from forgetting the connection.
const IDLE: Duration = Duration::from_secs(30);
const BETWEEN_PROBES: Duration = Duration::from_secs(10);
const PROBES: u32 = 6;

/// Sends small packets at once, and lets the kernel notice a peer that is gone. What a socket refuses is left as it is.
pub fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, IDLE);
    let _ = sockopt::set_tcp_keepintvl(stream, BETWEEN_PROBES);
    let _ = sockopt::set_tcp_keepcnt(stream, PROBES);
}
