//! Logs whether the bus is connected, with gorouter's messages and keys: tools watch the log for them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The state of the bus that was logged last.
pub(super) struct BusPresence {
    /// The server of the last connection: its name and port as configured, and its address.
    host: String,
    addr: String,
    /// The time at which the bus, while it is absent, is logged again.
    remind_at: Option<Instant>,
    every: Duration,
}

impl BusPresence {
    /// Creates the state of a bus that was never connected. `every` is the interval of pings and of reminders, as in gorouter.
    pub(super) fn new(every: Duration) -> Self {
        Self {
            host: String::new(),
            addr: String::new(),
            remind_at: None,
            every,
        }
    }

    pub(super) fn remind_at(&self) -> Option<Instant> {
        self.remind_at
    }

    pub(super) fn connected(&mut self, host: &str, addr: Option<SocketAddr>) {
        self.remind_at = None;
        let again = !self.host.is_empty();
        host.clone_into(&mut self.host);
        self.addr = addr.map(|addr| addr.to_string()).unwrap_or_default();
        let addr = &self.addr;
        if again {
            tracing::info!(host, addr, "nats-connection-reconnected");
        } else {
            tracing::info!(host, addr, "Successfully-connected-to-nats");
        }
    }

    /// Logs the server that was lost; the next attempt may go to another one.
    pub(super) fn disconnected(&mut self, error: &str) {
        self.remind_at = Some(Instant::now() + self.every);
        let Self { host, addr, .. } = &*self;
        tracing::warn!(host, addr, error, "nats-connection-disconnected");
    }

    pub(super) fn remind(&mut self) {
        self.remind_at = Some(Instant::now() + self.every);
        tracing::info!("nats-connection-still-disconnected");
    }
}
