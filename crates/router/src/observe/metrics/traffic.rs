//! The traffic by the component that the endpoints belong to (`component` of a registration's tags).

use super::histogram::Histogram;
use super::labelled::{Counter, Labelled};
use super::rates::Rates;
use super::spread::{Recent, Spread, Weights};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The groups of statuses; the last one is for all other numbers.
pub(crate) const GROUPS: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "xxx"];

/// The responses by the group of their status.
#[derive(Debug, Default)]
pub(crate) struct Responses([Counter; GROUPS.len()]);

impl Responses {
    pub(crate) fn add(&self, status: u16) {
        let group = usize::from(status / 100).wrapping_sub(2);
        self.0[group.min(GROUPS.len() - 1)].add(1);
    }

    pub(crate) fn values(&self) -> [(&'static str, u64); GROUPS.len()] {
        std::array::from_fn(|at| (GROUPS[at], self.0[at].value()))
    }
}

/// The traffic of one component's endpoints.
#[derive(Debug)]
pub(crate) struct Passed {
    /// The attempts at endpoints.
    pub(crate) requests: Counter,
    pub(crate) responses: Responses,
    /// The latencies in milliseconds.
    pub(crate) latency: Histogram,
    pub(crate) spread: Spread,
    recent: Mutex<(Rates, Recent)>,
}

impl Passed {
    fn new(bounds: &Arc<[f64]>) -> Self {
        Self {
            requests: Counter::default(),
            responses: Responses::default(),
            latency: Histogram::with(bounds.clone(), 1e3),
            spread: Spread::default(),
            recent: Mutex::default(),
        }
    }

    fn tick(&self) {
        let mut recent = self.recent();
        recent.0.tick(self.requests.value());
        recent.1.tick(&self.spread);
    }

    pub(crate) fn per_second(&self) -> [f64; 3] {
        self.recent().0.per_second()
    }

    pub(crate) fn add_to(&self, weights: &mut Weights) {
        self.recent().1.add_to(&self.spread, weights);
    }

    fn recent(&self) -> MutexGuard<'_, (Rates, Recent)> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Traffic {
    bounds: Arc<[f64]>,
    by_component: Labelled<String, Passed>,
    rates: Mutex<Rates>,
}

impl Traffic {
    /// Creates the counters. `bounds`: upper bounds of the latencies' buckets, in milliseconds.
    pub(super) fn new(bounds: &[f64]) -> Self {
        Self {
            bounds: bounds.into(),
            by_component: Labelled::default(),
            rates: Mutex::default(),
        }
    }

    /// Counts a request that is sent to an endpoint.
    pub(crate) fn requested(&self, component: &str) {
        self.of(component, |passed| passed.requests.add(1));
    }

    /// Counts a request that is over. `in_histogram`: whether the operator wants histograms of latencies.
    pub(super) fn finished(
        &self,
        component: &str,
        status: u16,
        took: Duration,
        in_histogram: bool,
    ) {
        self.of(component, |passed| {
            passed.responses.add(status);
            passed.spread.observe(took);
            if in_histogram {
                passed.latency.observe(took.as_secs_f64() * 1e3);
            }
        });
    }

    fn of(&self, component: &str, then: impl FnOnce(&Passed)) {
        let new = || Passed::new(&self.bounds);
        self.by_component.with(component, new, then);
    }

    pub(crate) fn all(&self) -> Vec<(String, Arc<Passed>)> {
        self.by_component.all()
    }

    pub(crate) fn requests(&self) -> u64 {
        let all = self.all();
        all.iter().map(|(_, passed)| passed.requests.value()).sum()
    }

    /// Returns the responses of all components together.
    pub(crate) fn responses(&self) -> [(&'static str, u64); GROUPS.len()] {
        let mut sums = GROUPS.map(|group| (group, 0));
        for (_, passed) in self.all() {
            for (sum, (_, n)) in sums.iter_mut().zip(passed.responses.values()) {
                sum.1 += n;
            }
        }
        sums
    }

    pub(crate) fn per_second(&self) -> [f64; 3] {
        self.rates().per_second()
    }

    pub(super) fn tick(&self) {
        for (_, passed) in self.all() {
            passed.tick();
        }
        self.rates().tick(self.requests());
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_groups() {
        let responses = Responses::default();
        for status in [200, 204, 301, 404, 499, 503, 101, 0, 600] {
            responses.add(status);
        }
        let counts = responses.values().map(|(_, n)| n);
        assert_eq!(counts, [2, 1, 2, 1, 3]);
    }
}
