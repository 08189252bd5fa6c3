//! One worker's connections to backends. Idle ones wait here, keyed by the endpoint's transport number, so that a connection is
//! only ever used for the peer (address, TLS name, instance) that it was made to.

use super::shared::{Lane, Multiplexed};
use crate::config::Serving;
use bytes::Bytes;
use h2::client::SendRequest;
use http_sides::Http1;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A connection that accepts a request.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub(crate) enum Connected {
    Http1(Http1),
    Http2(Lane),
}

/// The properties that a request requires of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Need {
    /// Whether the request is an upgrade, which HTTP/2 does not have.
    pub(crate) http1_only: bool,
    /// Whether the request has a body.
    pub(crate) body: bool,
    /// Whether it goes to a route service, for which other authorities and addresses count.
    pub(crate) to_service: bool,
}

#[derive(Debug)]
pub(crate) struct Connections {
    /// The idle connections. Only this worker's thread locks them, so the lock is never contended.
    idle: Mutex<Waiting>,
    /// The largest number of idle connections to one peer.
    max_idle: usize,
    idle_timeout: Duration,
}

/// The largest number of idle connections of one worker, all peers together, because file descriptors are scarce.
const MOST_IDLE: usize = 4096;

#[derive(Debug, Default)]
struct Waiting {
    peers: HashMap<u128, Transport>,
    /// The number of idle HTTP/1 connections, over all peers.
    count: usize,
    /// The number of connections that were shared so far.
    shared: u64,
}

impl Waiting {
    /// Drops the idle connections of the first peer that has any; they can be made again.
    fn drop_some_peer(&mut self) {
        let crowded = |peer: &&mut Transport| !peer.http1.is_empty();
        if let Some(peer) = self.peers.values_mut().find(crowded) {
            self.count -= peer.http1.len();
            peer.http1.clear();
        }
    }
}

#[derive(Debug, Default)]
struct Transport {
    /// The idle connections, the least recently used first.
    http1: Vec<Idle>,
    /// The connections that each carry many requests.
    http2: Multiplexed,
}

#[derive(Debug)]
struct Idle {
    side: Http1,
    since: Instant,
    /// The time before which no request gets it.
    usable: Instant,
}

/// Whether a connection must rest first, to show that its other end has not closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    No,
    Needed,
}

/// The time that a connection rests after an answer: a close by the backend would have arrived by then.
const REST: Duration = Duration::from_millis(200);

impl Connections {
    pub(crate) fn new(settings: &Serving) -> Self {
        Self {
            idle: Mutex::default(),
            max_idle: settings.max_idle_per_endpoint,
            idle_timeout: settings.backend_idle_timeout,
        }
    }

    /// Returns whether a connection is kept after a request.
    pub(crate) fn keeps_any(&self) -> bool {
        self.max_idle > 0
    }

    /// Returns a connection whose other end has not gone, as far as known; the most recently used first.
    pub(crate) fn take(&self, transport: u128, need: Need, now: Instant) -> Option<Connected> {
        let mut waiting = self.lock();
        let Waiting { peers, count, .. } = &mut *waiting;
        let entry = peers.get_mut(&transport)?;
        if !need.http1_only
            && let Some(lane) = entry.http2.take(need.body, now)
        {
            return Some(Connected::Http2(lane));
        }
        while let Some(at) = entry.http1.iter().rposition(|idle| idle.usable <= now) {
            let mut idle = entry.http1.remove(at);
            *count -= 1;
            if now.duration_since(idle.since) < self.idle_timeout && idle.side.is_quiet() {
                return Some(Connected::Http1(idle.side));
            }
        }
        None
    }

    /// Adds a multiplexed connection, which all requests share from its beginning. Returns its number. `body`: whether the
    /// request that it was made for has one.
    pub(crate) fn share(
        &self,
        transport: u128,
        sender: SendRequest<Bytes>,
        body: bool,
    ) -> (u64, Lane) {
        let mut waiting = self.lock();
        waiting.shared += 1;
        let number = waiting.shared;
        let entry = waiting.peers.entry(transport).or_default();
        (number, entry.http2.add(number, sender, body))
    }

    /// Removes the connection of this number, which has ended or accepts no more requests. Others to the same peer stay.
    pub(crate) fn forget_shared(&self, transport: u128, number: u64) {
        if let Some(entry) = self.lock().peers.get_mut(&transport) {
            entry.http2.forget(number);
        }
    }

    /// Adds a connection that has become idle.
    pub(crate) fn put(&self, transport: u128, side: Http1, rest: Rest) {
        if self.max_idle == 0 {
            return;
        }
        let mut waiting = self.lock();
        if waiting.count >= MOST_IDLE {
            waiting.drop_some_peer();
        }
        let Waiting { peers, count, .. } = &mut *waiting;
        let entry = peers.entry(transport).or_default();
        if entry.http1.len() >= self.max_idle {
            entry.http1.remove(0);
        } else {
            *count += 1;
        }
        let since = Instant::now();
        let usable = match rest {
            Rest::No => since,
            Rest::Needed => since + REST,
        };
        entry.http1.push(Idle {
            side,
            since,
            usable,
        });
    }

    /// Drops all connections.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.peers.clear();
        waiting.count = 0;
    }

    /// Drops connections that were idle too long or have ended.
    pub(crate) fn sweep(&self, now: Instant) {
        let fresh = |since: Instant| now.saturating_duration_since(since) < self.idle_timeout;
        let mut waiting = self.lock();
        let mut count = 0;
        waiting.peers.retain(|_, entry| {
            entry
                .http1
                .retain_mut(|idle| fresh(idle.since) && idle.side.is_quiet());
            // Streams that are still open keep their own connection alive.
            entry.http2.sweep(|used| !fresh(used));
            count += entry.http1.len();
            !entry.http1.is_empty() || !entry.http2.is_empty()
        });
        waiting.count = count;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sender() -> SendRequest<Bytes> {
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        let made: Result<(_, h2::client::Connection<_, Bytes>), _> =
            h2::client::Builder::new().handshake(ours).await;
        let (sender, connection) = made.unwrap();
        // The connection is neither polled nor dropped.
        std::mem::forget((connection, theirs));
        sender
    }

    #[tokio::test]
    async fn the_end_of_an_older_connection_leaves_the_newer_one() {
        let connections = Connections::new(&Serving::default());
        let need = Need::default();
        let shared = |transport| connections.take(transport, need, Instant::now()).is_some();
        let (older, _) = connections.share(7, sender().await, false);
        let (newer, _) = connections.share(7, sender().await, false);
        connections.forget_shared(7, older);
        assert!(shared(7));
        connections.forget_shared(8, newer);
        assert!(shared(7));
        connections.forget_shared(7, newer);
        assert!(!shared(7));
    }
}
