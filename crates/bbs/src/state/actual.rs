//! Actual LRPs: the reports and requests of reps, of the auctioneer and of operators. Each call is one transition of one slot.

use super::{State, crashed, moment, now};
use crate::failure::Failure;
use crate::journal::{Effect, Journal};
use ids::ProcessGuid;
use lrp::evacuation::Wanted;
use lrp::{ActualLrp, ActualLrpKey, CellState, InstanceKey, Refusal, Running, Slot, Transition};
use std::sync::Arc;

impl State {
    pub(crate) fn claim(
        &mut self,
        journal: &mut Journal,
        process_guid: &ProcessGuid,
        index: i32,
        instance: &InstanceKey,
    ) -> Result<(), Failure> {
        self.transition(journal, process_guid, index, |slot| {
            slot.claim(instance, &moment())
        })
    }

    pub(crate) fn start(
        &mut self,
        journal: &mut Journal,
        key: &ActualLrpKey,
        instance: &InstanceKey,
        details: Running,
    ) -> Result<(), Failure> {
        let details = Arc::new(details);
        self.transition(journal, &key.process_guid, key.index, |slot| {
            slot.start(key, instance, &details, &moment())
        })
    }

    pub(crate) fn crash(
        &mut self,
        journal: &mut Journal,
        key: &ActualLrpKey,
        instance: &InstanceKey,
        reason: &str,
    ) -> Result<(), Failure> {
        let policy = self.policy;
        self.transition(journal, &key.process_guid, key.index, |slot| {
            slot.crash(instance, reason, &policy, &moment())
        })
    }

    /// Records that no cell was found for the instance.
    pub(crate) fn fail(
        &mut self,
        journal: &mut Journal,
        key: &ActualLrpKey,
        placement_error: &str,
    ) -> Result<(), Failure> {
        self.transition(journal, &key.process_guid, key.index, |slot| {
            slot.fail(placement_error, &moment())
        })
    }

    /// Removes an instance whose container is gone. If its index is wanted, a new instance is started at once.
    pub(crate) fn remove(
        &mut self,
        journal: &mut Journal,
        process_guid: &ProcessGuid,
        index: i32,
        instance: Option<&InstanceKey>,
    ) -> Result<(), Failure> {
        self.transition(journal, process_guid, index, |slot| slot.remove(instance))?;
        self.ensure_row(journal, process_guid, index);
        Ok(())
    }

    /// Stops whatever runs for the index, at the request of an operator. A wanted index starts again after that.
    pub(crate) fn retire_actual(
        &mut self,
        journal: &mut Journal,
        key: &ActualLrpKey,
    ) -> Result<(), Failure> {
        if self.slot(&key.process_guid, key.index).is_none() {
            return Err(Failure::not_found());
        }
        self.retire(journal, &key.process_guid, key.index);
        self.ensure_row(journal, &key.process_guid, key.index);
        Ok(())
    }

    pub(super) fn retire(&mut self, journal: &mut Journal, process_guid: &ProcessGuid, index: i32) {
        let Some(slot) = self.slot(process_guid, index) else {
            return;
        };
        let now = now();
        let retirement = slot.retire(|cell| self.cells.state(cell, now) != CellState::Lost);
        let stops = retirement
            .stop
            .into_iter()
            .map(|instance| Effect::StopLrp(process_guid.clone(), instance));
        journal.effects.extend(stops);
        self.apply(journal, process_guid, index, retirement.transition);
    }

    pub(crate) fn remove_evacuating(
        &mut self,
        journal: &mut Journal,
        key: &ActualLrpKey,
        instance: &InstanceKey,
    ) -> Result<(), Failure> {
        self.transition(journal, &key.process_guid, key.index, |slot| {
            slot.remove_evacuating(instance)
        })
    }

    pub(crate) fn evacuate_claimed(
        &mut self,
        journal: &mut Journal,
        key: &ActualLrpKey,
        instance: &InstanceKey,
    ) -> Result<(), Failure> {
        self.transition(journal, &key.process_guid, key.index, |slot| {
            Ok(slot.evacuate_claimed(instance, &moment()))
        })
    }

    pub(crate) fn evacuate_crashed(
        &mut self,
        journal: &mut Journal,
        key: &ActualLrpKey,
        instance: &InstanceKey,
        reason: &str,
    ) -> Result<(), Failure> {
        let policy = self.policy;
        self.transition(journal, &key.process_guid, key.index, |slot| {
            Ok(slot.evacuate_crashed(instance, reason, &policy, &moment()))
        })
    }

    pub(crate) fn evacuate_stopped(
        &mut self,
        journal: &mut Journal,
        key: &ActualLrpKey,
        instance: &InstanceKey,
    ) -> Result<(), Failure> {
        self.transition(journal, &key.process_guid, key.index, |slot| {
            Ok(slot.evacuate_stopped(instance))
        })?;
        self.ensure_row(journal, &key.process_guid, key.index);
        Ok(())
    }

    /// Records that a draining cell still runs the instance. Returns whether the cell keeps the container.
    pub(crate) fn evacuate_running(
        &mut self,
        journal: &mut Journal,
        key: &ActualLrpKey,
        instance: &InstanceKey,
        details: Running,
    ) -> Result<bool, Failure> {
        let slot = self
            .slot(&key.process_guid, key.index)
            .cloned()
            .unwrap_or_default();
        let wanted = self.wanted(key);
        let evacuation =
            slot.evacuate_running(key, instance, &Arc::new(details), wanted, &moment());
        self.apply(journal, &key.process_guid, key.index, evacuation.transition);
        Ok(evacuation.keep_container)
    }

    fn wanted(&self, key: &ActualLrpKey) -> Wanted {
        let Some(desired) = self
            .desired
            .get(&key.process_guid)
            .filter(|d| d.core.wants(key.index))
        else {
            return Wanted::No;
        };
        let runs = |index| {
            self.slot(&key.process_guid, index)
                .and_then(|s| s.ordinary.as_ref())
                .is_some_and(|row: &ActualLrp| row.running().is_some())
        };
        Wanted::new(
            desired.core.update_strategy,
            (0..desired.core.instances).all(runs),
        )
    }

    fn transition(
        &mut self,
        journal: &mut Journal,
        process_guid: &ProcessGuid,
        index: i32,
        decide: impl FnOnce(&Slot) -> Result<Transition, Refusal>,
    ) -> Result<(), Failure> {
        let transition = match self.slot(process_guid, index) {
            Some(slot) => decide(slot)?,
            None => decide(&Slot::default())?,
        };
        for row in transition.changes.iter().filter_map(crashed) {
            tracing::info!(process_guid = %row.key.process_guid, index = row.key.index, crash_count = row.crash_count, next = row.state.name(), reason = row.crash_reason, "lrp-crashed");
        }
        self.apply(journal, process_guid, index, transition);
        Ok(())
    }
}
