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
