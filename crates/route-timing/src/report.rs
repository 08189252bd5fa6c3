//! The result of a measurement, as a table for people, as JSON, and as the input of the plot (pure).

use crate::judge::Mistakes;
use crate::plan::{Means, Plan};
use crate::plot::{self, Curve};
use crate::statistics::Summary;
use serde::Serialize;
use std::fmt;

/// A change of a route whose times are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Mapped,
    Unmapped,
}

/// The times of one change in milliseconds, counted from its sending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Times {
    /// The time until the API answered, or until the bus delivered a message that was sent after the change.
    pub(crate) accepted: f64,
    /// The time until the effect was seen; `None` if it was not seen in time.
    pub(crate) seen: Option<f64>,
}

/// The times of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub what: String,
    /// The change; `None`: the time of a request that changes nothing.
    #[serde(skip)]
    pub change: Option<Change>,
    pub summary: Option<Summary>,
    /// All times in milliseconds, in the order of the measurement.
    pub times_ms: Vec<f64>,
}

/// The changes that were made beside the measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Churned {
    pub wanted_per_second: usize,
    pub made_per_second: f64,
    pub failed: u64,
    pub first_failure: Option<String>,
}

/// The reason why a measurement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    Complete,
    /// The time limit was over.
    TimeLimit,
    /// Somebody stopped it.
    Interrupted,
}

/// The result of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The means by which the routes were made: `api` or `bus`.
    pub means: &'static str,
    /// The API, or the servers of the bus.
    pub target: String,
    pub routers: Vec<String>,
    /// The beginning of the names of all routes of the run.
    pub routes: String,
    pub probes: usize,
    pub present_routes: usize,
    pub churn: Option<Churned>,
    /// The sent → answered, sent → seen and answered → seen of both changes, and the time of a request.
    pub rows: Vec<Row>,
    /// The number of routes that were not served in time, and of those that were not gone in time.
    pub never_served: usize,
    pub never_gone: usize,
    pub requests: u64,
    pub mistakes: Mistakes,
    pub ended: Ended,
}

/// The foundation that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) means: Means,
    pub(crate) target: String,
    pub(crate) routers: Vec<String>,
}

/// The times and the answers of a measurement, before they are summed up.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) mapped: Vec<Times>,
    pub(crate) unmapped: Vec<Times>,
    /// The times of requests while nothing changed, in milliseconds.
    pub(crate) floor: Vec<f64>,
    pub(crate) requests: u64,
    pub(crate) mistakes: Mistakes,
}

/// The names of the rows of a change: until it was accepted, until it was seen, and the time between both.
fn names(means: Means, change: Change) -> [&'static str; 3] {
    match (means, change) {
        (Means::Api, Change::Mapped) => [
            "map: sent → answered",
            "map: sent → serving",
            "map: answered → serving",
        ],
        (Means::Api, Change::Unmapped) => [
            "unmap: sent → answered",
            "unmap: sent → gone",
            "unmap: answered → gone",
        ],
        (Means::Bus, Change::Mapped) => [
            "register: sent → on the bus",
            "register: sent → serving",
            "register: on the bus → serving",
        ],
        (Means::Bus, Change::Unmapped) => [
            "unregister: sent → on the bus",
            "unregister: sent → gone",
            "unregister: on the bus → gone",
        ],
    }
}

fn rows(means: Means, change: Change, times: &[Times]) -> Vec<Row> {
    let seen = || times.iter().filter_map(|t| Some((t.accepted, t.seen?)));
    let kinds: [Vec<f64>; 3] = [
        times.iter().map(|t| t.accepted).collect(),
        seen().map(|(_, seen)| seen).collect(),
        // A route may be served before the answer to the call has come.
        seen()
            .map(|(accepted, seen)| (seen - accepted).max(0.0))
            .collect(),
    ];
    let named = names(means, change).into_iter().zip(kinds);
    named
        .map(|(what, times_ms)| Row {
            what: what.to_owned(),
            change: Some(change),
            summary: Summary::of(&times_ms),
            times_ms,
        })
        .collect()
}

impl Report {
    pub(crate) fn new(place: Place, plan: &Plan, measured: Measured, ended: Ended) -> Self {
        let means = place.means;
        let missing = |times: &[Times]| times.iter().filter(|t| t.seen.is_none()).count();
        let mut all = rows(means, Change::Mapped, &measured.mapped);
        all.extend(rows(means, Change::Unmapped, &measured.unmapped));
        all.push(Row {
            what: "floor: one request".to_owned(),
            change: None,
            summary: Summary::of(&measured.floor),
            times_ms: measured.floor,
        });
        Self {
            means: means.name(),
            target: place.target,
            routers: place.routers,
            routes: plan.prefix().to_owned(),
            probes: plan.size().probes,
            present_routes: plan.present_count(),
            churn: None,
            rows: all,
            never_served: missing(&measured.mapped),
            never_gone: missing(&measured.unmapped),
            requests: measured.requests,
            mistakes: measured.mistakes,
            ended,
        }
    }

    /// Returns the times of one kind: 0 until the change was accepted, 1 until it was seen, 2 between both.
    pub fn times(&self, change: Change, kind: usize) -> &[f64] {
        let mut rows = self.rows.iter().filter(|row| row.change == Some(change));
        let row = rows.nth(kind);
        row.map_or_else(Default::default, |row| row.times_ms.as_slice())
    }

    /// Returns what keeps the measurement from being right; `None` if nothing does.
    pub fn fault(&self) -> Option<String> {
        let mut faults = Vec::new();
        if self.mistakes.total() > 0 {
            let first = self.mistakes.first.as_deref().unwrap_or_default();
            faults.push(format!(
                "{} wrong answers, the first of them: {first}",
                self.mistakes.total()
            ));
        }
        for (count, what) in [(self.never_served, "served"), (self.never_gone, "gone")] {
            if count > 0 {
                faults.push(format!("{count} routes were not {what} in time"));
            }
        }
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// Returns the distributions as an SVG image.
    pub fn svg(&self) -> String {
        let title = format!("Propagation of routes at {}", self.target);
        let curves: Vec<Curve<'_>> = self
            .rows
            .iter()
            .map(|row| Curve {
                name: &row.what,
                times_ms: &row.times_ms,
            })
            .collect();
        plot::svg(&title, &self.circumstances(), &curves)
    }

    /// Describes what there was besides the measured routes.
    fn circumstances(&self) -> String {
        let churn = match &self.churn {
            None => "no churn".to_owned(),
            Some(churn) => format!(
                "{:.0} of {} other changes per second",
                churn.made_per_second, churn.wanted_per_second
            ),
        };
        format!(
            "by the {}, {} measured routes, {} other routes, {churn}, {} wrong answers",
            self.means,
            self.times(Change::Mapped, 0).len(),
            self.present_routes,
            self.mistakes.total()
        )
    }
}

/// Writes a line of the table. A width counts characters, and an arrow is one.
fn line(f: &mut fmt::Formatter<'_>, what: &str, cells: &[&str]) -> fmt::Result {
    write!(f, "{what:<30}")?;
    for (at, cell) in cells.iter().enumerate() {
        match at {
            0 => write!(f, " {cell:>6}")?,
            _ => write!(f, " {cell:>9}")?,
        }
    }
    writeln!(f)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Propagation of routes at {}, seen at {}",
            self.target,
            self.routers.join(", ")
        )?;
        writeln!(f, "{}\n", self.circumstances())?;
        line(f, "", &["n", "mean ms", "p50", "p90", "p99", "max"])?;
        for row in &self.rows {
            let summary = row.summary.map(|s| [s.mean, s.p50, s.p90, s.p99, s.max]);
            let count = row.times_ms.len().to_string();
            let times = summary.map(|times| times.map(|time| format!("{time:.2}")));
            let times = times.unwrap_or_else(|| ["–"; 5].map(str::to_owned));
            let mut cells = vec![count.as_str()];
            cells.extend(times.iter().map(String::as_str));
            line(f, &row.what, &cells)?;
        }
        let m = &self.mistakes;
        writeln!(
            f,
            "\n{} requests, {} wrong answers: {} of another app, {} without a route after serving, {} served after gone, {} errors",
            self.requests,
            m.total(),
            m.other_app,
            m.lost,
            m.back,
            m.errors
        )?;
        if let Some(churn) = &self.churn {
            write!(
                f,
                "churn: {:.1} changes per second of {}, {} failed",
                churn.made_per_second, churn.wanted_per_second, churn.failed
            )?;
            match &churn.first_failure {
                Some(failure) => writeln!(f, ": {failure}")?,
                None => writeln!(f)?,
            }
        }
        match self.ended {
            Ended::Complete => Ok(()),
            Ended::TimeLimit => writeln!(
                f,
                "The time limit ended it before all {} routes were measured: raise --limit, or measure fewer.",
                self.probes
            ),
            Ended::Interrupted => writeln!(
                f,
                "It was interrupted before all {} routes were measured.",
                self.probes
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Size;

    fn report(mapped: &[Times], mistakes: Mistakes) -> Report {
        let size = Size {
            probes: 3,
            apps: 1,
            routes_per_app: 0,
            churn: 0,
        };
        let plan = Plan::new(size, Means::Api, "a1", "apps.test").unwrap();
        let measured = Measured {
            mapped: mapped.to_vec(),
            requests: 7,
            mistakes,
            ..Measured::default()
        };
        let place = Place {
            means: Means::Api,
            target: "https://api.test".to_owned(),
            routers: vec!["127.0.0.1:80".to_owned()],
        };
        Report::new(place, &plan, measured, Ended::Complete)
    }

    const TIMES: [Times; 3] = [
        Times {
            accepted: 3.0,
            seen: Some(4.0),
        },
        Times {
            accepted: 2.0,
            seen: Some(1.5),
        },
        Times {
            accepted: 2.5,
            seen: None,
        },
    ];

    #[test]
    fn times_are_counted_from_the_sending_and_from_the_answer() {
        let report = report(&TIMES, Mistakes::default());
        assert_eq!(report.times(Change::Mapped, 0), [3.0, 2.0, 2.5]);
        assert_eq!(report.times(Change::Mapped, 1), [4.0, 1.5]);
        assert_eq!(report.times(Change::Mapped, 2), [1.0, 0.0]);
        assert!(report.times(Change::Unmapped, 1).is_empty());
        assert_eq!((report.never_served, report.never_gone), (1, 0));
        let fault = report.fault().unwrap();
        assert_eq!(fault, "1 routes were not served in time");
    }

    #[test]
    fn the_table_has_all_rows_and_the_mistakes() {
        let mistakes = Mistakes {
            lost: 2,
            first: Some("a.test: no route after it was served: 404".into()),
            ..Mistakes::default()
        };
        let report = report(&TIMES[..2], mistakes);
        let text = report.to_string();
        for part in [
            "at https://api.test, seen at 127.0.0.1:80",
            "by the api, 2 measured routes, 0 other routes, no churn, 2 wrong answers",
            "map: sent → serving                 2      2.75      4.00      4.00      4.00      4.00\n",
            "unmap: sent → gone                  0         –",
            "7 requests, 2 wrong answers: 0 of another app, 2 without a route after serving",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(report.fault().unwrap().contains("2 wrong answers"));
        assert!(report.svg().starts_with("<svg"));
    }

    #[test]
    fn a_whole_measurement_without_mistakes_has_no_fault() {
        assert_eq!(report(&TIMES[..2], Mistakes::default()).fault(), None);
    }
}
