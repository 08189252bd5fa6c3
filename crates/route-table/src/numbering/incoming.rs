//! The router's side: ignores messages that a newer one overtook, compares digests, and decides when to ask.

use super::{Digest, Sum};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// The number of emitters that are known. Messages of further ones are applied as they come.
const EMITTERS: usize = 10_000;
/// The number of removals that are remembered for each emitter, to recognise registrations that they overtook.
const REMOVALS: usize = 1024;
/// The time after which an emitter without digests is not asked any more.
const SILENCE: Duration = Duration::from_secs(60);
/// The time after which an emitter without digests is forgotten. Its endpoints are stale before: what the table has from an emitter that is
/// forgotten would never be compared again.
const FORGET: Duration = Duration::from_secs(600);
/// The time without a digest from anybody after which the bus counts as having been away. Emitters publish one every 5 seconds.
const OUTAGE: Duration = Duration::from_secs(15);
/// The time that an emitter which is new here has for publishing everything by itself.
const INTRODUCTION: Duration = Duration::from_secs(2);
/// The time between two questions to an emitter, at first and at most.
const AGAIN: Duration = Duration::from_millis(50);
const AGAIN_AT_MOST: Duration = Duration::from_secs(20);
/// The number of further questions as which a question for everything counts.
const RESTART: u32 = 4;
/// The number of questions that are repeated at the shortest interval: losses are likely then.
const QUICK: u32 = 20;

/// Identifies a registration of an emitter: a keyed hash of its uri and its address.
pub type KeyHash = u64;

/// The numbers of all emitters' messages that were applied.
#[derive(Debug, Default)]
pub struct Incoming {
    emitters: HashMap<String, Emitter>,
    /// The time at which silent emitters are forgotten next.
    forget_at: Option<Instant>,
    /// The time of the last digest.
    compared_at: Option<Instant>,
}

#[derive(Debug)]
struct Emitter {
    present: HashMap<KeyHash, u64>,
    sum: Sum,
    removed: HashMap<KeyHash, u64>,
    /// The removals in the order in which they came.
    removals: VecDeque<KeyHash>,
    /// The highest number of a message from it.
    newest: u64,
    /// The emitter's number up to which both sides are known to agree.
    agreed: u64,
    /// The highest number up to which a difference was complete.
    reached: u64,
    /// The newest digest, as long as it differs.
    differing: Option<Digest>,
    /// The number of questions since one of them brought something new.
    asked: u32,
    /// The number of questions for everything since both sides agreed.
    restarts: u32,
    ask_at: Instant,
    seen_at: Instant,
}

/// A question for the difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub emitter: String,
    pub after: u64,
}

impl Incoming {
    /// Returns the number of emitters that are known.
    #[cfg(test)]
    pub(super) fn emitters(&self) -> usize {
        self.emitters.len()
    }

    /// Decides about a registration. Returns whether to apply it; a newer message about the same key may have come before it.
    pub fn admit_registration(
        &mut self,
        emitter: &str,
        number: u64,
        key: KeyHash,
        now: Instant,
    ) -> bool {
        let Some(emitter) = self.emitter(emitter, now) else {
            return true;
        };
        emitter.newest = emitter.newest.max(number);
        if emitter.removed.get(&key).is_some_and(|gone| *gone > number) {
            return false;
        }
        match emitter.present.get_mut(&key) {
            Some(known) if *known > number => return false,
            Some(known) if *known == number => {}
            Some(known) => {
                emitter.sum.remove(*known);
                emitter.sum.add(number);
                *known = number;
            }
            None => {
                emitter.sum.add(number);
                emitter.present.insert(key, number);
            }
        }
        emitter.removed.remove(&key);
        true
    }

    /// Decides about an unregistration, as [`admit_registration`](Self::admit_registration).
    pub fn admit_removal(
        &mut self,
        emitter: &str,
        number: u64,
        key: KeyHash,
        now: Instant,
    ) -> bool {
        let Some(emitter) = self.emitter(emitter, now) else {
            return true;
        };
        emitter.newest = emitter.newest.max(number);
        if let Some(known) = emitter.present.get(&key) {
            if *known > number {
                return false;
            }
            emitter.sum.remove(*known);
            emitter.present.remove(&key);
        }
        if let Some(known) = emitter.removed.get_mut(&key) {
            *known = number.max(*known);
        } else {
            emitter.removed.insert(key, number);
            emitter.removals.push_back(key);
            if emitter.removals.len() > REMOVALS
                && let Some(oldest) = emitter.removals.pop_front()
            {
                emitter.removed.remove(&oldest);
            }
        }
        true
    }

    /// Compares an emitter's digest with what came from it. Emitters that have been silent for long are forgotten.
    pub fn compare(&mut self, emitter: &str, digest: Digest, now: Instant) {
        let last = self.compared_at.replace(now);
        if last.is_none_or(|last| now.duration_since(last) >= OUTAGE) {
            // No emitter could publish a digest, so none counts as silent.
            for emitter in self.emitters.values_mut() {
                emitter.seen_at = now;
            }
        }
        if now >= self.forget_at.unwrap_or(now) {
            self.forget_at = Some(now + SILENCE);
            self.emitters
                .retain(|_, emitter| now.duration_since(emitter.seen_at) < FORGET);
        }
        if let Some(emitter) = self.emitter(emitter, now) {
            emitter.seen_at = now;
            let known = emitter.differing.map_or(0, |known| known.sequence);
            // Digests overtake each other as well.
            if digest.sequence >= known {
                emitter.differing = Some(digest);
            }
            emitter.settle();
        }
    }

    /// Records that the difference after `after` was applied up to `upto`.
    pub fn applied(&mut self, emitter: &str, after: u64, upto: u64, now: Instant) {
        if let Some(emitter) = self.emitter(emitter, now) {
            if after <= emitter.agreed {
                if upto > emitter.reached {
                    // Questions get through, however many were lost before.
                    emitter.reached = upto;
                    emitter.asked = 0;
                } else if upto > emitter.agreed {
                    // A part of a long difference is no failure.
                    emitter.asked = emitter.asked.saturating_sub(1);
                }
                emitter.agreed = emitter.agreed.max(upto);
                let agreed = emitter.agreed;
                if emitter
                    .differing
                    .is_some_and(|known| known.sequence > agreed)
                {
                    // The rest of a long difference.
                    emitter.ask_at = now;
                }
            }
            emitter.settle();
        }
    }

    /// Returns the questions that are due, and when each was asked is recorded.
    pub fn ask(&mut self, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        for (name, emitter) in &mut self.emitters {
            if now.duration_since(emitter.seen_at) >= SILENCE {
                emitter.differing = None;
            }
            emitter.settle();
            let Some(digest) = emitter.differing.filter(|_| now >= emitter.ask_at) else {
                continue;
            };
            emitter.asked += 1;
            if emitter.agreed >= digest.sequence && emitter.agreed > 0 {
                // All changes since the last agreement are here, so the missing one is older: the router asks for everything.
                emitter.agreed = 0;
                emitter.restarts = emitter.restarts.saturating_add(1);
            }
            let in_vain = emitter.restarts.saturating_mul(RESTART);
            let in_vain = in_vain.saturating_add(emitter.asked);
            let slower = AGAIN.saturating_mul(1 << in_vain.saturating_sub(QUICK).min(10));
            emitter.ask_at = now + slower.min(AGAIN_AT_MOST);
            asks.push(Ask {
                emitter: name.clone(),
                after: emitter.agreed,
            });
        }
        asks
    }

    /// Returns when [`ask`](Self::ask) has to be called next; `None`: no emitter differs.
    pub fn ask_at(&self) -> Option<Instant> {
        let differing = |emitter: &&Emitter| emitter.differing.is_some();
        let emitters = self.emitters.values().filter(differing);
        emitters.map(|emitter| emitter.ask_at).min()
    }

    /// Returns the emitter; `None`: too many are known.
    fn emitter(&mut self, name: &str, now: Instant) -> Option<&mut Emitter> {
        if !self.emitters.contains_key(name) {
            if self.emitters.len() >= EMITTERS {
                return None;
            }
            let new = Emitter {
                present: HashMap::new(),
                sum: Sum::default(),
                removed: HashMap::new(),
                removals: VecDeque::new(),
                newest: 0,
                agreed: 0,
                reached: 0,
                differing: None,
                asked: 0,
                restarts: 0,
                ask_at: now + INTRODUCTION,
                seen_at: now,
            };
            self.emitters.insert(name.to_owned(), new);
        }
        self.emitters.get_mut(name)
    }
}

impl Emitter {
    /// Ends the difference if both sides agree now, or if the digest is older than what was applied since.
    fn settle(&mut self) {
        let Some(digest) = self.differing else {
            return;
        };
        if (digest.registrations, digest.sum) == (self.sum.count, self.sum.value) {
            self.agreed = self.agreed.max(digest.sequence);
            self.differing = None;
            self.asked = 0;
            self.restarts = 0;
            self.ask_at = self.seen_at;
        } else if digest.sequence <= self.agreed && digest.sequence < self.newest.max(self.agreed) {
            self.differing = None;
        }
    }
}
