//! What a transition leaves behind: rows to write, happenings to tell, orders to others. Filled under the state's lock,
//! written by the one writer, and only then told and carried out.

use ids::{CellId, Domain, ProcessGuid, TaskGuid};
use lrp::{ActualLrp, Change, InstanceKey, Nanos, Presence};
use std::sync::Arc;
use wire::bbs as m;
use wire::locket::Resource;

#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) writes: Vec<Write>,
    pub(crate) happenings: Vec<Happening>,
    pub(crate) orders: Vec<Order>,
    /// The id of the request that caused it; travels with the events.
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
        self.writes.is_empty() && self.happenings.is_empty() && self.orders.is_empty()
    }
}

/// One row of the database; `None` deletes it.
#[derive(Debug)]
pub(crate) enum Write {
    Desired(ProcessGuid, Option<Arc<m::DesiredLrp>>),
    Actual(ProcessGuid, i32, Presence, Option<Box<ActualLrp>>),
    Task(TaskGuid, Option<Arc<m::Task>>),
    /// `Some(None)`: fresh for ever.
    Domain(Domain, Option<Option<Nanos>>),
    /// With its time to live in seconds.
    Lock(String, Option<(Resource, i64)>),
}

/// Something that subscribers hear of.
#[derive(Debug)]
pub(crate) enum Happening {
    DesiredCreated(Arc<m::DesiredLrp>),
    DesiredChanged {
        before: Arc<m::DesiredLrp>,
        after: Arc<m::DesiredLrp>,
    },
    DesiredRemoved(Arc<m::DesiredLrp>),
    /// All changes of one transition of one slot.
    Actual(Vec<Change>),
    TaskCreated(Arc<m::Task>),
    TaskChanged {
        before: Arc<m::Task>,
        after: Arc<m::Task>,
    },
    TaskRemoved(Arc<m::Task>),
}

/// Something that another component shall do. Orders may get lost with the process: convergence gives them again.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    AuctionLrp(ProcessGuid, i32),
    AuctionTask(TaskGuid),
    StopLrp(ProcessGuid, InstanceKey),
    /// Its cell reads what the instance is to be.
    UpdateLrp(ProcessGuid, i32, InstanceKey),
    CancelTask(TaskGuid, CellId),
    /// Tell the result to whoever desired the task.
    DeliverTask(TaskGuid),
}
