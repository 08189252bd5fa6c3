//! Decides when a crashed instance may start again (as bbs `models/restart_calculator.go`).

use crate::{Nanos, SECOND};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The number of consecutive crashes below which an instance restarts at once.
    pub immediate: i32,
    /// The first wait. It doubles with each further crash.
    pub first_wait: Nanos,
    /// The highest number of times that the wait doubles.
    pub max_doublings: i32,
    /// The number of crashes at which the instance is not restarted any more.
    pub give_up: i32,
    /// The run time after which a crash counts as the first one again.
    pub forget_after: Nanos,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            immediate: 3,
            first_wait: 30 * SECOND,
            max_doublings: 5,
            give_up: 200,
            forget_after: 300 * SECOND,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    AtOnce,
    /// The instance restarts this long after the crash.
    After(Nanos),
    Never,
}

impl RestartPolicy {
    /// Returns what follows the `crash_count`th crash.
    pub fn restart(&self, crash_count: i32) -> Restart {
        if crash_count < self.immediate {
            Restart::AtOnce
        } else if crash_count >= self.give_up {
            Restart::Never
        } else {
            let doublings = (crash_count - self.immediate).min(self.max_doublings);
            Restart::After(self.first_wait << doublings)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off() {
        let policy = RestartPolicy::default();
        let seconds = |count| match policy.restart(count) {
            Restart::AtOnce => 0,
            Restart::After(wait) => wait / SECOND,
            Restart::Never => -1,
        };
        let waits = [
            (1, 0),
            (2, 0),
            (3, 30),
            (4, 60),
            (5, 120),
            (6, 240),
            (7, 480),
            (8, 960),
            (9, 960),
            (199, 960),
            (200, -1),
            (5000, -1),
        ];
        for (count, wait) in waits {
            assert_eq!(seconds(count), wait, "crash {count}");
        }
    }
}
