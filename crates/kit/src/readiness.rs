//! Whether a component can do its work, and what is missing if it cannot.
//!
//! A component names its needs when it is built, and reports where it learns it whether each is met: its database is writable,
//! it holds its lock, its peers answer. The process asks ([`Readiness::unmet`]). Nothing here decides what a component does
//! while a need is not met.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The reason of a need that was not reported yet.
const NOT_YET: &str = "not yet";

/// The needs of one component. It is cheap to clone.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<Vec<Check>>>);

struct Check {
    what: &'static str,
    unmet: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

impl Readiness {
    /// Adds a need, which is unmet until it is reported as met.
    pub fn need(&self, what: &'static str) -> Need {
        let need = Need(Arc::new(Mutex::new(Some(NOT_YET.to_owned()))));
        let state = need.clone();
        self.check(what, move || state.reason().clone());
        need
    }

    /// Adds a need that is looked at when somebody asks. `unmet` returns the reason if it is not met.
    pub fn check(
        &self,
        what: &'static str,
        unmet: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) {
        let unmet = Box::new(unmet);
        self.checks().push(Check { what, unmet });
    }

    /// Returns a text for each need that is not met. The component is ready if there is none.
    pub fn unmet(&self) -> Vec<String> {
        let checks = self.checks();
        let unmet = checks
            .iter()
            .filter_map(|check| Some(format!("{}: {}", check.what, (check.unmet)()?)));
        unmet.collect()
    }

    fn checks(&self) -> MutexGuard<'_, Vec<Check>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.unmet()).finish()
    }
}

/// One need of a component. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct Need(Arc<Mutex<Option<String>>>);

impl Need {
    pub fn met(&self) {
        *self.reason() = None;
    }

    pub fn unmet(&self, why: impl Into<String>) {
        *self.reason() = Some(why.into());
    }

    pub fn is_met(&self) -> bool {
        self.reason().is_none()
    }

    /// Reports the result of an attempt.
    pub fn attempted<T>(&self, result: &Result<T, impl fmt::Display>) {
        match result {
            Ok(_) => self.met(),
            Err(error) => self.unmet(format!("{error:#}")),
        }
    }

    fn reason(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_ready_when_all_its_needs_are_met() {
        let readiness = Readiness::default();
        assert!(readiness.unmet().is_empty());
        let (lock, peer) = (readiness.need("the lock"), readiness.need("the peer"));
        readiness.check("the disk", || None);
        assert_eq!(
            readiness.unmet(),
            ["the lock: not yet", "the peer: not yet"]
        );
        assert!(!lock.is_met());
        lock.met();
        assert!(lock.is_met());
        peer.attempted(&Err::<(), _>("connection refused"));
        assert_eq!(readiness.unmet(), ["the peer: connection refused"]);
        peer.attempted(&Ok::<_, &str>(()));
        assert!(readiness.unmet().is_empty());
        lock.unmet("another owner holds it");
        assert_eq!(readiness.unmet(), ["the lock: another owner holds it"]);
    }
}
