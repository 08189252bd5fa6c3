//! The results of a transition: rows to write, events to publish, and effects on other components. The journal is filled under
//! the state's lock and written by the one writer. Only then are its events published and its effects carried out.

use ids::{CellId, Domain, ProcessGuid, TaskGuid};
use lrp::{ActualLrp, Change, InstanceKey, Nanos, Presence};
use std::sync::Arc;
use wire::bbs as m;
use wire::locket::Resource;

#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) writes: Vec<Write>,
    pub(crate) publications: Vec<Publication>,
    pub(crate) effects: Vec<Effect>,
    /// The id of the request that caused the transition. It travels with the events.
    pub(crate) trace: String,
}

/// An effect, and the id of the request that caused it.
pub(crate) type Caused = (Effect, String);

impl Journal {
    pub(crate) fn new(trace: &str) -> Self {
        Self {
            trace: trace.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.publications.is_empty() && self.effects.is_empty()
    }
}

/// One row of the database; `None` deletes it.
#[derive(Debug)]
pub(crate) enum Write {
    Desired(ProcessGuid, Option<Arc<m::DesiredLrp>>),
    Actual(ProcessGuid, i32, Presence, Option<Box<ActualLrp>>),
    Task(TaskGuid, Option<Arc<m::Task>>),
    /// The time at which the domain stops being fresh. `Some(None)` means that it stays fresh without end.
    Domain(Domain, Option<Option<Nanos>>),
    /// The lock with its time to live in seconds.
    Lock(String, Option<(Resource, i64)>),
}

/// An event that the hub publishes to subscribers.
#[derive(Debug)]
pub(crate) enum Publication {
    DesiredCreated(Arc<m::DesiredLrp>),
    DesiredChanged {
        before: Arc<m::DesiredLrp>,
        after: Arc<m::DesiredLrp>,
    },
    DesiredRemoved(Arc<m::DesiredLrp>),
    /// All changes that one transition made to one slot.
    Actual(Vec<Change>),
    TaskCreated(Arc<m::Task>),
    TaskChanged {
        before: Arc<m::Task>,
        after: Arc<m::Task>,
    },
    TaskRemoved(Arc<m::Task>),
}

impl Publication {
    /// Logs what a request caused, by guid. The contents are never logged.
    pub(crate) fn log(&self, vcap_request_id: &str) {
        let desired = |lrp: &m::DesiredLrp, what: &str| {
            let process_guid = &lrp.process_guid;
            tracing::info!(process_guid, vcap_request_id, "desired-lrp-{what}");
        };
        let task = |task: &m::Task, what: &str| {
            let task_guid = &task.task_guid;
            tracing::info!(task_guid, vcap_request_id, "task-{what}");
        };
        match self {
            Self::DesiredCreated(lrp) => desired(lrp, "created"),
            Self::DesiredChanged { after, .. } => desired(after, "changed"),
            Self::DesiredRemoved(lrp) => desired(lrp, "removed"),
            Self::Actual(changes) => changes.iter().for_each(|change| {
                let (row, what) = match change {
                    Change::Created(row) => (row, "created"),
                    Change::Removed(row) => (row, "removed"),
                    Change::Changed { after, .. } => (after, "changed"),
                    Change::Crashed { after, .. } => (after, "crashed"),
                };
                let (process_guid, index) = (&row.key.process_guid, row.key.index);
                tracing::info!(%process_guid, index, vcap_request_id, "actual-lrp-{what}");
            }),
            Self::TaskCreated(new) => task(new, "created"),
            Self::TaskChanged { after, .. } => task(after, "changed"),
            Self::TaskRemoved(old) => task(old, "removed"),
        }
    }
}

/// A request to another component. Effects may be lost with the process; convergence issues them again.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    AuctionLrp(ProcessGuid, i32),
    AuctionTask(TaskGuid),
    StopLrp(ProcessGuid, InstanceKey),
    /// An update of the instance's internal routes and metric tags at its cell, which then reads all other changes from the BBS.
    UpdateLrp(ProcessGuid, i32, InstanceKey),
    CancelTask(TaskGuid, CellId),
    /// The delivery of the result to the component that desired the task.
    DeliverTask(TaskGuid),
}
