//! Listeners and ports on 127.0.0.1.

use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Returns a listener on a port that the kernel has chosen.
pub async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0")
        .await
        .expect("the kernel has a free port")
}

/// Returns a port for a program that is about to be started. See [`kit::net::free_port`].
pub fn free_port() -> u16 {
    kit::net::free_port().expect("the machine has a free port")
}

/// Returns an address on which nobody listens.
pub fn unused_address() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}
