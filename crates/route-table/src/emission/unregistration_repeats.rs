//! Repeats unregistrations, because the bus may lose a message and a route that stays registered leads nowhere.

use super::{Changes, Registration, RegistrationKey};
use std::collections::HashMap;

/// The unregistrations that are sent again until each was sent often enough or its route is registered again.
#[derive(Debug)]
pub struct UnregistrationRepeats {
    times: u32,
    pending: HashMap<RegistrationKey, (Registration, u32)>,
}

impl UnregistrationRepeats {
    /// Makes an empty list whose entries are each repeated `times` times.
    pub fn new(times: u32) -> Self {
        Self {
            times,
            pending: HashMap::new(),
        }
    }

    pub fn record(&mut self, changes: &Changes) {
        for there in &changes.register {
            self.pending.remove(&there.key());
        }
        for gone in changes.unregister.iter().filter(|_| self.times > 0) {
            self.pending.insert(gone.key(), (gone.clone(), self.times));
        }
    }

    /// Returns all unregistrations that are still to be repeated, without counting this as a repetition.
    pub fn pending(&self) -> impl Iterator<Item = &Registration> {
        self.pending.values().map(|(registration, _)| registration)
    }

    /// Returns the unregistrations to send again now, and counts the repetition. Call it once per repetition interval.
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
