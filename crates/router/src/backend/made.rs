//! The record of how an attempt got its connection.

use std::net::SocketAddr;
use std::time::Duration;

/// The way in which an attempt got its connection, and how far it came with it, as the logs record it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    pub(crate) connected: bool,
    /// Whether another request used the connection before; then nothing was dialled.
    pub(crate) reused: bool,
    /// Whether the request's head has gone out. It is recorded only for attempts that failed.
    pub(crate) wrote_head: bool,
    pub(crate) dial: Option<Duration>,
    pub(crate) tls: Option<Duration>,
    /// The time on earlier connections to the same endpoint, which proved dead or refused the request unseen.
    pub(crate) lost: Duration,
    pub(crate) local: Option<SocketAddr>,
}
