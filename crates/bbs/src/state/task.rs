//! Tasks: the transitions desire, start, complete, fail, cancel, reject, resolve and delete.

use super::{State, TaskRecord, now};
use crate::failure::Failure;
use crate::journal::{Effect, Journal, Publication, Write};
use crate::{convert, validate};
use ids::{CellId, TaskGuid};
use lrp::task::Outcome;
use lrp::{CellState, Nanos, Task, TaskState};
use std::collections::BTreeSet;
use std::sync::Arc;
use wire::bbs as m;

impl State {
    pub(crate) fn desire_task(
        &mut self,
        journal: &mut Journal,
        guid: &str,
        domain: &str,
        definition: m::TaskDefinition,
    ) -> Result<(), Failure> {
        validate::task(guid, domain, &definition)?;
        if self.tasks.contains_key(guid) {
            return Err(Failure::exists());
        }
        let task = Task::new(guid.into(), domain.into(), now());
        let wire = Arc::new(convert::task(&task, &definition));
        journal
            .writes
            .push(Write::Task(task.guid.clone(), Some(wire.clone())));
        journal
            .publications
            .push(Publication::TaskCreated(wire.clone()));
        journal.effects.push(Effect::AuctionTask(task.guid.clone()));
        self.tasks
            .insert(task.guid.clone(), TaskRecord { task, wire });
        Ok(())
    }

    /// Assigns the task to the cell. Returns whether the cell should run it (it may already run it).
    pub(crate) fn start_task(
        &mut self,
        journal: &mut Journal,
        guid: &str,
        cell_id: &str,
    ) -> Result<bool, Failure> {
        validate::present(cell_id, "cell_id")?;
        match self.task(guid)?.start(&cell_id.into(), now())? {
            Some(started) => self.advance_task(journal, started).map(|()| true),
            None => Ok(false),
        }
    }

    pub(crate) fn complete_task(
        &mut self,
        journal: &mut Journal,
        guid: &str,
        cell_id: &str,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let completed = self.task(guid)?.complete(&cell_id.into(), outcome, now())?;
        self.advance_task(journal, completed)
    }

    pub(crate) fn fail_task(
        &mut self,
        journal: &mut Journal,
        guid: &str,
        reason: &str,
    ) -> Result<(), Failure> {
        let failed = self.task(guid)?.fail(reason, now())?;
        self.advance_task(journal, failed)
    }

    pub(crate) fn cancel_task(&mut self, journal: &mut Journal, guid: &str) -> Result<(), Failure> {
        let task = self.task(guid)?;
        let (cancelled, cell) = (task.cancel(now())?, task.state.cell_id().cloned());
        journal
            .effects
            .extend(cell.map(|cell| Effect::CancelTask(cancelled.guid.clone(), cell)));
        self.advance_task(journal, cancelled)
    }

    /// Replaces the egress rules of a task. Its cell reads the new rules when it looks at its tasks again.
    pub(crate) fn update_task(
        &mut self,
        journal: &mut Journal,
        guid: &str,
        egress: m::EgressUpdate,
    ) -> Result<(), Failure> {
        validate::egress_update(&egress)?;
        let task = self.task(guid)?;
        task.check_changeable()?;
        let task = task.clone();
        let Some(record) = self.tasks.get_mut(guid) else {
            return Err(Failure::not_found());
        };
        let mut wire = m::Task::clone(&record.wire);
        let definition = wire.task_definition.get_or_insert_default();
        if definition.egress_rules == egress.rules {
            return Ok(());
        }
        definition.egress_rules = egress.rules;
        store_task(journal, record, task, Arc::new(wire));
        Ok(())
    }

    pub(crate) fn reject_task(
        &mut self,
        journal: &mut Journal,
        guid: &str,
        reason: &str,
    ) -> Result<(), Failure> {
        let rejected = self.task(guid)?.reject(reason, now())?;
        tracing::info!(
            task_guid = guid,
            reason,
            count = rejected.rejection_count,
            "task-rejected"
        );
        self.advance_task(journal, rejected)
    }

    pub(crate) fn resolve_task(
        &mut self,
        journal: &mut Journal,
        guid: &str,
    ) -> Result<(), Failure> {
        let resolving = self.task(guid)?.resolve(now())?;
        self.advance_task(journal, resolving)
    }

    /// Marks the task as completed again, because its result could not be delivered. The delivery will be retried.
    pub(crate) fn unresolve_task(
        &mut self,
        journal: &mut Journal,
        guid: &str,
    ) -> Result<(), Failure> {
        let completed = self.task(guid)?.unresolve(now())?;
        self.replace_task(journal, completed);
        Ok(())
    }

    pub(crate) fn delete_task(&mut self, journal: &mut Journal, guid: &str) -> Result<(), Failure> {
        self.task(guid)?.check_deletable()?;
        self.drop_task(journal, guid);
        Ok(())
    }

    pub(super) fn drop_task(&mut self, journal: &mut Journal, guid: &str) {
        if let Some((guid, record)) = self.tasks.remove_entry(guid) {
            journal.writes.push(Write::Task(guid, None));
            journal
                .publications
                .push(Publication::TaskRemoved(record.wire));
        }
    }

    /// Returns the auction requests for those of the wanted tasks that are still pending.
    pub(crate) fn task_auctions(
        &self,
        wanted: &BTreeSet<TaskGuid>,
    ) -> Vec<wire::rep::TaskStartRequest> {
        let pending = wanted
            .iter()
            .filter_map(|guid| self.tasks.get(guid))
            .filter(|r| r.task.state == TaskState::Pending);
        pending
            .filter_map(|record| {
                Some(start_request(
                    &record.task,
                    record.wire.task_definition.as_ref()?,
                ))
            })
            .collect()
    }

    /// Requests auctions for pending tasks, and starts interrupted deliveries again.
    pub(super) fn resume_tasks(&mut self, journal: &mut Journal) {
        let pending = self
            .tasks
            .values()
            .filter(|r| r.task.state == TaskState::Pending);
        journal
            .effects
            .extend(pending.map(|r| Effect::AuctionTask(r.task.guid.clone())));
        let undelivered = self
            .tasks
            .values()
            .filter(|r| has_callback(r) && r.task.state.outcome().is_some());
        for guid in undelivered.map(|r| r.task.guid.clone()).collect::<Vec<_>>() {
            // The transition is refused if the delivery had not begun.
            let _ = self.unresolve_task(journal, &guid);
            journal.effects.push(Effect::DeliverTask(guid));
        }
    }

    /// Makes one pass over the tasks. Returns the number of tasks whose next step was repeated, and of those that were deleted.
    pub(super) fn converge_tasks(
        &mut self,
        journal: &mut Journal,
        cell_appeared: bool,
        now: Nanos,
    ) -> (u64, u64) {
        use lrp::task::TaskStep;
        let cells = |cell: &CellId| -> CellState { self.cells.state(cell, now) };
        let due = |r: &TaskRecord| {
            Some((
                r.task.guid.clone(),
                r.task
                    .converge(has_callback(r), cells, cell_appeared, now)?,
            ))
        };
        let steps: Vec<(TaskGuid, TaskStep)> = self.tasks.values().filter_map(due).collect();
        let (mut kicked, mut pruned) = (0, 0);
        for (guid, step) in steps {
            match step {
                TaskStep::Auction | TaskStep::Deliver | TaskStep::Unresolve => kicked += 1,
                TaskStep::Delete => pruned += 1,
                TaskStep::Fail(_) => {}
            }
            let applied = match step {
                TaskStep::Auction => {
                    journal.effects.push(Effect::AuctionTask(guid));
                    Ok(())
                }
                TaskStep::Deliver => {
                    journal.effects.push(Effect::DeliverTask(guid));
                    Ok(())
                }
                TaskStep::Fail(reason) => self.fail_task(journal, &guid, reason),
                TaskStep::Unresolve => self.unresolve_task(journal, &guid),
                TaskStep::Delete => {
                    self.drop_task(journal, &guid);
                    Ok(())
                }
            };
            debug_assert!(applied.is_ok(), "a step of convergence is always allowed");
        }
        (kicked, pruned)
    }

    fn task(&self, guid: &str) -> Result<&Task, Failure> {
        Ok(&self.tasks.get(guid).ok_or_else(Failure::not_found)?.task)
    }

    /// Stores a task's next state. If the task has completed, its delivery is requested.
    fn advance_task(&mut self, journal: &mut Journal, task: Task) -> Result<(), Failure> {
        let completed = matches!(task.state, TaskState::Completed { .. });
        let guid = task.guid.clone();
        self.replace_task(journal, task);
        if completed && self.tasks.get(&guid).is_some_and(has_callback) {
            journal.effects.push(Effect::DeliverTask(guid));
        }
        Ok(())
    }

    fn replace_task(&mut self, journal: &mut Journal, task: Task) {
        let Some(record) = self.tasks.get_mut(&task.guid) else {
            return;
        };
        let definition = record.wire.task_definition.clone().unwrap_or_default();
        let wire = Arc::new(convert::task(&task, &definition));
        store_task(journal, record, task, wire);
    }
}

fn store_task(journal: &mut Journal, record: &mut TaskRecord, task: Task, wire: Arc<m::Task>) {
    journal
        .writes
        .push(Write::Task(task.guid.clone(), Some(wire.clone())));
    journal.publications.push(Publication::TaskChanged {
        before: record.wire.clone(),
        after: wire.clone(),
    });
    *record = TaskRecord { task, wire };
}

fn has_callback(record: &TaskRecord) -> bool {
    record
        .wire
        .task_definition
        .as_ref()
        .is_some_and(|d| !d.completion_callback_url.is_empty())
}

fn start_request(task: &Task, definition: &m::TaskDefinition) -> wire::rep::TaskStartRequest {
    wire::rep::Task {
        task_guid: task.guid.to_string(),
        domain: task.domain.to_string(),
        constraint: wire::rep::PlacementConstraint {
            placement_tags: definition.placement_tags.clone(),
            volume_drivers: convert::volume_drivers(&definition.volume_mounts),
            root_fs: definition.root_fs.clone(),
        },
        resource: wire::rep::Resource {
            memory_mb: definition.memory_mb,
            disk_mb: definition.disk_mb,
            max_pids: definition.max_pids,
        },
        state: wire::rep::TaskState::Pending,
        failed: false,
    }
}
