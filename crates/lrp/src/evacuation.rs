//! Implements the transitions of a cell that drains. The cell asks repeatedly, for each container, whether to keep it.
//!
//! A container that serves is kept until its replacement serves. A replacement that crashes or finds no cell replaces nothing.

use crate::actual::{
    ActualLrp, ActualLrpKey, InstanceKey, ModificationTag, Presence, Running, State,
};
use crate::desired::UpdateStrategy;
use crate::restart::RestartPolicy;
use crate::slot::{Change, Moment, Slot, Steps, Transition, unclaimed};
use std::sync::Arc;

/// The wish of the desired LRP for the index that a cell evacuates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    No,
    Rolling,
    /// The instance is stopped first, and only while every desired instance runs.
    Recreate {
        all_run: bool,
    },
}

impl Wanted {
    pub fn new(strategy: UpdateStrategy, all_run: bool) -> Self {
        match strategy {
            UpdateStrategy::Rolling => Self::Rolling,
            UpdateStrategy::Recreate => Self::Recreate { all_run },
        }
    }
}

/// The result of an evacuation call: the transition, and whether the cell keeps the container.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Evacuation {
    pub transition: Transition,
    pub keep_container: bool,
}

impl Slot {
    /// Evacuates a container that never ran: another cell may claim the row.
    pub fn evacuate_claimed(&self, instance: &InstanceKey, moment: &Moment) -> Transition {
        let mut step = Steps::of(self);
        drop_rows_aside(&mut step, instance);
        match &self.ordinary {
            Some(row) if row.is_of(instance) => {
                step.set_ordinary(row.with(State::unclaimed(), moment.now));
                step.auction()
            }
            _ => step.done(),
        }
    }

    pub fn evacuate_crashed(
        &self,
        instance: &InstanceKey,
        reason: &str,
        policy: &RestartPolicy,
        moment: &Moment,
    ) -> Transition {
        let mut step = Steps::of(self);
        drop_rows_aside(&mut step, instance);
        match step.slot.crash(instance, reason, policy, moment) {
            Ok(crashed) => Transition {
                changes: [step.changes, crashed.changes].concat(),
                ..crashed
            },
            Err(_) => step.done(),
        }
    }

    pub fn evacuate_stopped(&self, instance: &InstanceKey) -> Transition {
        let mut step = Steps::of(self);
        drop_rows_aside(&mut step, instance);
        if step
            .slot
            .ordinary
            .as_ref()
            .is_some_and(|row| row.is_of(instance))
        {
            step.remove_ordinary();
        }
        step.done()
    }

    /// Removes the evacuating row. If there is none, this is no error, so that a repeated call succeeds. A row of another
    /// instance is not removed.
    pub fn remove_evacuating(&self, instance: &InstanceKey) -> Result<Transition, crate::Refusal> {
        let mut step = Steps::of(self);
        match &self.evacuating {
            None => {}
            Some(row) if row.is_of(instance) => step.remove_evacuating(),
            Some(_) => return Err(crate::Refusal::CannotBeRemoved),
        }
        Ok(step.done())
    }

    pub fn evacuate_running(
        &self,
        key: &ActualLrpKey,
        instance: &InstanceKey,
        details: &Arc<Running>,
        wanted: Wanted,
        moment: &Moment,
    ) -> Evacuation {
        let own = self.ordinary.as_ref().filter(|row| row.is_of(instance));
        match (wanted, own) {
            (Wanted::No, _) => Evacuation {
                transition: self.evacuate_stopped(instance),
                keep_container: false,
            },
            (Wanted::Recreate { all_run: true }, Some(row)) => {
                let mut step = Steps::of(self);
                step.set_ordinary(row.with(State::unclaimed(), moment.now));
                Evacuation {
                    transition: step.auction(),
                    keep_container: false,
                }
            }
            (Wanted::Recreate { all_run: false }, Some(_)) => Evacuation {
                transition: Steps::of(self).done(),
                keep_container: true,
            },
            (Wanted::Rolling, Some(row)) => self.step_aside(row, instance, details, moment),
            (_, None) => self.wait_for_replacement(key, instance, details, moment),
        }
    }

    /// Makes the ordinary row the evacuating one, and requests a replacement.
    fn step_aside(
        &self,
        row: &ActualLrp,
        instance: &InstanceKey,
        details: &Arc<Running>,
        moment: &Moment,
    ) -> Evacuation {
        let mut step = Steps::of(self);
        step.remove_evacuating();
        let evacuating = evacuating(&row.key, instance, details, moment);
        let replacement = row.with(State::unclaimed(), moment.now);
        step.changes.push(Change::Changed {
            before: row.clone(),
            after: evacuating.clone(),
        });
        step.changes.push(Change::Created(replacement.clone()));
        step.slot.evacuating = Some(evacuating);
        step.slot.ordinary = Some(replacement);
        Evacuation {
            transition: step.auction(),
            keep_container: true,
        }
    }

    fn wait_for_replacement(
        &self,
        key: &ActualLrpKey,
        instance: &InstanceKey,
        details: &Arc<Running>,
        moment: &Moment,
    ) -> Evacuation {
        let mut step = Steps::of(self);
        if self.ordinary.as_ref().is_some_and(ActualLrp::serves) {
            drop_rows_aside(&mut step, instance);
            return Evacuation {
                transition: step.done(),
                keep_container: false,
            };
        }
        if self.is_suspect(instance) {
            step.remove_suspect();
        }
        let fresh = evacuating(key, instance, details, moment);
        match &self.evacuating {
            Some(known) if known.is_of(instance) => {
                if known.state != fresh.state {
                    let after = ActualLrp {
                        state: fresh.state,
                        tag: known.tag.next(),
                        ..known.clone()
                    };
                    step.slot.evacuating = Some(after.clone());
                    step.changes.push(Change::Changed {
                        before: known.clone(),
                        after,
                    });
                }
            }
            Some(_) | None => {
                step.remove_evacuating();
                step.insert(fresh);
            }
        }
        let missing = self.ordinary.is_none();
        if missing {
            step.insert(unclaimed(key, moment));
        }
        let transition = if missing { step.auction() } else { step.done() };
        Evacuation {
            transition,
            keep_container: true,
        }
    }
}

fn drop_rows_aside(step: &mut Steps, instance: &InstanceKey) {
    if step
        .slot
        .evacuating
        .as_ref()
        .is_some_and(|row| row.is_of(instance))
    {
        step.remove_evacuating();
    }
    if step.slot.is_suspect(instance) {
        step.remove_suspect();
    }
}

fn evacuating(
    key: &ActualLrpKey,
    instance: &InstanceKey,
    details: &Arc<Running>,
    moment: &Moment,
) -> ActualLrp {
    ActualLrp {
        presence: Presence::Evacuating,
        state: State::Running {
            instance: instance.clone(),
            details: details.clone(),
        },
        tag: ModificationTag::new(format!("{}-evacuating", moment.epoch)),
        ..unclaimed(key, moment)
    }
}
