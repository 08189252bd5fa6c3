//! Implements exponential back-off with a cap, for retry loops.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    cap: Duration,
}

impl Backoff {
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self {
            next: first,
            first,
            cap,
        }
    }

    /// Returns the delay to wait now. The next one is twice as long, up to the cap.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * 2).min(self.cap);
        delay
    }

    /// Returns to the first delay. Call it after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}
