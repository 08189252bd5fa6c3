//! Models tasks: processes that run once and whose result is delivered.
//!
//! ```text
//! Pending ──start──▶ Running ──complete, fail, cancel──▶ Completed ──resolving──▶ Resolving ──delete──▶ gone
//!    ▲  └─────────── fail, cancel, rejected too often ───▶ │  ▲                       │
//!    └── rejected ──────┘                                  └──┴── not delivered ──────┘
//! ```

use crate::converge::CellState;
use crate::{Nanos, SECOND};
use ids::{CellId, Domain, TaskGuid};

/// The number of rejections at which a task fails.
pub const MAX_REJECTIONS: i32 = 3;
/// The time after which a pending task that no cell could start fails.
pub const EXPIRE_PENDING: Nanos = 1800 * SECOND;
/// The time after which a completed task without a callback is deleted. A task whose callback is not delivered is deleted after
/// [`EXPIRE_UNDELIVERED`].
pub const EXPIRE_COMPLETED: Nanos = 120 * SECOND;
pub const EXPIRE_UNDELIVERED: Nanos = 1800 * SECOND;
/// The time without progress after which convergence repeats the next step of a task.
pub const KICK: Nanos = 30 * SECOND;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub guid: TaskGuid,
    pub domain: Domain,
    pub created_at: Nanos,
    pub updated_at: Nanos,
    /// The time of the first completion; zero before it.
    pub first_completed_at: Nanos,
    pub state: TaskState,
    pub rejection_count: i32,
    pub rejection_reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    Pending,
    Running {
        cell_id: CellId,
    },
    Completed {
        cell_id: Option<CellId>,
        outcome: Outcome,
    },
    /// The result is being delivered.
    Resolving {
        cell_id: Option<CellId>,
        outcome: Outcome,
    },
}

/// The outcome of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub failed: bool,
    pub failure_reason: String,
    pub result: String,
}

impl Outcome {
    pub fn failure(reason: impl Into<String>) -> Self {
        Self {
            failed: true,
            failure_reason: reason.into(),
            result: String::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    #[error("Cannot transition from {from} to {to}")]
    Transition {
        from: &'static str,
        to: &'static str,
    },
    #[error("Running on cell {actual} not {asked}")]
    DifferentCell { actual: CellId, asked: CellId },
}

impl TaskState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running { .. } => "Running",
            Self::Completed { .. } => "Completed",
            Self::Resolving { .. } => "Resolving",
        }
    }

    pub fn cell_id(&self) -> Option<&CellId> {
        match self {
            Self::Pending => None,
            Self::Running { cell_id } => Some(cell_id),
            Self::Completed { cell_id, .. } | Self::Resolving { cell_id, .. } => cell_id.as_ref(),
        }
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Completed { outcome, .. } | Self::Resolving { outcome, .. } => Some(outcome),
            Self::Pending | Self::Running { .. } => None,
        }
    }
}

impl Task {
    pub fn new(guid: TaskGuid, domain: Domain, now: Nanos) -> Self {
        Self {
            guid,
            domain,
            created_at: now,
            updated_at: now,
            first_completed_at: 0,
            state: TaskState::Pending,
            rejection_count: 0,
            rejection_reason: String::new(),
        }
    }

    /// Starts the task for a cell. `None` means that the cell already runs it.
    pub fn start(&self, cell_id: &CellId, now: Nanos) -> Result<Option<Self>, TaskError> {
        match &self.state {
            TaskState::Pending => Ok(Some(self.with(
                TaskState::Running {
                    cell_id: cell_id.clone(),
                },
                now,
            ))),
            TaskState::Running { cell_id: same } if same == cell_id => Ok(None),
            _ => Err(self.refuse("Running")),
        }
    }

    /// Completes the task with the outcome that its cell reports.
    pub fn complete(
        &self,
        cell_id: &CellId,
        outcome: Outcome,
        now: Nanos,
    ) -> Result<Self, TaskError> {
        match &self.state {
            TaskState::Running { cell_id: same } if same == cell_id => {
                Ok(self.completed(outcome, now))
            }
            TaskState::Running { cell_id: actual } => Err(TaskError::DifferentCell {
                actual: actual.clone(),
                asked: cell_id.clone(),
            }),
            _ => Err(self.refuse("Completed")),
        }
    }

    pub fn fail(&self, reason: &str, now: Nanos) -> Result<Self, TaskError> {
        match &self.state {
            TaskState::Pending | TaskState::Running { .. } => {
                Ok(self.completed(Outcome::failure(reason), now))
            }
            _ => Err(self.refuse("Completed")),
        }
    }

    pub fn cancel(&self, now: Nanos) -> Result<Self, TaskError> {
        self.fail("task was cancelled", now)
    }

    /// Rejects the task, because no cell accepted it or because its cell could not begin.
    pub fn reject(&self, reason: &str, now: Nanos) -> Result<Self, TaskError> {
        let (TaskState::Pending | TaskState::Running { .. }) = &self.state else {
            return Err(self.refuse("Pending"));
        };
        let rejected = Self {
            rejection_count: self.rejection_count + 1,
            rejection_reason: reason.to_owned(),
            ..self.clone()
        };
        if rejected.rejection_count >= MAX_REJECTIONS {
            return rejected.fail(reason, now);
        }
        Ok(rejected.with(TaskState::Pending, now))
    }

    /// Begins the delivery of the result.
    pub fn resolve(&self, now: Nanos) -> Result<Self, TaskError> {
        match &self.state {
            TaskState::Completed { cell_id, outcome } => Ok(self.with(
                TaskState::Resolving {
                    cell_id: cell_id.clone(),
                    outcome: outcome.clone(),
                },
                now,
            )),
            _ => Err(self.refuse("Resolving")),
        }
    }

    /// Returns the task to its completed state, because its result could not be delivered.
    pub fn unresolve(&self, now: Nanos) -> Result<Self, TaskError> {
        match &self.state {
            TaskState::Resolving { cell_id, outcome } => Ok(self.with(
                TaskState::Completed {
                    cell_id: cell_id.clone(),
                    outcome: outcome.clone(),
                },
                now,
            )),
            _ => Err(self.refuse("Completed")),
        }
    }

    pub fn check_deletable(&self) -> Result<(), TaskError> {
        match self.state {
            TaskState::Resolving { .. } => Ok(()),
            _ => Err(self.refuse("Resolving")),
        }
    }

    /// Returns the step that the passage of time or a lost cell requires. `has_callback` means that the result must be delivered
    /// to a URL.
    pub fn converge(
        &self,
        has_callback: bool,
        cells: impl Fn(&CellId) -> CellState,
        cell_appeared: bool,
        now: Nanos,
    ) -> Option<TaskStep> {
        let idle = now - self.updated_at;
        match &self.state {
            TaskState::Pending if now - self.created_at >= EXPIRE_PENDING => {
                Some(TaskStep::Fail("not started within time limit"))
            }
            TaskState::Pending => (idle >= KICK || (cell_appeared && self.rejection_count > 0))
                .then_some(TaskStep::Auction),
            TaskState::Running { cell_id } => (cells(cell_id) == CellState::Lost)
                .then_some(TaskStep::Fail("cell disappeared before completion")),
            TaskState::Completed { .. } => {
                let limit = if has_callback {
                    EXPIRE_UNDELIVERED
                } else {
                    EXPIRE_COMPLETED
                };
                if now - self.first_completed_at >= limit {
                    Some(TaskStep::Delete)
                } else {
                    (has_callback && idle >= KICK).then_some(TaskStep::Deliver)
                }
            }
            TaskState::Resolving { .. } => (idle >= KICK).then_some(TaskStep::Unresolve),
        }
    }

    fn completed(&self, outcome: Outcome, now: Nanos) -> Self {
        let state = TaskState::Completed {
            cell_id: self.state.cell_id().cloned(),
            outcome,
        };
        Self {
            first_completed_at: now,
            ..self.with(state, now)
        }
    }

    fn with(&self, state: TaskState, now: Nanos) -> Self {
        Self {
            state,
            updated_at: now,
            ..self.clone()
        }
    }

    /// Checks that the task may be changed, which means that it has not ended.
    pub fn check_changeable(&self) -> Result<(), TaskError> {
        match self.state {
            TaskState::Pending | TaskState::Running { .. } => Ok(()),
            TaskState::Completed { .. } | TaskState::Resolving { .. } => {
                Err(self.refuse("Running"))
            }
        }
    }

    fn refuse(&self, to: &'static str) -> TaskError {
        TaskError::Transition {
            from: self.state.name(),
            to,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStep {
    Auction,
    Fail(&'static str),
    /// Call the task's callback, perhaps again.
    Deliver,
    Unresolve,
    Delete,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        Task::new("t".into(), "d".into(), 0)
    }
    fn cell(id: &str) -> CellId {
        id.into()
    }

    #[test]
    fn life() {
        let running = task().start(&cell("a"), 1).unwrap().unwrap();
        assert_eq!(running.start(&cell("a"), 2), Ok(None));
        assert_eq!(
            running.start(&cell("b"), 2).unwrap_err().to_string(),
            "Cannot transition from Running to Running"
        );
        assert_eq!(
            running
                .complete(&cell("b"), Outcome::default(), 2)
                .unwrap_err()
                .to_string(),
            "Running on cell a not b"
        );
        let done = running
            .complete(
                &cell("a"),
                Outcome {
                    result: "r".into(),
                    ..Outcome::default()
                },
                3,
            )
            .unwrap();
        assert_eq!(
            (done.first_completed_at, done.state.cell_id()),
            (3, Some(&cell("a")))
        );
        assert_eq!(
            done.complete(&cell("a"), Outcome::default(), 4)
                .unwrap_err()
                .to_string(),
            "Cannot transition from Completed to Completed"
        );
        assert!(done.check_deletable().is_err());
        let resolving = done.resolve(5).unwrap();
        assert!(resolving.check_deletable().is_ok());
        assert_eq!(
            resolving.cancel(6).unwrap_err().to_string(),
            "Cannot transition from Resolving to Completed"
        );
        assert_eq!(resolving.unresolve(6).unwrap().state, done.state);
    }

    #[test]
    fn the_third_rejection_fails_it() {
        let once = task().reject("no", 1).unwrap();
        let twice = once
            .start(&cell("a"), 2)
            .unwrap()
            .unwrap()
            .reject("no", 3)
            .unwrap();
        assert_eq!(
            (twice.state.clone(), twice.rejection_count),
            (TaskState::Pending, 2)
        );
        let failed = twice.reject("insufficient resources: memory", 4).unwrap();
        assert_eq!(
            failed.state.outcome().unwrap().failure_reason,
            "insufficient resources: memory"
        );
    }

    #[test]
    fn convergence() {
        let check = |task: &Task, callback, lost: bool, now: Nanos, want: Option<TaskStep>| {
            let cells = |_: &CellId| {
                if lost {
                    CellState::Lost
                } else {
                    CellState::Present
                }
            };
            assert_eq!(
                task.converge(callback, cells, false, now * SECOND),
                want,
                "{} at {now}",
                task.state.name()
            );
        };
        let pending = task();
        check(&pending, false, false, 29, None);
        check(&pending, false, false, 30, Some(TaskStep::Auction));
        check(
            &pending,
            false,
            false,
            1800,
            Some(TaskStep::Fail("not started within time limit")),
        );
        let running = pending.start(&cell("a"), 0).unwrap().unwrap();
        check(&running, false, false, 9999, None);
        check(
            &running,
            false,
            true,
            0,
            Some(TaskStep::Fail("cell disappeared before completion")),
        );
        let done = running.complete(&cell("a"), Outcome::default(), 0).unwrap();
        check(&done, true, false, 30, Some(TaskStep::Deliver));
        check(&done, false, false, 119, None);
        check(&done, false, false, 120, Some(TaskStep::Delete));
        check(&done, true, false, 121, Some(TaskStep::Deliver));
        check(&done, true, false, 1800, Some(TaskStep::Delete));
        check(
            &done.resolve(0).unwrap(),
            true,
            false,
            30,
            Some(TaskStep::Unresolve),
        );
    }
}
