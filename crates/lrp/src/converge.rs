//! Convergence: compares the desired with the actual LRPs, and returns the steps that remove the difference.
//!
//! The plan has at most one step per slot and aspect. The caller applies the steps in order through [`Slot`]'s transitions, under
//! the same lock under which it read the snapshot. Without a difference the plan is empty. Nothing in a stale domain is ever
//! removed (its owner may not have sent its state yet), but everything that is wanted is started.

use crate::actual::{ActualLrp, InstanceKey, State};
use crate::desired::DesiredLrp;
use crate::restart::{Restart, RestartPolicy};
use crate::slot::Slot;
use crate::{Nanos, SECOND};
use ids::{CellId, ProcessGuid};
use std::collections::BTreeMap;

/// The time after which an unclaimed row that no cell has claimed is auctioned again.
pub const AUCTION_AGAIN: Nanos = 30 * SECOND;

/// The state of a cell as the bbs knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellState {
    Present,
    /// The cell is not present, but not long enough to act on it (it is restarting, or the bbs was).
    Held,
    Lost,
}

/// All data about one process.
#[derive(Clone, Copy, Debug)]
pub struct Process<'a> {
    pub process_guid: &'a ProcessGuid,
    pub desired: Option<&'a DesiredLrp>,
    pub slots: &'a BTreeMap<i32, Slot>,
    /// Whether the domain's owner has confirmed recently that its state is complete. Only then may anything be removed.
    pub fresh: bool,
}

/// The conditions that are the same for all processes of one pass.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a, C> {
    pub cells: C,
    pub policy: &'a RestartPolicy,
    /// Whether a cell appeared, so that instances without a place may find one now.
    pub cell_appeared: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<(ProcessGuid, i32, Step)>,
    /// The time at which the next step becomes due without any other change.
    pub next_due: Option<Nanos>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A wanted index has no row: insert one, and request an auction.
    Create,
    /// The time of a crashed row has come: unclaim it, and request an auction.
    Restart,
    /// No cell has claimed the unclaimed row: request an auction.
    Auction,
    /// The ordinary row's cell is lost.
    Suspend,
    /// The suspect row's cell is back.
    RestoreSuspect,
    /// The suspect row's replacement serves.
    DropSuspect,
    /// The evacuating row's cell is lost.
    DropEvacuating,
    /// The index is not wanted.
    Retire,
    /// The internal routes or metric tags of the running instance differ from the desired ones: update its cell.
    Update(InstanceKey),
}

/// Returns the plan for all processes.
pub fn converge<'a, C>(
    processes: impl IntoIterator<Item = Process<'a>>,
    circumstances: &Circumstances<'_, C>,
    now: Nanos,
) -> Plan
where
    C: Fn(&CellId) -> CellState,
{
    let mut plan = Plan::default();
    for process in processes {
        converge_process(&process, circumstances, now, &mut plan);
    }
    plan
}

fn converge_process<C>(
    process: &Process<'_>,
    circumstances: &Circumstances<'_, C>,
    now: Nanos,
    plan: &mut Plan,
) where
    C: Fn(&CellId) -> CellState,
{
    let mut decide = |index: i32, slot: &Slot, wanted: Option<&DesiredLrp>| {
        let mut add = |step| plan.steps.push((process.process_guid.clone(), index, step));
        let state = |row: &ActualLrp| row.instance().map(|i| (circumstances.cells)(&i.cell_id));
        if slot
            .evacuating
            .as_ref()
            .is_some_and(|row| state(row) == Some(CellState::Lost))
        {
            add(Step::DropEvacuating);
        }
        let Some(desired) = wanted else {
            if process.fresh && (slot.ordinary.is_some() || slot.suspect.is_some()) {
                add(Step::Retire);
            }
            return;
        };
        let step = match &slot.ordinary {
            None => Some(Step::Create),
            Some(row) => wanted_row(row, slot, desired, circumstances, now, &mut plan.next_due),
        };
        if let Some(step) = step {
            plan.steps.push((process.process_guid.clone(), index, step));
        }
    };
    for (&index, slot) in process.slots {
        decide(index, slot, process.desired.filter(|d| d.wants(index)));
    }
    if let Some(desired) = process.desired {
        for index in (0..desired.instances).filter(|index| !process.slots.contains_key(index)) {
            decide(index, &Slot::default(), Some(desired));
        }
    }
}

fn wanted_row<C>(
    row: &ActualLrp,
    slot: &Slot,
    desired: &DesiredLrp,
    around: &Circumstances<'_, C>,
    now: Nanos,
    next_due: &mut Option<Nanos>,
) -> Option<Step>
where
    C: Fn(&CellId) -> CellState,
{
    let cell = |row: &ActualLrp| row.instance().map(|i| (around.cells)(&i.cell_id));
    let mut due = |at: Nanos| {
        if at <= now {
            return true;
        }
        *next_due = Some(next_due.map_or(at, |next| next.min(at)));
        false
    };
    if let Some(suspect) = &slot.suspect {
        if row.serves() && cell(row) != Some(CellState::Lost) {
            return Some(Step::DropSuspect);
        }
        if cell(suspect) == Some(CellState::Present) {
            return Some(Step::RestoreSuspect);
        }
    }
    match &row.state {
        State::Claimed { .. } | State::Running { .. } if cell(row) == Some(CellState::Lost) => {
            Some(Step::Suspend)
        }
        State::Claimed { .. } => None,
        State::Running { instance, details } => {
            let differs = details.internal_routes != desired.internal_routes
                || details.metric_tags != desired.metric_tags_of(&row.key, instance);
            (differs && cell(row) == Some(CellState::Present))
                .then(|| Step::Update(instance.clone()))
        }
        State::Unclaimed { placement_error } => {
            let retry = around.cell_appeared && !placement_error.is_empty();
            (retry || due(row.since + AUCTION_AGAIN)).then_some(Step::Auction)
        }
        State::Crashed => match around.policy.restart(row.crash_count) {
            Restart::AtOnce => Some(Step::Restart),
            Restart::After(wait) => due(row.since + wait).then_some(Step::Restart),
            Restart::Never => None,
        },
    }
}

#[cfg(test)]
mod tests;
