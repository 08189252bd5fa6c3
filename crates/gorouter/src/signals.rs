//! The signals by which an operator controls a running router.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{self, SignalKind};

/// The request that a signal makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// SIGUSR1: the health check fails, then the listeners close, then requests finish.
    Drain,
    /// SIGTERM
    Terminate,
    /// SIGINT
    Interrupt,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR2: start the binary again and hand the sockets over.
    Upgrade,
}

impl Order {
    pub(super) fn signal(self) -> &'static str {
        match self {
            Self::Drain => "SIGUSR1",
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Reload => "SIGHUP",
            Self::Upgrade => "SIGUSR2",
        }
    }
}

#[derive(Debug)]
pub(super) struct Signals {
    drain: unix::Signal,
    terminate: unix::Signal,
    interrupt: unix::Signal,
    reload: unix::Signal,
    upgrade: unix::Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        let of = |kind| unix::signal(kind).context("listen for signals");
        Ok(Self {
            drain: of(SignalKind::user_defined1())?,
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            reload: of(SignalKind::hangup())?,
            upgrade: of(SignalKind::user_defined2())?,
        })
    }

    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.drain.recv() => Order::Drain,
            _ = self.terminate.recv() => Order::Terminate,
            _ = self.interrupt.recv() => Order::Interrupt,
            _ = self.reload.recv() => Order::Reload,
            _ = self.upgrade.recv() => Order::Upgrade,
        }
    }
}
