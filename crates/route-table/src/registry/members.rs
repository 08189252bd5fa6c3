//! Holds a pool's list of endpoints. Most routes have one endpoint, which is stored without a list.

use super::Common;
use super::endpoint::Endpoint;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// An endpoint in a pool, with what this route records about it. Times are ticks of [`Common::tick`].
#[derive(Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    /// The time at which its instance or the route's settings in it last changed, in microseconds.
    pub(super) since: u64,
    seen: AtomicU32,
    /// The time of its last failure; 0 if it has not failed.
    failed: AtomicU32,
    /// The number of its last choice among a part of its pool, in the order of such choices.
    turn: AtomicU32,
    /// Whether there is a newer instance with the same index, so that this one is probably gone.
    superseded: bool,
}

impl Member {
    pub(super) fn new(endpoint: Arc<Endpoint>, since: u64, now: u32) -> Self {
        Self {
            endpoint,
            since,
            seen: AtomicU32::new(now),
            failed: AtomicU32::new(0),
            turn: AtomicU32::new(0),
            superseded: false,
        }
    }

    pub(super) fn refresh(&self, now: u32) {
        self.seen.store(now, Ordering::Relaxed);
    }

    pub(super) fn turn(&self) -> u32 {
        self.turn.load(Ordering::Relaxed)
    }

    pub(super) fn had_turn(&self, turn: u32) {
        self.turn.store(turn, Ordering::Relaxed);
    }

    /// Returns the time since its last registration.
    pub(super) fn silence(&self, now: u32) -> Duration {
        Duration::from_millis(u64::from(self.silent_ticks(now)) * 100)
    }

    fn silent_ticks(&self, now: u32) -> u32 {
        now.saturating_sub(self.seen.load(Ordering::Relaxed))
    }

    /// Returns whether its stale threshold has passed without a registration. TLS endpoints may stay nevertheless, because the
    /// certificate reveals a wrong peer.
    pub(super) fn is_quiet(&self, now: u32) -> bool {
        self.silent_ticks(now) > self.endpoint.stale_ticks()
    }

    pub(super) fn mark_failed(&self, now: u32) {
        self.failed.store(now.max(1), Ordering::Relaxed);
    }

    pub(super) fn clear_failed(&self) {
        self.failed.store(0, Ordering::Relaxed);
    }

    /// Returns whether a failure still counts against the endpoint, which it does for a quarter of its stale threshold (30 s).
    pub(super) fn is_failed(&self, now: u32) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        failed != 0
            && u64::from(now.saturating_sub(failed)) * 4 < u64::from(self.endpoint.stale_ticks())
    }

    /// Returns whether there is no reason to pass it over. While the bus is away, silence is no reason.
    pub(super) fn is_good(&self, common: &Common, now: u32) -> bool {
        !self.is_failed(now) && !self.superseded && (common.is_suspended() || !self.is_quiet(now))
    }
}

#[derive(Debug, Default)]
pub(super) enum List {
    #[default]
    Empty,
    One(Member),
    #[expect(
        clippy::box_collection,
        reason = "a list of many must not make a list of one larger"
    )]
    Many(Box<Vec<Member>>),
}

impl List {
    pub(super) fn as_slice(&self) -> &[Member] {
        match self {
            Self::Empty => &[],
            Self::One(member) => std::slice::from_ref(member),
            Self::Many(members) => members,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn as_mut_slice(&mut self) -> &mut [Member] {
        match self {
            Self::Empty => &mut [],
            Self::One(member) => std::slice::from_mut(member),
            Self::Many(members) => members,
        }
    }

    pub(super) fn insert(&mut self, at: usize, member: Member) {
        *self = match std::mem::take(self) {
            Self::Empty => Self::One(member),
            Self::One(old) if at == 0 => Self::Many(Box::new(vec![member, old])),
            Self::One(old) => Self::Many(Box::new(vec![old, member])),
            Self::Many(mut members) => {
                members.insert(at, member);
                Self::Many(members)
            }
        };
    }

    /// Removes and returns the member at `at`, which must be within the list.
    pub(super) fn remove(&mut self, at: usize) -> Member {
        match std::mem::take(self) {
            Self::One(old) => old,
            Self::Many(mut members) => {
                let removed = members.remove(at);
                *self = match members.pop() {
                    Some(last) if members.is_empty() => Self::One(last),
                    Some(last) => {
                        members.push(last);
                        Self::Many(members)
                    }
                    None => Self::Empty,
                };
                removed
            }
            Self::Empty => unreachable!("nothing is removed from an empty list"),
        }
    }

    /// Marks all instances that share this endpoint's index as superseded, except the newest.
    pub(super) fn mark_superseded(&mut self, like: &Endpoint) {
        let members = self.as_mut_slice();
        if members.len() == 1 {
            members[0].superseded = false;
            return;
        }
        let in_slot = |member: &Member| member.endpoint.same_slot(like);
        let newest = members.iter().filter(|m| in_slot(m)).map(|m| m.since).max();
        for member in members.iter_mut().filter(|m| in_slot(m)) {
            member.superseded = Some(member.since) != newest;
        }
    }
}
