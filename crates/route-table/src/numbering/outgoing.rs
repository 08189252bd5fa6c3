//! The emitter's side: numbers changes, and answers what changed after a number.

use super::{Digest, Sum};
use crate::emission::{Audience, Changes, Registration, RegistrationKey};
use std::collections::{BTreeMap, HashMap};

/// The number of removals that are remembered. A router that missed more of them keeps endpoints until their removal is repeated or
/// they are stale.
const REMOVALS: usize = 4096;

/// The numbers of an emitter's registrations for routers, and of its last removals.
#[derive(Debug, Default)]
pub struct Outgoing {
    latest: u64,
    /// The newest state of each registration by the number of its last change.
    log: BTreeMap<u64, Numbered>,
    numbers: HashMap<RegistrationKey, u64>,
    removals: usize,
    present: Sum,
}

/// The newest state of a registration.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbered {
    Present(Registration),
    Removed(Registration),
}

impl Numbered {
    pub fn registration(&self) -> &Registration {
        match self {
            Self::Present(registration) | Self::Removed(registration) => registration,
        }
    }
}

/// Everything that changed after a number, or its beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The number up to which the difference is complete.
    pub upto: u64,
    /// The changes with their numbers, oldest first.
    pub changes: Vec<(u64, Numbered)>,
}

impl Outgoing {
    /// Gives each change for routers its number, in the order in which the messages are published.
    pub fn record(&mut self, changes: &Changes) {
        for registration in &changes.register {
            self.set(registration, Numbered::Present);
        }
        for registration in &changes.unregister {
            self.set(registration, Numbered::Removed);
        }
        self.forget_removals();
    }

    /// Returns the number of the last change of a registration; `None` if it is not for routers or was forgotten.
    pub fn number(&self, key: &RegistrationKey) -> Option<u64> {
        self.numbers.get(key).copied()
    }

    pub fn digest(&self) -> Digest {
        Digest {
            sequence: self.latest,
            registrations: self.present.count,
            sum: self.present.value,
        }
    }

    /// Returns what changed after a number, at most `most` changes.
    pub fn after(&self, number: u64, most: usize) -> Difference {
        let later = self.log.range(number.saturating_add(1)..);
        let mut changes: Vec<_> = later
            .take(most + 1)
            .map(|(number, numbered)| (*number, numbered.clone()))
            .collect();
        let is_cut = changes.len() > most;
        changes.truncate(most);
        let last = changes.last().map(|(number, _)| *number);
        Difference {
            upto: last.filter(|_| is_cut).unwrap_or(self.latest),
            changes,
        }
    }

    fn set(&mut self, registration: &Registration, state: fn(Registration) -> Numbered) {
        if registration.route.audience != Audience::Routers {
            return;
        }
        let key = registration.key();
        if let Some(number) = self.numbers.remove(&key) {
            self.drop_entry(number);
        }
        self.latest += 1;
        let numbered = state(registration.clone());
        match &numbered {
            Numbered::Present(_) => self.present.add(self.latest),
            Numbered::Removed(_) => self.removals += 1,
        }
        self.log.insert(self.latest, numbered);
        self.numbers.insert(key, self.latest);
    }

    fn drop_entry(&mut self, number: u64) {
        match self.log.remove(&number) {
            Some(Numbered::Present(_)) => self.present.remove(number),
            Some(Numbered::Removed(_)) => self.removals -= 1,
            None => {}
        }
    }

    /// Forgets the older half of the removals when there are too many.
    fn forget_removals(&mut self) {
        if self.removals <= REMOVALS {
            return;
        }
        let removed = |(number, numbered): (&u64, &Numbered)| match numbered {
            Numbered::Removed(registration) => Some((*number, registration.key())),
            Numbered::Present(_) => None,
        };
        let oldest: Vec<_> = self
            .log
            .iter()
            .filter_map(removed)
            .take(REMOVALS / 2)
            .collect();
        for (number, key) in oldest {
            self.drop_entry(number);
            self.numbers.remove(&key);
        }
    }
}
