//! Models one index of a desired LRP: at most one row of each presence, and every transition of them.
//!
//! A transition reads all three rows, because they depend on each other: a replacement that serves removes the evacuating and the
//! suspect row. The bbs calls the transitions for each request of a rep or the auctioneer, and for convergence.

use crate::Nanos;
use crate::actual::{
    ActualLrp, ActualLrpKey, InstanceKey, ModificationTag, Presence, Running, State,
};
use crate::restart::{Restart, RestartPolicy};
use ids::CellId;
use std::sync::Arc;

/// The length to which crash reasons and placement errors are truncated.
const MAX_TEXT: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    pub ordinary: Option<ActualLrp>,
    pub evacuating: Option<ActualLrp>,
    pub suspect: Option<ActualLrp>,
}

/// The time of a transition, and the epoch of a row that it may insert.
#[derive(Clone, Debug)]
pub struct Moment {
    pub now: Nanos,
    pub epoch: Arc<str>,
}

/// The result of a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Transition {
    pub slot: Slot,
    /// The changes in the order in which events report them. It is empty if nothing changed.
    pub changes: Vec<Change>,
    /// Whether the ordinary row is unclaimed and needs a cell.
    pub auction: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An instance ended by itself. The change of its row follows.
    Crashed {
        before: ActualLrp,
        after: ActualLrp,
    },
    Created(ActualLrp),
    Changed {
        before: ActualLrp,
        after: ActualLrp,
    },
    Removed(ActualLrp),
}

/// The reason why a transition is not allowed.
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

/// The result of retiring an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// The transition that removes the rows without a reachable container, which go at once.
    pub transition: Transition,
    /// The instances that their cells must stop. The cells then remove the rows.
    pub stop: Vec<InstanceKey>,
}

impl Slot {
    pub fn is_empty(&self) -> bool {
        self.ordinary.is_none() && self.evacuating.is_none() && self.suspect.is_none()
    }

    /// Returns the rows. The ordinary one comes last, for readers that use the last row of an index.
    pub fn rows(&self) -> impl Iterator<Item = &ActualLrp> {
        [&self.evacuating, &self.suspect, &self.ordinary]
            .into_iter()
            .filter_map(Option::as_ref)
    }

    pub fn row(&self, presence: Presence) -> Option<&ActualLrp> {
        match presence {
            Presence::Ordinary => self.ordinary.as_ref(),
            Presence::Evacuating => self.evacuating.as_ref(),
            Presence::Suspect => self.suspect.as_ref(),
        }
    }

    /// Puts a stored row into its place.
    pub fn insert(&mut self, row: ActualLrp) {
        match row.presence {
            Presence::Ordinary => self.ordinary = Some(row),
            Presence::Evacuating => self.evacuating = Some(row),
            Presence::Suspect => self.suspect = Some(row),
        }
    }

    /// Inserts a new row, which waits for a cell.
    pub fn create(&self, key: &ActualLrpKey, moment: &Moment) -> Result<Transition, Refusal> {
        if self.ordinary.is_some() {
            return Err(Refusal::Exists);
        }
        let mut step = Steps::of(self);
        step.insert(unclaimed(key, moment));
        Ok(step.auction())
    }

    /// Records that a cell is about to run `instance`.
    pub fn claim(&self, instance: &InstanceKey, moment: &Moment) -> Result<Transition, Refusal> {
        if self.is_suspect(instance) {
            return Ok(Steps::of(self).done());
        }
        let row = self.ordinary.as_ref().ok_or(Refusal::NotFound)?;
        match &row.state {
            State::Claimed { instance: same } if same == instance => {
                return Ok(Steps::of(self).done());
            }
            State::Running { instance: same, .. } if same == instance => {}
            State::Unclaimed { .. } => {}
            _ => return Err(Refusal::CannotBeClaimed),
        }
        let mut step = Steps::of(self);
        step.set_ordinary(row.with(
            State::Claimed {
                instance: instance.clone(),
            },
            moment.now,
        ));
        Ok(step.done())
    }

    /// Records that a cell runs `instance`. The row need not exist before, because the running instance is the truth, and it
    /// replaces another instance's claim. Once it serves, the rows that it replaces are removed. A repeated report changes
    /// nothing.
    pub fn start(
        &self,
        key: &ActualLrpKey,
        instance: &InstanceKey,
        details: &Arc<Running>,
        moment: &Moment,
    ) -> Result<Transition, Refusal> {
        if self.is_suspect(instance) {
            return Ok(Steps::of(self).done());
        }
        let state = State::Running {
            instance: instance.clone(),
            details: details.clone(),
        };
        let mut step = Steps::of(self);
        match &self.ordinary {
            None => step.insert(ActualLrp {
                state,
                ..unclaimed(key, moment)
            }),
            Some(row) => match &row.state {
                State::Running {
                    instance: same,
                    details: known,
                } if same == instance => {
                    if known != details {
                        step.set_ordinary(ActualLrp {
                            state,
                            tag: row.tag.next(),
                            ..row.clone()
                        });
                    }
                }
                State::Unclaimed { .. } | State::Claimed { .. } => {
                    step.set_ordinary(row.with(state, moment.now))
                }
                State::Running { .. } | State::Crashed => return Err(Refusal::CannotBeStarted),
            },
        }
        if details.routable {
            step.remove_evacuating();
            step.remove_suspect();
        }
        Ok(step.done())
    }

    /// Records that `instance` ended by itself.
    pub fn crash(
        &self,
        instance: &InstanceKey,
        reason: &str,
        policy: &RestartPolicy,
        moment: &Moment,
    ) -> Result<Transition, Refusal> {
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
        let crash_count = if forget {
            1
        } else {
            row.crash_count.saturating_add(1)
        };
        let at_once = policy.restart(crash_count) == Restart::AtOnce;
        let state = if at_once {
            State::unclaimed()
        } else {
            State::Crashed
        };
        let after = ActualLrp {
            crash_count,
            crash_reason: truncated(reason),
            ..row.with(state, moment.now)
        };
        step.changes.push(Change::Crashed {
            before: row.clone(),
            after: after.clone(),
        });
        step.set_ordinary(after);
        Ok(if at_once { step.auction() } else { step.done() })
    }

    /// Records that no cell was found for the row.
    pub fn fail(&self, placement_error: &str, moment: &Moment) -> Result<Transition, Refusal> {
        let row = self.ordinary.as_ref().ok_or(Refusal::NotFound)?;
        if !row.is_unclaimed() {
            return Err(Refusal::CannotBeFailed);
        }
        let mut step = Steps::of(self);
        step.set_ordinary(row.with(
            State::Unclaimed {
                placement_error: truncated(placement_error),
            },
            moment.now,
        ));
        Ok(step.done())
    }

    /// Makes the row wait for a cell again: a crashed one whose time has come, or one whose instance is abandoned.
    pub fn unclaim(&self, moment: &Moment) -> Result<Transition, Refusal> {
        let row = self.ordinary.as_ref().ok_or(Refusal::NotFound)?;
        if row.is_unclaimed() {
            return Err(Refusal::CannotBeUnclaimed);
        }
        let mut step = Steps::of(self);
        step.set_ordinary(row.with(State::unclaimed(), moment.now));
        Ok(step.auction())
    }

    /// Removes the row of `instance`, whose container is gone without a crash. `None` removes the ordinary row, whatever its
    /// instance.
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

    /// Retires the index, which is no longer wanted or shall begin anew. Evacuating rows are left to their cell.
    pub fn retire(&self, is_present: impl Fn(&CellId) -> bool) -> Retirement {
        let mut step = Steps::of(self);
        let mut stop = Vec::new();
        let reachable =
            |row: &ActualLrp| row.instance().filter(|i| is_present(&i.cell_id)).cloned();
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
        Retirement {
            transition: step.done(),
            stop,
        }
    }

    /// Records that the cell of the ordinary row is lost. Its instance becomes suspect (it may still serve), and a replacement is
    /// wanted. If there is a suspect row already, the lost instance was the replacement, and its row is unclaimed.
    pub fn suspend(&self, moment: &Moment) -> Result<Transition, Refusal> {
        let row = self.ordinary.as_ref().ok_or(Refusal::NotFound)?;
        if row.instance().is_none() {
            return Err(Refusal::CannotBeUnclaimed);
        }
        let mut step = Steps::of(self);
        if self.suspect.is_some() {
            step.set_ordinary(row.with(State::unclaimed(), moment.now));
        } else {
            let suspect = ActualLrp {
                presence: Presence::Suspect,
                tag: row.tag.next(),
                ..row.clone()
            };
            let replacement = ActualLrp {
                crash_count: row.crash_count,
                crash_reason: row.crash_reason.clone(),
                ..unclaimed(&row.key, moment)
            };
            step.changes.push(Change::Changed {
                before: row.clone(),
                after: suspect.clone(),
            });
            step.changes.push(Change::Created(replacement.clone()));
            step.slot.suspect = Some(suspect);
            step.slot.ordinary = Some(replacement);
        }
        Ok(step.auction())
    }

    /// Records that the cell of the suspect row is back. The suspect row becomes the ordinary one again, and the replacement is
    /// removed.
    pub fn restore_suspect(&self) -> Result<Transition, Refusal> {
        let row = self.suspect.as_ref().ok_or(Refusal::NotFound)?;
        let mut step = Steps::of(self);
        let restored = ActualLrp {
            presence: Presence::Ordinary,
            tag: row.tag.next(),
            ..row.clone()
        };
        step.changes.push(Change::Changed {
            before: row.clone(),
            after: restored.clone(),
        });
        step.remove_ordinary();
        step.slot.suspect = None;
        step.slot.ordinary = Some(restored);
        Ok(step.done())
    }

    /// Removes the suspect row, because its replacement serves or the index is not wanted.
    pub fn drop_suspect(&self) -> Transition {
        let mut step = Steps::of(self);
        step.remove_suspect();
        step.done()
    }

    /// Removes the evacuating row whatever its instance, because its cell is lost.
    pub fn drop_evacuating(&self) -> Transition {
        let mut step = Steps::of(self);
        step.remove_evacuating();
        step.done()
    }

    pub(crate) fn is_suspect(&self, instance: &InstanceKey) -> bool {
        self.suspect.as_ref().is_some_and(|row| row.is_of(instance))
    }
}

/// A transition that is being built.
pub(crate) struct Steps {
    pub(crate) slot: Slot,
    pub(crate) changes: Vec<Change>,
}

impl Steps {
    pub(crate) fn of(slot: &Slot) -> Self {
        Self {
            slot: slot.clone(),
            changes: Vec::new(),
        }
    }

    pub(crate) fn done(self) -> Transition {
        Transition {
            slot: self.slot,
            changes: self.changes,
            auction: false,
        }
    }

    pub(crate) fn auction(self) -> Transition {
        Transition {
            auction: true,
            ..self.done()
        }
    }

    /// Inserts a new row in the place of its presence.
    pub(crate) fn insert(&mut self, row: ActualLrp) {
        self.changes.push(Change::Created(row.clone()));
        self.slot.insert(row);
    }

    /// Replaces the ordinary row.
    pub(crate) fn set_ordinary(&mut self, after: ActualLrp) {
        let before = self.slot.ordinary.replace(after.clone());
        self.changes
            .extend(before.map(|before| Change::Changed { before, after }));
    }

    pub(crate) fn remove_ordinary(&mut self) {
        self.changes
            .extend(self.slot.ordinary.take().map(Change::Removed));
    }

    pub(crate) fn remove_evacuating(&mut self) {
        self.changes
            .extend(self.slot.evacuating.take().map(Change::Removed));
    }

    pub(crate) fn remove_suspect(&mut self) {
        self.changes
            .extend(self.slot.suspect.take().map(Change::Removed));
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
    let end = (0..=MAX_TEXT - MARK.len())
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
mod tests;
