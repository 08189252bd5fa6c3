//! Decides whether a domain may be marked fresh although the BBS does not have some of its work.
//!
//! In a fresh domain the BBS retires every instance that no desired LRP wants. The domain must therefore not be marked fresh
//! while work is missing at the BBS that should run and may be running on a cell, because its instances would be killed. Other
//! missing work must not prevent the mark; otherwise one bad row would leave the instances of all tenants unrepaired.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The time after which every cell has reported what it runs. Cells report every 30 seconds.
const SETTLED: Duration = Duration::from_secs(120);

/// Work that should run, that the BBS does not have, and that could not be desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// The guid of an LRP, or of a process if the row cannot be read.
    pub guid: String,
    /// Whether this version was created after this Cloud Controller started.
    pub young: bool,
}

/// The state between passes: what the BBS had, and since when something has been missing.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    had: BTreeSet<String>,
    since: BTreeMap<String, Instant>,
}

impl Freshness {
    /// Records which of the wanted LRPs the BBS has had at least once.
    pub(super) fn record_desired<'a>(
        &mut self,
        has: impl Iterator<Item = &'a String>,
        wanted: &BTreeSet<String>,
    ) {
        self.had.extend(has.cloned());
        self.had.retain(|lrp| wanted.contains(lrp));
    }

    /// Returns the missing work that may be running. If there is none, the domain may be marked fresh.
    pub(super) fn possibly_running(
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
        assert!(freshness.possibly_running(&[], |_| true, now).is_empty());
        assert!(
            freshness
                .possibly_running(&missing(true), |_| false, now)
                .is_empty()
        );
    }

    #[test]
    fn what_may_run_holds_until_the_cells_have_reported() {
        let mut freshness = Freshness::default();
        let now = Instant::now();
        assert_eq!(
            freshness.possibly_running(&missing(false), |_| false, now),
            ["p-v"]
        );
        let later = now + SETTLED;
        assert_eq!(
            freshness.possibly_running(&missing(false), |_| true, later),
            ["p-v"]
        );
        assert!(
            freshness
                .possibly_running(&missing(false), |_| false, later)
                .is_empty()
        );
        // The work was desired and lost again, so its time starts anew.
        freshness.possibly_running(&[], |_| false, later);
        assert_eq!(
            freshness.possibly_running(&missing(false), |_| false, later),
            ["p-v"]
        );
    }

    #[test]
    fn what_the_bbs_had_and_lost_is_not_young() {
        let mut freshness = Freshness::default();
        let now = Instant::now();
        let wanted = BTreeSet::from(["p-v".to_owned()]);
        freshness.record_desired(wanted.iter(), &wanted);
        assert!(freshness.possibly_running(&[], |_| true, now).is_empty());
        freshness.record_desired([].iter(), &wanted);
        assert_eq!(
            freshness.possibly_running(&missing(true), |_| false, now),
            ["p-v"]
        );
    }
}
