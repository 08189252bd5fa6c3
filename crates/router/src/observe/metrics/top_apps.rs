//! The apps with the most requests in the last minute. They are counted for `/varz` only, because every request takes a lock.

use std::collections::{HashMap, VecDeque};

/// The seconds that count.
const KEPT: u64 = 60;

#[derive(Debug, Default)]
pub(crate) struct TopApps(HashMap<String, App>);

#[derive(Debug, Default)]
struct App {
    /// The seconds and the requests in each, the oldest first.
    slots: VecDeque<(u64, u64)>,
    total: u64,
}

impl TopApps {
    /// Counts a request. `second`: Unix time.
    pub(crate) fn mark(&mut self, app: &str, second: u64) {
        if let Some(known) = self.0.get_mut(app) {
            return known.mark(second);
        }
        self.0.entry(app.to_owned()).or_default().mark(second);
    }

    /// Removes what is older than a minute.
    pub(crate) fn trim(&mut self, now: u64) {
        let oldest = now.saturating_sub(KEPT);
        self.0.retain(|_, app| {
            while let Some((_, requests)) = app.slots.front().filter(|(at, _)| *at <= oldest) {
                app.total -= requests;
                app.slots.pop_front();
            }
            app.total > 0
        });
    }

    /// Returns the first `count` apps, and their requests in the last minute.
    pub(crate) fn first(&mut self, count: usize, now: u64) -> Vec<(String, u64)> {
        self.trim(now);
        let all = self.0.iter().map(|(app, of)| (app.clone(), of.total));
        let mut all: Vec<_> = all.collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(count);
        all
    }
}

impl App {
    fn mark(&mut self, second: u64) {
        self.total += 1;
        match self.slots.back_mut() {
            // Requests end in another order than they begin: a slot may get one of the second before.
            Some((last, requests)) if *last >= second => *requests += 1,
            _ => self.slots.push_back((second, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_counts() {
        let mut apps = TopApps::default();
        for second in 100..200 {
            apps.mark("a", second);
            apps.mark("b", second);
            apps.mark("b", second - 1);
        }
        for n in 0..20 {
            apps.mark(&format!("once-{n:02}"), 199);
        }
        let first = apps.first(10, 199);
        assert_eq!(first.len(), 10);
        assert_eq!(first[..2], [("b".into(), 120), ("a".into(), 60)]);
        assert_eq!(first[2], ("once-00".into(), 1));
        assert!(apps.first(10, 260).is_empty());
        assert!(apps.0.is_empty());
    }
}
