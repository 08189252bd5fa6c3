//! One worker's connections to backends: idle ones wait here, keyed by the endpoint's transport number, so that a
//! connection is only ever used for the peer (address, TLS name, instance) that it was made to.

use super::connect::Sender;
use crate::body::RequestBody;
use crate::config::Settings;
use crate::router::Worker;
use hyper::client::conn::{http1, http2};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Connections {
    /// Only this worker's thread takes the lock, so it is never contended.
    idle: Mutex<HashMap<u64, Transport>>,
    max_idle: usize,
    idle_timeout: Duration,
}

#[derive(Debug, Default)]
struct Transport {
    /// Least recently used first.
    http1: Vec<(http1::SendRequest<RequestBody>, Instant)>,
    /// One connection carries all requests.
    http2: Option<(http2::SendRequest<RequestBody>, Instant)>,
}

impl Connections {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            idle: Mutex::default(),
            max_idle: settings.max_idle_per_endpoint,
            idle_timeout: settings.backend_idle_timeout,
        }
    }

    /// A connection that is ready, the most recently used first.
    pub(crate) fn take(&self, transport: u64, http1_only: bool, now: Instant) -> Option<Sender> {
        let mut idle = self.lock();
        let entry = idle.get_mut(&transport)?;
        if !http1_only && let Some((sender, used)) = &mut entry.http2 {
            if !sender.is_closed() {
                *used = now;
                return Some(Sender::Http2(sender.clone()));
            }
            entry.http2 = None;
        }
        while let Some((sender, since)) = entry.http1.pop() {
            if now.duration_since(since) < self.idle_timeout && sender.is_ready() {
                return Some(Sender::Http1(sender));
            }
        }
        None
    }

    /// A multiplexed connection is there for all from its beginning.
    pub(crate) fn share(&self, transport: u64, sender: http2::SendRequest<RequestBody>) {
        self.lock().entry(transport).or_default().http2 = Some((sender, Instant::now()));
    }

    fn put(&self, transport: u64, sender: http1::SendRequest<RequestBody>) {
        if self.max_idle == 0 {
            return;
        }
        let mut idle = self.lock();
        let entry = idle.entry(transport).or_default();
        if entry.http1.len() >= self.max_idle {
            entry.http1.remove(0);
        }
        entry.http1.push((sender, Instant::now()));
    }

    /// Drops connections that were idle too long or have ended.
    pub(crate) fn sweep(&self, now: Instant) {
        let fresh = |since: &Instant| now.saturating_duration_since(*since) < self.idle_timeout;
        self.lock().retain(|_, entry| {
            entry
                .http1
                .retain(|(sender, since)| fresh(since) && !sender.is_closed());
            entry
                .http2
                .take_if(|(sender, since)| !fresh(since) || sender.is_closed());
            !entry.http1.is_empty() || entry.http2.is_some()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Transport>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A borrowed HTTP/1 connection. Dropped: the connection closes. Given back: others may use it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) worker: Arc<Worker>,
    pub(crate) transport: u64,
    pub(crate) sender: http1::SendRequest<RequestBody>,
}

impl Lease {
    /// The response is read to its end. The connection is idle as soon as the request is sent to its end as well.
    pub(crate) fn give_back(self) {
        let Self {
            worker,
            transport,
            mut sender,
        } = self;
        if sender.is_closed() {
            return;
        }
        if sender.is_ready() {
            return worker.connections.put(transport, sender);
        }
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                worker.connections.put(transport, sender);
            }
        });
    }
}
