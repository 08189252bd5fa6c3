//! The parts of the proxy that all connections share, and the parts of one connection that its handler and its watchman share.

use crate::backend::Backend;
use crate::metrics::Metrics;
use crate::permission::Permission;
use clients::loggregator::{Emitter, Source, Stream};
use kit::CancellationToken;
use kit::metrics::Begun;
use russh::client;
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The parts of the proxy that all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) permission: Permission,
    /// How instances are verified.
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) client: Arc<client::Config>,
    pub(crate) emitter: Emitter,
    pub(crate) metrics: Metrics,
    pub(crate) idle: Duration,
}

/// A session that began with a login. Its end is logged when it is dropped.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) backend: Backend,
    pub(crate) peer: SocketAddr,
    pub(crate) source: Source,
    pub(crate) emitter: Emitter,
    /// It counts the session until it ends.
    pub(crate) _counted: Begun,
}

impl Drop for LoggedIn {
    fn drop(&mut self) {
        let line = format!("Remote access ended for {}", self.peer);
        self.emitter.log(&self.source, Stream::Out, line);
    }
}

/// The state of one connection.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) logged_in: OnceLock<Arc<LoggedIn>>,
    /// It is cancelled when somebody has logged in, with or without an instance.
    pub(crate) decided: CancellationToken,
}
