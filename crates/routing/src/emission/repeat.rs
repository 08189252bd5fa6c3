//! Saying goodbye more than once: the bus may lose a message, and a route that stays registered leads nowhere.

use super::{Changes, Registration, RegistrationKey};
use std::collections::HashMap;

/// Unregistrations that are repeated until they were sent often enough or the route is registered again.
#[derive(Debug)]
pub struct Farewells {
    times: u32,
    pending: HashMap<RegistrationKey, (Registration, u32)>,
}

impl Farewells {
    /// Each is repeated `times` times.
    pub fn new(times: u32) -> Self {
        Self {
            times,
            pending: HashMap::new(),
        }
    }

    pub fn note(&mut self, changes: &Changes) {
        for there in &changes.register {
            self.pending.remove(&there.key());
        }
        for gone in changes.unregister.iter().filter(|_| self.times > 0) {
            self.pending.insert(gone.key(), (gone.clone(), self.times));
        }
    }

    /// All that are not done, without counting.
    pub fn pending(&self) -> impl Iterator<Item = &Registration> {
        self.pending.values().map(|(registration, _)| registration)
    }

    /// What to send again now. Call once per repetition interval.
    pub fn due(&mut self) -> Vec<Registration> {
        let due = self
            .pending
            .values()
            .map(|(registration, _)| registration.clone())
            .collect();
        self.pending.retain(|_, (_, left)| {
            *left -= 1;
            *left > 0
        });
        due
    }
}
