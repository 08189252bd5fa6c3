//! Connections of HTTP/2 to one peer: the choice of the one that carries the next request.
//!
//! One connection is enough as long as nothing stalls. A stream that its client does not read costs nothing here, because no
//! window that the router opens is shared ([`super::connect`]). But the peer limits streams, and all request bodies share the
//! windows that the peer opens for them: a body that the peer does not read shuts those windows. So a request with a body avoids
//! connections on which bodies wait, and, as far as connections suffice, connections with any other body: a body cannot change
//! its connection once it has begun.

use bytes::Bytes;
use h2::client::SendRequest;
use http_sides::load::{Load, Share};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The number of connections up to which a request with a body gets one without another body.
const SPREAD: usize = 128;
/// The largest number of connections of one worker to one peer. HTTP/1 would need one for each request.
const MOST: usize = 256;

/// A connection for one request, and the request's share in its load.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) sender: SendRequest<Bytes>,
    pub(crate) share: Share,
}

/// The state of a connection that matters for the choice.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    streams: usize,
    /// The largest number of streams that the peer allows.
    most: usize,
    uploads: usize,
    waiting: usize,
}

/// Returns the index of the connection to use; `None`: a new one is needed.
fn choose(states: &[State], body: bool) -> Option<usize> {
    let all = || states.iter().enumerate();
    let free = |(_, state): &(usize, &State)| state.streams < state.most;
    let chosen = if body {
        let calm = all().filter(free).filter(|(_, state)| state.waiting == 0);
        let calmest = calm.min_by_key(|(_, state)| state.uploads);
        calmest.filter(|(_, state)| state.uploads == 0 || states.len() >= SPREAD)
    } else {
        all().find(free)
    };
    let last_resort = || {
        let full = states.len() >= MOST;
        all()
            .min_by_key(|(_, state)| state.streams)
            .filter(|_| full)
    };
    chosen.or_else(last_resort).map(|(at, _)| at)
}

/// A connection that several requests share.
#[derive(Debug)]
struct SharedConnection {
    number: u64,
    sender: SendRequest<Bytes>,
    used: Instant,
    load: Arc<Load>,
}

impl SharedConnection {
    /// Returns whether the peer still accepts requests, as far as known.
    fn is_open(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    fn state(&self) -> State {
        State {
            streams: self.load.streams(),
            most: self.sender.current_max_send_streams(),
            uploads: self.load.uploads(),
            waiting: self.load.waiting(),
        }
    }
}

/// All connections to one peer, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Multiplexed(Vec<SharedConnection>);

impl Multiplexed {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a connection for a request. `body`: whether the request has one. `None`: a new connection is needed.
    pub(super) fn take(&mut self, body: bool, now: Instant) -> Option<Lane> {
        self.0.retain_mut(SharedConnection::is_open);
        let at = match &self.0[..] {
            [] => return None,
            [only] => choose(&[only.state()], body),
            several => {
                let states: Vec<_> = several.iter().map(SharedConnection::state).collect();
                choose(&states, body)
            }
        };
        let shared = &mut self.0[at?];
        shared.used = now;
        Some(Lane {
            sender: shared.sender.clone(),
            share: Share::new(shared.load.clone(), body),
        })
    }

    /// Adds a new connection, with its first request on it.
    pub(super) fn add(&mut self, number: u64, sender: SendRequest<Bytes>, body: bool) -> Lane {
        let load = Arc::new(Load::default());
        self.0.push(SharedConnection {
            number,
            sender: sender.clone(),
            used: Instant::now(),
            load: load.clone(),
        });
        Lane {
            sender,
            share: Share::new(load, body),
        }
    }

    /// Removes the connection of this number, so that no new request gets it.
    pub(super) fn forget(&mut self, number: u64) {
        self.0.retain(|shared| shared.number != number);
    }

    /// Removes the connections whose last use is old.
    pub(super) fn sweep(&mut self, is_old: impl Fn(Instant) -> bool) {
        self.0.retain(|shared| !is_old(shared.used));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(streams: usize, uploads: usize, waiting: usize) -> State {
        State {
            streams,
            most: 100,
            uploads,
            waiting,
        }
    }

    #[test]
    fn a_request_without_a_body_goes_wherever_there_is_room() {
        for (states, chosen) in [
            (vec![], None),
            (vec![state(99, 5, 5)], Some(0)),
            (vec![state(100, 0, 0)], None),
            (
                vec![state(100, 0, 0), state(3, 1, 1), state(0, 0, 0)],
                Some(1),
            ),
            (vec![state(100, 0, 0); MOST], Some(0)),
        ] {
            assert_eq!(choose(&states, false), chosen, "{states:?}");
        }
    }

    #[test]
    fn a_body_keeps_away_from_bodies_that_wait() {
        for (states, chosen) in [
            (vec![state(50, 0, 0)], Some(0)),
            (vec![state(1, 1, 0)], None),
            (vec![state(1, 1, 1)], None),
            (vec![state(9, 2, 1), state(5, 0, 0)], Some(1)),
            (vec![state(3, 3, 0); SPREAD], Some(0)),
            (vec![state(3, 3, 1); SPREAD], None),
            (vec![state(3, 3, 1); MOST], Some(0)),
        ] {
            assert_eq!(choose(&states, true), chosen, "{states:?}");
        }
    }
}
