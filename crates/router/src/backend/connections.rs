//! One worker's connections to backends: idle ones wait here, keyed by the endpoint's transport number, so that a
//! connection is only ever used for the peer (address, TLS name, instance) that it was made to.

use crate::config::Settings;
use crate::side::Http1;
use bytes::Bytes;
use h2::client::SendRequest;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A connection that takes a request.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub(crate) enum Connected {
    Http1(Http1),
    Http2(SendRequest<Bytes>),
}

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
    http1: Vec<Idle>,
    /// One connection carries all requests.
    http2: Option<(SendRequest<Bytes>, Instant)>,
}

#[derive(Debug)]
struct Idle {
    side: Http1,
    since: Instant,
}

impl Connections {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            idle: Mutex::default(),
            max_idle: settings.max_idle_per_endpoint,
            idle_timeout: settings.backend_idle_timeout,
        }
    }

    /// A connection whose other end has not gone, as far as anybody knows; the most recently used first.
    pub(crate) fn take(&self, transport: u64, http1_only: bool, now: Instant) -> Option<Connected> {
        let mut idle = self.lock();
        let entry = idle.get_mut(&transport)?;
        if !http1_only && let Some((sender, used)) = &mut entry.http2 {
            *used = now;
            return Some(Connected::Http2(sender.clone()));
        }
        while let Some(mut idle) = entry.http1.pop() {
            if now.duration_since(idle.since) < self.idle_timeout && idle.side.is_quiet() {
                return Some(Connected::Http1(idle.side));
            }
        }
        None
    }

    /// A multiplexed connection is there for all from its beginning.
    pub(crate) fn share(&self, transport: u64, sender: SendRequest<Bytes>) {
        self.lock().entry(transport).or_default().http2 = Some((sender, Instant::now()));
    }

    /// Such a connection has ended.
    pub(crate) fn forget_shared(&self, transport: u64) {
        if let Some(entry) = self.lock().get_mut(&transport) {
            entry.http2 = None;
        }
    }

    /// A connection has nothing to do.
    pub(crate) fn put(&self, transport: u64, side: Http1) {
        if self.max_idle == 0 {
            return;
        }
        let mut idle = self.lock();
        let entry = idle.entry(transport).or_default();
        if entry.http1.len() >= self.max_idle {
            entry.http1.remove(0);
        }
        entry.http1.push(Idle {
            side,
            since: Instant::now(),
        });
    }

    /// Drops all of them.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    /// Drops connections that were idle too long or have ended.
    pub(crate) fn sweep(&self, now: Instant) {
        let fresh = |since: Instant| now.saturating_duration_since(since) < self.idle_timeout;
        self.lock().retain(|_, entry| {
            entry
                .http1
                .retain_mut(|idle| fresh(idle.since) && idle.side.is_quiet());
            // Streams that are still open keep theirs alive.
            entry.http2.take_if(|(_, since)| !fresh(*since));
            !entry.http1.is_empty() || entry.http2.is_some()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Transport>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
