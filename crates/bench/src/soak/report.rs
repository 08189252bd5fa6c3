//! The soak's report of one page, with the decision whether it passed.

use super::churn::Churned;
use super::clients::Kind;
use super::ownership::{Answer, Verdict};
use crate::table::{Table, verdict};
use route_timing::statistics::median;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

/// The counts of one kind of clients.
#[derive(Clone, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    answered: u64,
    no_route: u64,
    excused: u64,
    /// The wrong answers, one line for each.
    pub(super) wrong: Vec<String>,
}

impl Tally {
    pub(super) fn count(&mut self, answer: &Answer, verdict: &Verdict) {
        self.requests += 1;
        match (answer, verdict) {
            (_, Verdict::Excused) => self.excused += 1,
            (Answer::From(_), Verdict::Right) => self.answered += 1,
            (_, Verdict::Right) => self.no_route += 1,
            (_, Verdict::Wrong) => {}
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.no_route += other.no_route;
        self.excused += other.excused;
        self.wrong.extend_from_slice(&other.wrong);
    }
}

/// The router's memory at a time, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) at: Duration,
    pub(super) rss: f64,
    pub(super) anonymous: f64,
}

pub(super) struct Report<'a> {
    pub(super) elapsed: Duration,
    pub(super) tallies: &'a HashMap<Kind, Tally>,
    pub(super) samples: &'a [Sample],
    pub(super) churned: Churned,
    /// The envelopes that the agent read.
    pub(super) envelopes: u64,
}

impl Report<'_> {
    /// Returns whether every kind got answers, no answer was wrong, envelopes arrived, and memory was flat.
    pub(super) fn passed(&self) -> bool {
        let answered = Kind::ALL
            .iter()
            .all(|kind| self.tallies.get(kind).is_some_and(|t| t.answered > 0));
        answered && self.wrong().is_empty() && self.envelopes > 0 && self.growth() <= 1.1
    }

    fn wrong(&self) -> Vec<&String> {
        self.tallies
            .values()
            .flat_map(|tally| &tally.wrong)
            .collect()
    }

    /// Returns the median memory of the last third, as a multiple of the middle third's.
    fn growth(&self) -> f64 {
        self.third(2) / self.third(1)
    }

    fn third(&self, n: usize) -> f64 {
        let each = self.samples.len() / 3;
        let part = self.samples.iter().skip(n * each).take(each.max(1));
        median(&part.map(|sample| sample.rss).collect::<Vec<_>>())
    }

    pub(super) fn text(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let mut table = Table::new(&[
            "Clients",
            "Requests",
            "a second",
            "right answers",
            "right 404",
            "failures at a change",
            "wrong",
        ]);
        let mut total = Tally::default();
        for kind in Kind::ALL {
            let tally = self.tallies.get(kind).cloned().unwrap_or_default();
            table.row(&row(kind.name(), &tally, seconds));
            total.add(&tally);
        }
        table.row(&row("all", &total, seconds));
        let Churned {
            added,
            moved,
            removed,
            repeated,
            replaced,
        } = self.churned;
        let changes = added + moved + removed;
        let mut text = format!(
            "# Soak: {:.1} minutes, {}\n\n{table}\n\n{changes} route changes ({:.0} a second): {added} added, {moved} moved, {removed} removed; {repeated} registrations repeated; a TLS port passed to another instance {replaced} times.\n",
            seconds / 60.0,
            if self.passed() { "passed" } else { "FAILED" },
            changes as f64 / seconds
        );
        let _ = writeln!(
            text,
            "\nThe router sent envelopes to an agent, which read {} of them ({:.1} a request).",
            self.envelopes,
            self.envelopes as f64 / total.requests.max(1) as f64
        );
        let growth = (self.growth() - 1.0) * 100.0;
        let _ = writeln!(
            text,
            "\nMemory (RSS), last third against middle third: {}\n",
            verdict(
                self.growth() <= 1.1,
                &format!(
                    "{:.1} → {:.1} MB, {growth:+.1} %, ≤ +10 %",
                    self.third(1) / 1e6,
                    self.third(2) / 1e6
                )
            )
        );
        let step = (self.samples.len() / 20).max(1);
        let _ = writeln!(text, "| At | RSS MB | anonymous MB |\n|---|---|---|");
        for sample in self.samples.iter().step_by(step) {
            let _ = writeln!(
                text,
                "| {:.0} s | {:.1} | {:.1} |",
                sample.at.as_secs_f64(),
                sample.rss / 1e6,
                sample.anonymous / 1e6
            );
        }
        let wrong = self.wrong();
        if !wrong.is_empty() {
            let _ = writeln!(text, "\n{} wrong answers; the first:\n", wrong.len());
            for line in wrong.iter().take(20) {
                let _ = writeln!(text, "- {line}");
            }
        }
        text
    }
}

fn row(name: &str, tally: &Tally, seconds: f64) -> Vec<String> {
    let per_second = tally.requests as f64 / seconds;
    [
        name.to_owned(),
        tally.requests.to_string(),
        format!("{per_second:.0}"),
        tally.answered.to_string(),
        tally.no_route.to_string(),
        tally.excused.to_string(),
        tally.wrong.len().to_string(),
    ]
    .to_vec()
}
