//! Trains: the steps of one change, in the order of their times. A train is open while steps arrive; after a quiet time the next step
//! begins another one.

use super::step::{Kind, Micros, Step, milliseconds};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The number of trains that are kept.
const KEPT: usize = 500;
/// The number of steps of a train that are kept. A push of an app with many instances has more.
const STEPS: usize = 80;
/// The number of routes of a train that are named.
const URIS: usize = 20;
/// The time without a step after which a train is closed.
const QUIET: Micros = 10_000_000;

/// A change on its way.
#[derive(Clone, Debug)]
pub(crate) struct Train {
    pub(crate) id: u64,
    /// The number of the change of this train in the list of all; a reader that knows a lower one has an older state.
    pub(crate) revision: u64,
    pub(crate) kind: Kind,
    pub(crate) app: String,
    process: String,
    pub(crate) app_name: String,
    pub(crate) uris: BTreeSet<String>,
    pub(crate) steps: Vec<Step>,
    /// The number of steps that came after [`STEPS`].
    pub(crate) more: u64,
    pub(crate) requests: BTreeSet<String>,
    /// The routers that confirmed each route, each with the time; an empty table is a confirmation as well.
    confirmed: BTreeMap<String, BTreeMap<String, Confirmed>>,
    pub(crate) result: Option<Outcome>,
    last: Micros,
}

#[derive(Clone, Copy, Debug)]
struct Confirmed {
    at: Micros,
    endpoints: u32,
}

/// The end of a train.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) state: &'static str,
    pub(crate) text: String,
    pub(crate) after_ms: f64,
}

/// A router's confirmation of a route.
#[derive(Clone, Debug)]
pub(crate) struct Receipt<'a> {
    pub(crate) router: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) endpoints: u32,
    pub(crate) at: Micros,
}

/// All trains that are kept, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Trains {
    kept: VecDeque<Train>,
    last_id: u64,
    revision: u64,
}

impl Train {
    pub(crate) fn began(&self) -> Micros {
        self.steps.first().map_or(self.last, |step| step.at)
    }

    /// Returns whether a step that comes now belongs to this train.
    fn takes(&self, step: &Step) -> bool {
        let is_open = step.at < self.last.saturating_add(QUIET);
        let about = &step.about;
        let same_uri = !about.uri.is_empty() && self.uris.contains(&about.uri);
        let same_app = !about.app.is_empty() && about.app == self.app;
        // The stop of an app and its next start are two changes.
        let begins = match about.kind {
            Kind::Start => !self.steps.is_empty() && self.kind != Kind::Start,
            // The bus may be faster than the BBS.
            Kind::Stop => !matches!(self.kind, Kind::Stop | Kind::Table),
            Kind::Map | Kind::Unmap => {
                about.kind != self.kind && !matches!(self.kind, Kind::Start | Kind::Table)
            }
            _ => false,
        };
        let known = !about.process.is_empty() && !self.process.is_empty();
        let same_process = known && about.process == self.process;
        let is_of_another = known && !same_process;
        if !is_open || begins {
            return false;
        }
        match self.kind {
            // A change of one route has the steps of this route alone.
            Kind::Map | Kind::Unmap => same_uri,
            Kind::Table => same_uri || same_process,
            _ => !is_of_another && (same_uri || same_app),
        }
    }

    fn add(&mut self, step: Step) {
        self.last = self.last.max(step.at);
        let has_uri = !step.about.uri.is_empty() && self.uris.len() < URIS;
        if has_uri && self.uris.insert(step.about.uri.clone()) {
            // The routers must confirm this route as well.
            self.result = None;
        }
        let ids = step.request.split(',').map(str::trim);
        self.requests
            .extend(ids.filter(|id| !id.is_empty()).map(str::to_owned));
        while self.requests.len() > URIS {
            self.requests.pop_first();
        }
        if self.steps.len() >= STEPS {
            self.more += 1;
            return;
        }
        let at = self.steps.partition_point(|other| other.at <= step.at);
        self.steps.insert(at, step);
    }

    /// Decides whether the change has arrived everywhere. `routers` are the ids of the routers that confirm changes.
    fn judge(&mut self, routers: &BTreeSet<String>) {
        if self.uris.is_empty() || routers.is_empty() {
            return;
        }
        let last = self.uris.iter().map(|uri| self.confirmed_at(uri, routers));
        let Some(last) = last.collect::<Option<Vec<Micros>>>() else {
            return;
        };
        let mut all = self.uris.iter().flat_map(|uri| &self.confirmed[uri]);
        let is_gone = all.all(|(_, confirmed)| confirmed.endpoints == 0);
        let after_ms = milliseconds(self.began(), last.into_iter().max().unwrap_or(self.last));
        let (state, word) = match (is_gone, self.kind) {
            (true, _) => ("gone", "gone from"),
            // Another app still has the route.
            (false, Kind::Unmap | Kind::Stop) => ("live", "confirmed by"),
            (false, _) => ("live", "live on"),
        };
        let (count, ms) = (routers.len(), shown(after_ms));
        self.result = Some(Outcome {
            state,
            text: format!("{word} {count}/{count} routers after {ms}"),
            after_ms,
        });
    }

    /// Returns when the last of the routers confirmed a route; `None` if one has not.
    fn confirmed_at(&self, uri: &str, routers: &BTreeSet<String>) -> Option<Micros> {
        let by = self.confirmed.get(uri)?;
        let times = routers.iter().map(|router| Some(by.get(router)?.at));
        times.collect::<Option<Vec<Micros>>>()?.into_iter().max()
    }

    /// Returns the train as the page reads it.
    pub(crate) fn json(&self) -> Value {
        let began = self.began();
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| {
                let values: Vec<Value> = step
                    .values
                    .iter()
                    .map(|(name, value)| json!({ "name": name, "value": value }))
                    .collect();
                json!({
                    "at": step.at as f64 / 1000.0,
                    "after_ms": milliseconds(began, step.at),
                    "station": step.station,
                    "text": step.text,
                    "values": values,
                    "fault": step.is_fault,
                })
            })
            .collect();
        json!({
            "id": self.id,
            "revision": self.revision,
            "kind": self.kind,
            "app": self.app,
            "app_name": self.app_name,
            "uris": self.uris,
            "began": began as f64 / 1000.0,
            "last": self.last as f64 / 1000.0,
            "steps": steps,
            "more": self.more,
            "requests": self.requests,
            "result": self.result,
        })
    }
}

impl Trains {
    /// Adds a step to the newest train that takes it, or begins another one.
    pub(crate) fn push(&mut self, step: Step, app_name: &str) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        let found = self.kept.iter().rposition(|train| train.takes(&step));
        let at = match found {
            Some(at) => at,
            None => self.begin(&step),
        };
        let train = &mut self.kept[at];
        train.revision = revision;
        if !app_name.is_empty() {
            app_name.clone_into(&mut train.app_name);
        }
        if train.app.is_empty() {
            train.app.clone_from(&step.about.app);
        }
        if train.kind == Kind::Table {
            train.kind = step.about.kind;
        }
        if train.process.is_empty() {
            train.process.clone_from(&step.about.process);
        }
        train.add(step);
        train.id
    }

    fn begin(&mut self, step: &Step) -> usize {
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.last_id += 1;
        self.kept.push_back(Train {
            id: self.last_id,
            revision: self.revision,
            kind: step.about.kind,
            app: step.about.app.clone(),
            process: step.about.process.clone(),
            app_name: String::new(),
            uris: BTreeSet::new(),
            steps: Vec::new(),
            more: 0,
            requests: BTreeSet::new(),
            confirmed: BTreeMap::new(),
            result: None,
            last: step.at,
        });
        self.kept.len() - 1
    }

    /// Adds a confirmation to the newest open train of its route. It returns whether there is one.
    pub(crate) fn confirm(&mut self, receipt: &Receipt<'_>, routers: &BTreeSet<String>) -> bool {
        let is_of = |train: &&mut Train| {
            train.uris.contains(receipt.uri) && receipt.at < train.last.saturating_add(QUIET)
        };
        let Some(train) = self.kept.iter_mut().rev().find(is_of) else {
            return false;
        };
        let confirmed = Confirmed {
            at: receipt.at,
            endpoints: receipt.endpoints,
        };
        let of_uri = train.confirmed.entry(receipt.uri.to_owned()).or_default();
        of_uri.insert(receipt.router.to_owned(), confirmed);
        train.last = train.last.max(receipt.at);
        train.judge(routers);
        self.revision += 1;
        train.revision = self.revision;
        true
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Train> {
        self.kept.iter().find(|train| train.id == id)
    }

    /// Returns the trains that changed after a revision, newest first.
    pub(crate) fn after(&self, revision: u64) -> impl Iterator<Item = &Train> {
        let newest = self.kept.iter().rev();
        newest.filter(move |train| train.revision > revision)
    }
}

/// Returns milliseconds with one digit behind the point, or seconds.
pub(crate) fn shown(ms: f64) -> String {
    if ms < 1000.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::station::Station;

    fn step(ms: u64, station: Station, app: &str, uri: &str, kind: Kind) -> Step {
        Step::new(ms * 1000, station, format!("{station:?}")).about(app, uri, kind)
    }

    fn receipt<'a>(router: &'a str, uri: &'a str, endpoints: u32, ms: u64) -> Receipt<'a> {
        Receipt {
            router,
            uri,
            endpoints,
            at: ms * 1000,
        }
    }

    fn routers(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn a_mapped_route_is_one_train_until_all_routers_confirm() {
        let mut trains = Trains::default();
        let id = trains.push(step(10, Station::Bbs, "a", "x.test", Kind::Map), "shop");
        for (ms, station) in [(14, Station::Router), (12, Station::Nats)] {
            let same = trains.push(step(ms, station, "a", "x.test", Kind::Table), "");
            assert_eq!(same, id);
        }
        let both = routers(&["r1", "r2"]);
        assert!(trains.confirm(&receipt("r1", "x.test", 1, 15), &both));
        assert_eq!(trains.get(id).unwrap().result, None, "one is missing");
        assert!(trains.confirm(&receipt("r2", "x.test", 1, 16), &both));
        let train = trains.get(id).unwrap();
        let result = train.result.as_ref().unwrap();
        assert_eq!(
            (result.state, result.text.as_str()),
            ("live", "live on 2/2 routers after 6.0 ms")
        );
        let order: Vec<_> = train.steps.iter().filter_map(|step| step.station).collect();
        assert_eq!(order, [Station::Bbs, Station::Nats, Station::Router]);
        assert!(!trains.confirm(&receipt("r1", "other.test", 1, 16), &both));
        let json = trains.get(id).unwrap().json();
        assert_eq!(json["steps"][1]["after_ms"], 2.0);
        assert_eq!(json["app_name"], "shop");
        assert_eq!(json["kind"], "map");
    }

    #[test]
    fn a_push_takes_the_steps_of_its_instances_and_routes() {
        let mut trains = Trains::default();
        let id = trains.push(step(0, Station::Bbs, "a", "", Kind::Start), "shop");
        let instance = step(5, Station::Cell, "a", "", Kind::Instance);
        assert_eq!(trains.push(instance, ""), id);
        let table = step(9, Station::Router, "a", "x.test", Kind::Table);
        assert_eq!(trains.push(table, ""), id);
        let other = step(9, Station::Router, "b", "y.test", Kind::Table);
        assert_ne!(trains.push(other, ""), id);
        assert_eq!(trains.after(0).count(), 2);
    }

    #[test]
    fn a_message_that_is_faster_than_its_cause_is_of_the_same_train() {
        let mut trains = Trains::default();
        let id = trains.push(step(1, Station::Nats, "a", "x.test", Kind::Table), "");
        let cause = step(2, Station::Bbs, "a", "x.test", Kind::Map);
        assert_eq!(trains.push(cause, ""), id);
        assert_eq!(trains.get(id).unwrap().kind, Kind::Map);
        let of = |kind, uri: &str| step(20_000, Station::Nats, "b", uri, kind).of_process("p");
        let id = trains.push(of(Kind::Table, "y.test"), "");
        assert_eq!(trains.push(of(Kind::Stop, ""), ""), id);
        assert_eq!(trains.get(id).unwrap().kind, Kind::Stop);
    }

    #[test]
    fn an_update_of_an_app_is_a_start_and_a_stop() {
        let mut trains = Trains::default();
        let of =
            |ms, kind, process: &str| step(ms, Station::Bbs, "a", "", kind).of_process(process);
        let start = trains.push(of(0, Kind::Start, "new"), "");
        let stop = trains.push(of(5, Kind::Stop, "old"), "");
        assert_ne!(start, stop);
        assert_eq!(trains.push(of(6, Kind::Instance, "new"), ""), start);
        assert_eq!(trains.push(of(7, Kind::Instance, "old"), ""), stop);
        let unknown = step(8, Station::Router, "a", "x.test", Kind::Table);
        assert_eq!(trains.push(unknown, ""), stop, "the newest one");
    }

    #[test]
    fn other_routes_later_changes_and_the_opposite_are_other_trains() {
        let mut trains = Trains::default();
        let id = trains.push(step(0, Station::Bbs, "a", "x.test", Kind::Map), "");
        let others = [
            step(1, Station::Bbs, "a", "y.test", Kind::Map),
            step(2, Station::Bbs, "a", "x.test", Kind::Unmap),
            step(20_000, Station::Nats, "a", "x.test", Kind::Table),
        ];
        for other in others {
            assert_ne!(trains.push(other.clone(), ""), id, "{other:?}");
        }
        let none = routers(&["r"]);
        assert!(trains.confirm(&receipt("r", "y.test", 0, 3), &none));
        let gone = trains.get(2).unwrap().result.clone().unwrap();
        assert_eq!(gone.text, "gone from 1/1 routers after 2.0 ms");
    }

    #[test]
    fn trains_and_their_steps_are_bounded() {
        let mut trains = Trains::default();
        for n in 0..(STEPS as u64 + 20) {
            trains.push(step(n, Station::Cell, "a", "", Kind::Instance), "");
        }
        let train = trains.after(0).next().unwrap();
        assert_eq!((train.steps.len(), train.more), (STEPS, 20));
        let before = trains.revision();
        for n in 0..(KEPT + 20) {
            let uri = format!("{n}.test");
            trains.push(step(0, Station::Router, "", &uri, Kind::Table), "");
        }
        assert_eq!(trains.after(0).count(), KEPT);
        assert_eq!(trains.after(before).count(), KEPT);
        assert_eq!(trains.after(trains.revision()).count(), 0);
    }
}
