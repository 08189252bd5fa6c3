//! May a domain be marked fresh although some of its work could not be given to the BBS?
//!
//! In a fresh domain the BBS retires every instance that no desired LRP wants. Work that should run, that the BBS does
//! not have, and that may be running on a cell must therefore hold freshness back: it would be killed. Everything else
//! must not hold it back, or one bad row would leave all tenants unrepaired.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// By then every cell has reported what it runs (cells do it every 30 seconds).
const SETTLED: Duration = Duration::from_secs(120);

/// Work that should run and that the BBS neither has nor could be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// An LRP's guid, or a process's when the row cannot be read.
    pub guid: String,
    /// Whether this version was made since this Cloud Controller runs.
    pub young: bool,
}

/// Remembers between passes what the BBS had and since when something is missing.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    had: BTreeSet<String>,
    since: BTreeMap<String, Instant>,
}

impl Freshness {
    /// Remembers which of the wanted LRPs the BBS has had at least once.
    pub(super) fn saw<'a>(
        &mut self,
        has: impl Iterator<Item = &'a String>,
        wanted: &BTreeSet<String>,
    ) {
        self.had.extend(has.cloned());
        self.had.retain(|lrp| wanted.contains(lrp));
    }

    /// The missing work that may be running. Empty: the domain may be marked fresh.
    pub(super) fn held(
        &mut self,
        missing: &[Missing],
        runs: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Vec<String> {
        self.since
            .retain(|guid, _| missing.iter().any(|missing| &missing.guid == guid));
        let mut held = Vec::new();
        for missing in missing {
            let since = *self.since.entry(missing.guid.clone()).or_insert(now);
            let never_ran = missing.young && !self.had.contains(&missing.guid);
            let settled = now.duration_since(since) >= SETTLED;
            if runs(&missing.guid) || !(never_ran || settled) {
                held.push(missing.guid.clone());
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(young: bool) -> [Missing; 1] {
        [Missing {
            guid: "p-v".into(),
            young,
        }]
    }

    #[test]
    fn what_never_ran_holds_nothing_back() {
        let mut freshness = Freshness::default();
        let now = Instant::now();
        assert!(freshness.held(&[], |_| true, now).is_empty());
        assert!(freshness.held(&missing(true), |_| false, now).is_empty());
    }

    #[test]
    fn what_may_run_holds_until_the_cells_have_reported() {
        let mut freshness = Freshness::default();
        let now = Instant::now();
        assert_eq!(freshness.held(&missing(false), |_| false, now), ["p-v"]);
        let later = now + SETTLED;
        assert_eq!(freshness.held(&missing(false), |_| true, later), ["p-v"]);
        assert!(freshness.held(&missing(false), |_| false, later).is_empty());
        // Brought and lost again, it begins anew.
        freshness.held(&[], |_| false, later);
        assert_eq!(freshness.held(&missing(false), |_| false, later), ["p-v"]);
    }

    #[test]
    fn what_the_bbs_had_and_lost_is_not_young() {
        let mut freshness = Freshness::default();
        let now = Instant::now();
        let wanted = BTreeSet::from(["p-v".to_owned()]);
        freshness.saw(wanted.iter(), &wanted);
        assert!(freshness.held(&[], |_| true, now).is_empty());
        freshness.saw([].iter(), &wanted);
        assert_eq!(freshness.held(&missing(true), |_| false, now), ["p-v"]);
    }
}
