//! Limits how many streams of a connection may be reset: by their rate, and by the work that the connection does beside them.
//!
//! A proxy that shares a connection among many clients resets streams for the impatient ones, even a thousand at once, and the
//! other clients must not suffer. An attacker resets every stream as fast as it can (rapid reset), or makes the router reset it.

use std::time::Duration;

/// The budget at the beginning of a connection, and its upper limit. It allows that many requests to be cancelled at once.
const MOST: u32 = 2000;
/// The increase per second.
const A_SECOND: u32 = 300;
/// The increase per request, and the cost of its reset: two of three requests may be reset at any rate.
const REQUEST: u32 = 2;
const RESET: u32 = 3;

/// The budget that is left for resets.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u32,
    /// The time up to which the increase per second is counted.
    at: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: MOST,
            at: Duration::ZERO,
        }
    }
}

impl Budget {
    pub fn opened(&mut self, requests: u32) {
        self.add(requests.saturating_mul(REQUEST));
    }

    /// Pays for resets at `now`, which counts from the beginning of the connection. Returns false if they exceed the budget.
    pub fn reset(&mut self, resets: u32, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at);
        let earned = passed.as_millis().saturating_mul(u128::from(A_SECOND)) / 1000;
        if earned > 0 {
            self.at = now;
            self.add(u32::try_from(earned).unwrap_or(MOST));
        }
        let left = self.left.checked_sub(resets.saturating_mul(RESET));
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    fn add(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of rounds, below `most`, after which the budget is used up.
    fn rounds(most: u32, mut round: impl FnMut(u32, &mut Budget) -> bool) -> Option<u32> {
        let mut budget = Budget::default();
        (0..most).find(|n| !round(*n, &mut budget))
    }

    #[test]
    fn a_thousand_in_one_flight_are_few() {
        let flight = |_, budget: &mut Budget| {
            budget.opened(1);
            budget.reset(1, Duration::ZERO)
        };
        assert_eq!(rounds(1000, flight), None);
        let used_up = rounds(1_000_000, flight);
        assert!(used_up.is_some_and(|n| n < 3000), "{used_up:?}");
    }

    #[test]
    fn two_of_three_may_be_reset_at_any_rate() {
        let shared = |_, budget: &mut Budget| {
            budget.opened(30);
            budget.reset(20, Duration::ZERO)
        };
        assert_eq!(rounds(100_000, shared), None);
    }

    #[test]
    fn slow_resets_are_all_allowed() {
        let slow = |n, budget: &mut Budget| {
            budget.opened(1);
            budget.reset(1, Duration::from_millis(4) * n)
        };
        assert_eq!(rounds(1_000_000, slow), None);
    }

    #[test]
    fn a_flood_ends_whatever_it_waits_for() {
        let flood = |n, budget: &mut Budget| {
            budget.opened(1);
            budget.reset(1, Duration::from_micros(50) * n)
        };
        let used_up = rounds(1_000_000, flood);
        assert!(used_up.is_some_and(|n| n < 4000), "{used_up:?}");
        // Resets without any request use it up, too.
        let bare = |n, budget: &mut Budget| budget.reset(1, Duration::from_micros(50) * n);
        assert!(rounds(2000, bare).is_some());
    }
}
