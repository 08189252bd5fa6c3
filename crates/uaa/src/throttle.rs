//! Limits how often a password may be guessed. The module is pure: time comes in as an argument.
//!
//! Five failures in a row lock the name for ten seconds; each further one doubles the time, up to five minutes. A success or an
//! hour without a failure resets the count. Locked attempts are refused without checking the password.
//!
//! The database counts the failures, so that all UAAs on it and later processes know them. A [`Throttle`] counts those that could
//! not be stored. All times are in Unix milliseconds.

use std::collections::HashMap;

const FREE_FAILURES: u32 = 5;
const FIRST_LOCK: i64 = 10_000;
const LONGEST_LOCK: i64 = 300_000;
pub(crate) const FORGET_AFTER: i64 = 3_600_000;
/// The maximum number of names that are remembered. Beyond it, the name that failed longest ago is removed.
pub(crate) const MAX_NAMES: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Throttle {
    failures: HashMap<String, Failures>,
}

/// The failures of a name in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failures {
    pub(crate) count: u32,
    pub(crate) last: i64,
}

impl Failures {
    /// Returns whether the name is locked.
    pub(crate) fn lock(&self, now: i64) -> bool {
        let over = self.count.checked_sub(FREE_FAILURES);
        over.is_some_and(|over| {
            let lock = FIRST_LOCK.saturating_mul(1 << over.min(16));
            now < self.last + lock.min(LONGEST_LOCK)
        })
    }
}

impl Throttle {
    pub(crate) fn is_locked(&self, name: &str, now: i64) -> bool {
        self.failures
            .get(name)
            .is_some_and(|failures| failures.lock(now))
    }

    pub(crate) fn failed(&mut self, name: &str, now: i64) {
        if self.failures.len() >= MAX_NAMES && !self.failures.contains_key(name) {
            self.failures.retain(|_, f| now - f.last < FORGET_AFTER);
            if self.failures.len() >= MAX_NAMES
                && let Some(oldest) = self
                    .failures
                    .iter()
                    .min_by_key(|(_, f)| f.last)
                    .map(|(name, _)| name.clone())
            {
                self.failures.remove(&oldest);
            }
        }
        let failures = self.failures.entry(name.to_owned()).or_insert(Failures {
            count: 0,
            last: now,
        });
        if now - failures.last >= FORGET_AFTER {
            failures.count = 0;
        }
        failures.count += 1;
        failures.last = now;
    }

    pub(crate) fn succeeded(&mut self, name: &str) {
        self.failures.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_grow_and_success_forgets() {
        let (mut throttle, start) = (Throttle::default(), 1_000_000);
        for n in 0..FREE_FAILURES {
            assert!(!throttle.is_locked("u", start), "after {n} failures");
            throttle.failed("u", start);
        }
        assert!(throttle.is_locked("u", start) && !throttle.is_locked("other", start));
        let later = start + FIRST_LOCK;
        assert!(!throttle.is_locked("u", later));
        throttle.failed("u", later);
        assert!(throttle.is_locked("u", later + FIRST_LOCK), "twice as long");
        for _ in 0..40 {
            throttle.failed("u", later);
        }
        assert!(!throttle.is_locked("u", later + LONGEST_LOCK));
        throttle.succeeded("u");
        assert!(!throttle.is_locked("u", later));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut throttle, now) = (Throttle::default(), 1_000_000);
        for n in 0..MAX_NAMES + 50 {
            throttle.failed(&n.to_string(), now);
        }
        assert_eq!(throttle.failures.len(), MAX_NAMES);
    }
}
