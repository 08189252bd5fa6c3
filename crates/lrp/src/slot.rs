//! One index of a desired LRP: at most one row of each presence, and every transition of them.
//!
//! A transition looks at all three rows, because they answer for each other: a replacement that serves dismisses the
//! evacuating and the suspect row. Called by the bbs for each request of a rep or the auctioneer, and by convergence.

use crate::actual::{ActualLrp, ActualLrpKey, InstanceKey, ModificationTag, Presence, Running, State};
use crate::restart::{Restart, RestartPolicy};
use crate::Nanos;
use ids::CellId;
use std::sync::Arc;

/// Crash reasons and placement errors are kept up to this length.
const MAX_TEXT: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    pub ordinary: Option<ActualLrp>,
    pub evacuating: Option<ActualLrp>,
    pub suspect: Option<ActualLrp>,
}

/// When a transition happens, and the epoch of a row that it may insert.
#[derive(Clone, Debug)]
pub struct Moment {
    pub now: Nanos,
    pub epoch: Arc<str>,
}

/// What a transition leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Transition {
    pub slot: Slot,
    /// In the order in which others should hear of them. Empty: nothing changed.
    pub changes: Vec<Change>,
    /// The ordinary row is unclaimed and needs a cell.
    pub auction: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An instance ended by itself. Followed by the change of its row.
    Crashed { before: ActualLrp, after: ActualLrp },
    Created(ActualLrp),
    Changed { before: ActualLrp, after: ActualLrp },
    Removed(ActualLrp),
}

/// Why a transition is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the requested resource could not be found")]
    NotFound,
    #[error("the requested resource already exists")]
    Exists,
    #[error("cannot claim actual LRP")]
    CannotBeClaimed,
    #[error("cannot start actual LRP")]
    CannotBeStarted,
    #[error("cannot crash actual LRP")]
    CannotBeCrashed,
    #[error("cannot fail actual LRP")]
    CannotBeFailed,
    #[error("cannot remove actual LRP")]
    CannotBeRemoved,
    #[error("cannot unclaim actual LRP")]
    CannotBeUnclaimed,
}

/// What retiring an index takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Rows without a reachable container go at once.
    pub transition: Transition,
    /// These instances must be stopped by their cells, which then remove their rows.
    pub stop: Vec<InstanceKey>,
}

impl Slot {
    pub fn is_empty(&self) -> bool {
        self.ordinary.is_none() && self.evacuating.is_none() && self.suspect.is_none()
    }

    /// Its rows; the ordinary one comes last, for readers that take the last row of an index.
    pub fn rows(&self) -> impl Iterator<Item = &ActualLrp> {
        [&self.evacuating, &self.suspect, &self.ordinary].into_iter().filter_map(Option::as_ref)
    }

    pub fn row(&self, presence: Presence) -> Option<&ActualLrp> {
        match presence {
            Presence::Ordinary => self.ordinary.as_ref(),
            Presence::Evacuating => self.evacuating.as_ref(),
            Presence::Suspect => self.suspect.as_ref(),
        }
    }

    /// Puts a loaded row in its place.
    pub fn insert(&mut self, row: ActualLrp) {
        match row.presence {
            Presence::Ordinary => self.ordinary = Some(row),
            Presence::Evacuating => self.evacuating = Some(row),
            Presence::Suspect => self.suspect = Some(row),
        }
    }

    /// A new row that waits for a cell.
    pub fn create(&self, key: &ActualLrpKey, moment: &Moment) -> Result<Transition, Refusal> {
        if self.ordinary.is_some() {
            return Err(Refusal::Exists);
        }
        let mut step = Steps::of(self);
        step.insert(unclaimed(key, moment));
        Ok(step.auction())
    }

    /// A cell is about to run `instance`.
    pub fn claim(&self, instance: &InstanceKey, moment: &Moment) -> Result<Transition, Refusal> {
        if self.is_suspect(instance) {
            return Ok(Steps::of(self).done());
        }
        let row = self.ordinary.as_ref().ok_or(Refusal::NotFound)?;
        match &row.state {
            State::Claimed { instance: same } if same == instance => return Ok(Steps::of(self).done()),
            State::Running { instance: same, .. } if same == instance => {}
            State::Unclaimed { .. } => {}
            _ => return Err(Refusal::CannotBeClaimed),
        }
        let mut step = Steps::of(self);
        step.set_ordinary(row.with(State::Claimed { instance: instance.clone() }, moment.now));
        Ok(step.done())
    }

    /// A cell runs `instance`. It may come without a row before (truth is what runs), and wins over another's claim.
    /// Once it serves, the rows that it replaces go. The same report again changes nothing.
    pub fn start(&self, key: &ActualLrpKey, instance: &InstanceKey, details: &Arc<Running>, moment: &Moment) -> Result<Transition, Refusal> {
        if self.is_suspect(instance) {
            return Ok(Steps::of(self).done());
        }
        let state = State::Running { instance: instance.clone(), details: details.clone() };
        let mut step = Steps::of(self);
        match &self.ordinary {
            None => step.insert(ActualLrp { state, ..unclaimed(key, moment) }),
            Some(row) => match &row.state {
                State::Running { instance: same, details: known } if same == instance => {
                    if known != details {
                        step.set_ordinary(ActualLrp { state, tag: row.tag.next(), ..row.clone() });
                    }
                }
                State::Unclaimed { .. } | State::Claimed { .. } => step.set_ordinary(row.with(state, moment.now)),
                State::Running { .. } | State::Crashed => return Err(Refusal::CannotBeStarted),
            },
        }
        if details.routable {
            step.remove_evacuating();
            step.remove_suspect();
        }
        Ok(step.done())
    }

    /// `instance` ended by itself.
    pub fn crash(&self, instance: &InstanceKey, reason: &str, policy: &RestartPolicy, moment: &Moment) -> Result<Transition, Refusal> {
        let mut step = Steps::of(self);
        if self.is_suspect(instance) {
            step.remove_suspect();
            return Ok(step.done());
        }
        let row = self.ordinary.as_ref().ok_or(Refusal::NotFound)?;
        if !row.is_of(instance) {
            return Err(Refusal::CannotBeCrashed);
        }
        let forget = row.running().is_some() && moment.now - row.since > policy.forget_after;
        let crash_count = if forget { 1 } else { row.crash_count.saturating_add(1) };
        let at_once = policy.restart(crash_count) == Restart::AtOnce;
        let state = if at_once { State::unclaimed() } else { State::Crashed };
        let after = ActualLrp { crash_count, crash_reason: truncated(reason), ..row.with(state, moment.now) };
        step.changes.push(Change::Crashed { before: row.clone(), after: after.clone() });
        step.set_ordinary(after);
        Ok(if at_once { step.auction() } else { step.done() })
    }

    /// No cell was found for it.
    pub fn fail(&self, placement_error: &str, moment: &Moment) -> Result<Transition, Refusal> {
        let row = self.ordinary.as_ref().ok_or(Refusal::NotFound)?;
        if !row.is_unclaimed() {
            return Err(Refusal::CannotBeFailed);
        }
        let mut step = Steps::of(self);
        step.set_ordinary(row.with(State::Unclaimed { placement_error: truncated(placement_error) }, moment.now));
        Ok(step.done())
    }

    /// The row waits for a cell again: a crashed one whose time has come, or one whose instance is given up.
    pub fn unclaim(&self, moment: &Moment) -> Result<Transition, Refusal> {
        let row = self.ordinary.as_ref().ok_or(Refusal::NotFound)?;
        if row.is_unclaimed() {
            return Err(Refusal::CannotBeUnclaimed);
        }
        let mut step = Steps::of(self);
        step.set_ordinary(row.with(State::unclaimed(), moment.now));
        Ok(step.auction())
    }

    /// The container of `instance` is gone and nothing crashed (`None`: whatever row there is).
    pub fn remove(&self, instance: Option<&InstanceKey>) -> Result<Transition, Refusal> {
        let mut step = Steps::of(self);
        match (instance, &self.ordinary) {
            (_, None) if instance.is_none() => return Err(Refusal::NotFound),
            (None, Some(_)) => step.remove_ordinary(),
            (Some(instance), Some(row)) if row.is_of(instance) => step.remove_ordinary(),
            (Some(instance), _) if self.is_suspect(instance) => step.remove_suspect(),
            _ => return Err(Refusal::NotFound),
        }
        Ok(step.done())
    }

    /// The index is not wanted (any more), or should start afresh. Evacuating rows are left to their cell.
    pub fn retire(&self, is_present: impl Fn(&CellId) -> bool) -> Retirement {
        let mut step = Steps::of(self);
        let mut stop = Vec::new();
        let reachable = |row: &ActualLrp| row.instance().filter(|i| is_present(&i.cell_id)).cloned();
        if let Some(row) = &self.ordinary {
            match reachable(row) {
                Some(instance) => stop.push(instance),
                None => step.remove_ordinary(),
            }
        }
        if let Some(row) = &self.suspect {
            match reachable(row) {
                Some(instance) => stop.push(instance),
                None => step.remove_suspect(),
            }
        }
        Retirement { transition: step.done(), stop }
    }

    /// The cell of the ordinary row is lost: its instance becomes suspect (it may still serve) and a replacement is
    /// wanted. Where there is a suspect already, it was the replacement that got lost.
    pub fn suspend(&self, moment: &Moment) -> Result<Transition, Refusal> {
        let row = self.ordinary.as_ref().ok_or(Refusal::NotFound)?;
        if row.instance().is_none() {
            return Err(Refusal::CannotBeUnclaimed);
        }
        let mut step = Steps::of(self);
        if self.suspect.is_some() {
            step.set_ordinary(row.with(State::unclaimed(), moment.now));
        } else {
            let suspect = ActualLrp { presence: Presence::Suspect, tag: row.tag.next(), ..row.clone() };
            let replacement = ActualLrp { crash_count: row.crash_count, crash_reason: row.crash_reason.clone(), ..unclaimed(&row.key, moment) };
            step.changes.push(Change::Changed { before: row.clone(), after: suspect.clone() });
            step.changes.push(Change::Created(replacement.clone()));
            step.slot.suspect = Some(suspect);
            step.slot.ordinary = Some(replacement);
        }
        Ok(step.auction())
    }

    /// The cell of the suspect row is back: it is the ordinary one again, and the replacement goes.
    pub fn restore_suspect(&self) -> Result<Transition, Refusal> {
        let row = self.suspect.as_ref().ok_or(Refusal::NotFound)?;
        let mut step = Steps::of(self);
        let restored = ActualLrp { presence: Presence::Ordinary, tag: row.tag.next(), ..row.clone() };
        step.changes.push(Change::Changed { before: row.clone(), after: restored.clone() });
        step.remove_ordinary();
        step.slot.suspect = None;
        step.slot.ordinary = Some(restored);
        Ok(step.done())
    }

    /// The replacement serves (or nobody wants the index): the suspect row goes.
    pub fn drop_suspect(&self) -> Transition {
        let mut step = Steps::of(self);
        step.remove_suspect();
        step.done()
    }

    /// The evacuating row goes whatever its instance: its cell is lost.
    pub fn drop_evacuating(&self) -> Transition {
        let mut step = Steps::of(self);
        step.remove_evacuating();
        step.done()
    }

    pub(crate) fn is_suspect(&self, instance: &InstanceKey) -> bool {
        self.suspect.as_ref().is_some_and(|row| row.is_of(instance))
    }
}

/// A transition in the making.
pub(crate) struct Steps {
    pub(crate) slot: Slot,
    pub(crate) changes: Vec<Change>,
}

impl Steps {
    pub(crate) fn of(slot: &Slot) -> Self {
        Self { slot: slot.clone(), changes: Vec::new() }
    }

    pub(crate) fn done(self) -> Transition {
        Transition { slot: self.slot, changes: self.changes, auction: false }
    }

    pub(crate) fn auction(self) -> Transition {
        Transition { auction: true, ..self.done() }
    }

    /// A new row, of the row's presence.
    pub(crate) fn insert(&mut self, row: ActualLrp) {
        self.changes.push(Change::Created(row.clone()));
        self.slot.insert(row);
    }

    /// Changes the ordinary row.
    pub(crate) fn set_ordinary(&mut self, after: ActualLrp) {
        let before = self.slot.ordinary.replace(after.clone());
        self.changes.extend(before.map(|before| Change::Changed { before, after }));
    }

    pub(crate) fn remove_ordinary(&mut self) {
        self.changes.extend(self.slot.ordinary.take().map(Change::Removed));
    }

    pub(crate) fn remove_evacuating(&mut self) {
        self.changes.extend(self.slot.evacuating.take().map(Change::Removed));
    }

    pub(crate) fn remove_suspect(&mut self) {
        self.changes.extend(self.slot.suspect.take().map(Change::Removed));
    }
}

pub(crate) fn unclaimed(key: &ActualLrpKey, moment: &Moment) -> ActualLrp {
    ActualLrp {
        key: key.clone(),
        presence: Presence::Ordinary,
        state: State::unclaimed(),
        crash_count: 0,
        crash_reason: String::new(),
        since: moment.now,
        tag: ModificationTag::new(moment.epoch.clone()),
    }
}

fn truncated(text: &str) -> String {
    const MARK: &str = "(truncated)";
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = (0..=MAX_TEXT - MARK.len()).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
