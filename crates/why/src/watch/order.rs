//! Sorts the steps that come from several components, and computes their milliseconds.

use super::{Call, Step};
use crate::changes::time_of_day;
use serde::Serialize;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// The time without a step after which the milliseconds begin at 0 again.
const QUIET: Duration = Duration::seconds(10);
/// The number of calls and of request ids that are kept. Most calls of a foundation concern other routes.
const KEPT: usize = 1000;

/// The steps that are still to be shown.
#[derive(Debug, Default)]
pub struct Order {
    waiting: Vec<Step>,
    /// The calls that have caused no step yet.
    calls: VecDeque<Call>,
    /// The ids of requests that have caused steps but whose calls have not come yet, newest last.
    wanted: VecDeque<String>,
    /// The ids whose calls have become steps.
    called: BTreeSet<String>,
    first: Option<OffsetDateTime>,
    last: Option<OffsetDateTime>,
}

/// A step with its milliseconds, to be shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// RFC 3339 in UTC.
    pub time: String,
    /// The milliseconds since the first step of this change.
    pub since_first_ms: f64,
    /// The milliseconds since the step before. They are negative for a step that became known late.
    pub since_last_ms: f64,
    pub component: crate::Component,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcap_request_id: Option<String>,
}

impl Order {
    pub fn push(&mut self, step: Step) {
        // Work on behalf of several requests has all their ids, with commas between them.
        let ids = step.request.iter().flat_map(|ids| ids.split(','));
        for id in ids.map(str::trim).filter(|id| !id.is_empty()) {
            let known = self.calls.iter().position(|call| call.id == id);
            if let Some(call) = known.and_then(|at| self.calls.remove(at)) {
                self.show_call(&call);
            } else if !self.called.contains(id) && !self.wanted.iter().any(|known| known == id) {
                keep(&mut self.wanted, id.to_owned());
            }
        }
        self.waiting.push(step);
    }

    /// Adds a call, which becomes a step if it caused one or will cause one.
    pub fn push_call(&mut self, call: Call) {
        match self.wanted.iter().position(|id| *id == call.id) {
            Some(at) => {
                self.wanted.remove(at);
                self.show_call(&call);
            }
            None => keep(&mut self.calls, call),
        }
    }

    fn show_call(&mut self, call: &Call) {
        if self.called.len() >= KEPT {
            self.called.clear();
        }
        self.called.insert(call.id.clone());
        self.waiting.push(call.step());
    }

    /// Returns the steps up to a time, sorted. A component may show a step some moments after another one shows a later step, so
    /// the time should lie a moment back.
    pub fn take(&mut self, until: OffsetDateTime) -> Vec<Line> {
        let (mut due, later): (Vec<Step>, Vec<Step>) =
            self.waiting.drain(..).partition(|step| step.at <= until);
        self.waiting = later;
        due.sort_by_key(|step| step.at);
        due.into_iter().map(|step| self.line(step)).collect()
    }

    fn line(&mut self, step: Step) -> Line {
        let last = self.last.unwrap_or(step.at);
        if step.at - last > QUIET {
            self.first = None;
        }
        let first = *self.first.get_or_insert(step.at);
        let last = if first == step.at { step.at } else { last };
        self.last = Some(last.max(step.at));
        Line {
            time: step.at.format(&Rfc3339).unwrap_or_default(),
            since_first_ms: milliseconds(step.at - first),
            since_last_ms: milliseconds(step.at - last),
            component: step.component,
            text: step.text,
            vcap_request_id: step.request.filter(|id| !id.is_empty()),
        }
    }
}

fn keep<T>(list: &mut VecDeque<T>, entry: T) {
    if list.len() >= KEPT {
        list.pop_front();
    }
    list.push_back(entry);
}

/// Returns the milliseconds, rounded to microseconds.
fn milliseconds(time: Duration) -> f64 {
    (time.as_seconds_f64() * 1e6).round() / 1e3
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}  {:>9.1} ms  {:<16} {}",
            time_of_day(&self.time),
            self.since_first_ms,
            self.component,
            self.text
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Component;

    fn at(milliseconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(milliseconds)
    }

    fn step(milliseconds: i64, text: &str, request: &str) -> Step {
        Step {
            at: at(milliseconds),
            component: Component::Bbs,
            text: text.to_owned(),
            request: Some(request.to_owned()),
        }
    }

    fn call(milliseconds: i64, id: &str) -> Call {
        Call {
            at: at(milliseconds),
            text: format!("call {id}"),
            id: id.to_owned(),
        }
    }

    fn take(order: &mut Order, until: i64) -> Vec<(f64, f64, String)> {
        let lines = order.take(at(until)).into_iter();
        let short = lines.map(|line| (line.since_first_ms, line.since_last_ms, line.text));
        short.collect()
    }

    fn row(first: f64, last: f64, text: &str) -> (f64, f64, String) {
        (first, last, text.to_owned())
    }

    #[test]
    fn steps_are_sorted_and_begin_with_the_call_that_caused_them() {
        let mut order = Order::default();
        order.push_call(call(0, "other"));
        order.push(step(9, "third", ""));
        order.push(step(4, "second", "a"));
        order.push(step(6, "later of the same", "a"));
        // The call ends after its first effects, and the log has it even later.
        order.push_call(call(1, "a"));
        assert_eq!(
            take(&mut order, 8),
            [
                row(0.0, 0.0, "call a"),
                row(3.0, 3.0, "second"),
                row(5.0, 2.0, "later of the same"),
            ]
        );
        assert!(take(&mut order, 8).is_empty());
        assert_eq!(take(&mut order, 20), [row(8.0, 3.0, "third")]);
        // A call that the log had before its effects.
        order.push(step(30, "of two", "other, b"));
        order.push_call(call(29, "b"));
        let texts: Vec<String> = take(&mut order, 40).into_iter().map(|row| row.2).collect();
        assert_eq!(texts, ["call other", "call b", "of two"]);
    }

    #[test]
    fn the_milliseconds_begin_again_after_a_quiet_time() {
        let mut order = Order::default();
        order.push(step(0, "map", ""));
        order.push(step(5, "live", ""));
        order.push(step(20_000, "unmap", ""));
        order.push(step(20_002, "gone", ""));
        assert_eq!(
            take(&mut order, 30_000),
            [
                row(0.0, 0.0, "map"),
                row(5.0, 5.0, "live"),
                row(0.0, 0.0, "unmap"),
                row(2.0, 2.0, "gone"),
            ]
        );
    }

    #[test]
    fn a_line_has_time_milliseconds_component_and_text() {
        let mut order = Order::default();
        order.push(step(1, "a", ""));
        order.push(step(5, "b", "id"));
        let lines = order.take(at(5));
        assert_eq!(
            lines[1].to_string(),
            "00:00:00.005        4.0 ms  bbs              b"
        );
        let json = serde_json::to_value(&lines[1]).unwrap();
        assert_eq!(json["component"], "bbs");
        assert_eq!(json["since_first_ms"], 4.0);
        assert_eq!(json["vcap_request_id"], "id");
    }
}
