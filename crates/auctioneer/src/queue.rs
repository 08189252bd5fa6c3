//! Holds the work that was requested and is not yet part of a batch.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use wire::rep::{Lrp, LrpStartRequest, Task};

/// The time in which a new process most likely gets the lock (it was its own). Requests of that time are kept, not refused.
const EXPECT_LOCK: Duration = Duration::from_secs(20);

/// Requested work. Work that a cell refused is queued once more.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Requested<T> {
    pub(crate) work: T,
    pub(crate) refused_by: Option<String>,
    /// The ids of the requests that caused it; empty if they are not known.
    pub(crate) request_id: String,
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    lrps: Vec<Requested<Lrp>>,
    tasks: Vec<Requested<Task>>,
    leadership: Leadership,
}

#[derive(Debug)]
enum Leadership {
    Active,
    /// The auctioneer does not hold the lock.
    Standby {
        since: Instant,
        fresh: bool,
    },
}

/// The content of the queue, without duplicates.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) lrps: Vec<Requested<Lrp>>,
    pub(crate) tasks: Vec<Requested<Task>>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        let leadership = Leadership::Standby {
            since: Instant::now(),
            fresh: true,
        };
        Self {
            state: Mutex::new(State {
                lrps: Vec::new(),
                tasks: Vec::new(),
                leadership,
            }),
            wake: Notify::new(),
        }
    }

    /// Queues LRPs. Returns false if this auctioneer is not the active one. `request_id` is the id of the requests that caused it.
    #[must_use]
    pub(crate) fn request_lrps(&self, requests: Vec<LrpStartRequest>, request_id: &str) -> bool {
        let lrps = requests
            .into_iter()
            .flat_map(instances)
            .map(|work| Requested {
                work,
                refused_by: None,
                request_id: request_id.to_owned(),
            });
        self.add(|state| state.lrps.extend(lrps))
    }

    #[must_use]
    pub(crate) fn request_tasks(&self, tasks: Vec<Task>, request_id: &str) -> bool {
        self.add(|state| {
            state.tasks.extend(tasks.into_iter().map(|work| Requested {
                work,
                refused_by: None,
                request_id: request_id.to_owned(),
            }))
        })
    }

    /// Queues work for the next batch.
    pub(crate) fn requeue(&self, lrps: Vec<Requested<Lrp>>, tasks: Vec<Requested<Task>>) {
        if lrps.is_empty() && tasks.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.lrps.extend(lrps);
        state.tasks.extend(tasks);
        drop(state);
        self.wake.notify_one();
    }

    fn add(&self, add: impl FnOnce(&mut State)) -> bool {
        let mut state = self.lock();
        match state.leadership {
            Leadership::Active => {}
            Leadership::Standby { since, fresh } if fresh && since.elapsed() < EXPECT_LOCK => {}
            Leadership::Standby { .. } => {
                state.lrps.clear();
                state.tasks.clear();
                return false;
            }
        }
        add(&mut state);
        drop(state);
        self.wake.notify_one();
        true
    }

    pub(crate) fn activate(&self) {
        self.lock().leadership = Leadership::Active;
    }

    pub(crate) fn deactivate(&self) {
        self.lock().leadership = Leadership::Standby {
            since: Instant::now(),
            fresh: false,
        };
    }

    /// Returns when there is work in the queue.
    pub(crate) async fn ready(&self) {
        while self.is_empty() {
            self.wake.notified().await;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.lrps.is_empty() && state.tasks.is_empty()
    }

    pub(crate) fn drain(&self) -> Drained {
        let mut state = self.lock();
        let (lrps, tasks) = (
            std::mem::take(&mut state.lrps),
            std::mem::take(&mut state.tasks),
        );
        drop(state);
        Drained {
            lrps: unique(lrps, Lrp::identifier),
            tasks: unique(tasks, |task| task.task_guid.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

/// Returns one LRP for every requested index.
fn instances(request: LrpStartRequest) -> impl Iterator<Item = Lrp> {
    let LrpStartRequest {
        process_guid,
        domain,
        indices,
        constraint,
        resource,
    } = request;
    indices.into_iter().map(move |index| Lrp {
        process_guid: process_guid.clone(),
        index,
        domain: domain.clone(),
        constraint: constraint.clone(),
        resource,
        ..Lrp::default()
    })
}

/// Returns the first entry of each identifier.
fn unique<T>(requested: Vec<Requested<T>>, identifier: impl Fn(&T) -> String) -> Vec<Requested<T>> {
    let mut seen = HashSet::new();
    requested
        .into_iter()
        .filter(|requested| seen.insert(identifier(&requested.work)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(process: &str, indices: &[i32]) -> LrpStartRequest {
        LrpStartRequest {
            process_guid: process.into(),
            indices: indices.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn duplicates_are_dropped() {
        let queue = Queue::new();
        assert!(queue.request_lrps(vec![request("p", &[0, 1]), request("q", &[0])], ""));
        assert!(queue.request_lrps(vec![request("p", &[1, 2])], ""));
        let identifiers: Vec<_> = queue
            .drain()
            .lrps
            .iter()
            .map(|requested| requested.work.identifier())
            .collect();
        assert_eq!(identifiers, ["p.0", "p.1", "q.0", "p.2"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn work_keeps_the_id_of_its_request() {
        let queue = Queue::new();
        assert!(queue.request_lrps(vec![request("p", &[0, 1])], "request-1"));
        assert!(queue.request_tasks(vec![Task::default()], "request-2"));
        let drained = queue.drain();
        let lrps = drained.lrps.iter().map(|lrp| lrp.request_id.as_str());
        let tasks = drained.tasks.iter().map(|task| task.request_id.as_str());
        let ids: Vec<&str> = lrps.chain(tasks).collect();
        assert_eq!(ids, ["request-1", "request-1", "request-2"]);
    }

    #[test]
    fn a_standby_refuses() {
        let queue = Queue::new();
        queue.activate();
        assert!(queue.request_tasks(vec![Task::default()], ""));
        queue.deactivate();
        assert!(!queue.request_tasks(vec![Task::default()], ""));
        assert!(queue.is_empty(), "the active one will be asked");
    }
}
