//! The life of one task: it is started at the BBS, run in its container, and completed with its result or the reason of its
//! failure.

use crate::cell::Cell;
use crate::instance::container::{Container, Phase};
use crate::instance::create::{self, Made};
use crate::instance::egress;
use crate::instance::logs::Logs;
use crate::instance::lrp::{destroy, record_of};
use crate::instance::metrics;
use crate::instance::record::{self, ContainerDir};
use crate::instance::report::{self, until_answered};
use crate::instance::spec::Definition;
use crate::instance::steps::{StepError, StepResult, Steps};
use anyhow::Result;
use cell_plan::credentials;
use clients::loggregator::Stream;
use kit::backoff::Backoff;
use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use wire::bbs::{
    Action, CompleteTaskRequest, ParallelAction, SecurityGroupRule, Task, TaskDefinition,
};

/// The maximum size of a result file in bytes.
const MAX_RESULT: u64 = 10 << 10;
/// How long the BBS may be unreachable before a result is dropped.
const COMPLETE_LIMIT: Duration = Duration::from_secs(600);

/// Runs a task that `/work` has reserved, from its reservation to its end.
pub(crate) async fn start(cell: Arc<Cell>, container: Arc<Container>) {
    let Some(task) = begin(&cell, &container).await else {
        return;
    };
    let definition = Definition::from(&task);
    let logs = create::logs(&cell, &container, &definition);
    let made = async {
        let dir = ContainerDir::create(
            &cell.settings.work_dir,
            &container.guid,
            &record_of(&container),
            &task,
        )?;
        let made = create::create(&cell, &container, &definition, &dir, &logs).await?;
        anyhow::Ok((dir, made))
    };
    match made.await {
        Ok((dir, made)) => {
            Running {
                cell: &cell,
                container: &container,
                task,
                definition,
                logs,
                made,
            }
            .run(dir, BTreeSet::new())
            .await
        }
        // Another cell may be able to run it. The BBS decides how often it is tried.
        Err(error) => {
            let reason = report::cut(&format!("failed to create container: {error:#}"));
            let answer = until_answered(COMPLETE_LIMIT, || {
                cell.bbs.reject_task(&container.guid, &reason)
            })
            .await;
            report::log_refusal(&container, "task-not-rejected", answer);
        }
    }
    record::remove(&cell.settings.work_dir, &container.guid);
}

/// Continues a task whose container exists, after a restart of the rep.
pub(crate) async fn resume(
    cell: Arc<Cell>,
    container: Arc<Container>,
    existing: garden::api::Container,
) {
    let opened = ContainerDir::open::<TaskDefinition>(&cell.settings.work_dir, &container.guid);
    let made = opened.and_then(|(dir, task)| {
        let definition = Definition::from(&task);
        let made = create::adopted(&cell, &container, &definition, &dir, &existing)?;
        Ok((dir, task, definition, made))
    });
    match made {
        Ok((dir, task, definition, made)) => {
            container.set_phase(Phase::Created);
            let logs = create::logs(&cell, &container, &definition);
            let started = existing.processes.into_keys().collect();
            Running {
                cell: &cell,
                container: &container,
                task,
                definition,
                logs,
                made,
            }
            .run(dir, started)
            .await;
        }
        Err(error) => {
            tracing::warn!(
                container = container.guid,
                error = format!("{error:#}"),
                "container-not-adopted"
            );
            destroy(&cell, &container.guid).await;
            complete(
                &cell,
                &container,
                Err(format!("container could not be adopted: {error:#}")),
            )
            .await;
        }
    }
    record::remove(&cell.settings.work_dir, &container.guid);
}

/// Reports to the BBS that the task starts here, and fetches it. Returns `None` if this cell should not run it.
async fn begin(cell: &Cell, container: &Container) -> Option<TaskDefinition> {
    let limit = cell.settings.timing.claim_limit;
    let started = tokio::select! {
        () = container.stop.cancelled() => return None,
        answer = until_answered(limit, || cell.bbs.start_task(&container.guid, &cell.settings.cell_id)) => answer?,
    };
    match started {
        Ok(true) => {}
        Ok(false) => return None,
        Err(error) => {
            tracing::info!(
                container = container.guid,
                error = format!("{:#}", anyhow::Error::from(error)),
                "task-start-refused"
            );
            return None;
        }
    }
    match until_answered(limit, || cell.bbs.task(&container.guid)).await? {
        Ok(Task {
            task_definition: Some(definition),
            ..
        }) => Some(definition),
        Ok(_) => None,
        Err(error) => {
            tracing::info!(
                container = container.guid,
                error = format!("{:#}", anyhow::Error::from(error)),
                "task-not-fetched"
            );
            None
        }
    }
}

/// A task whose container exists.
struct Running<'a> {
    cell: &'a Arc<Cell>,
    container: &'a Arc<Container>,
    task: TaskDefinition,
    definition: Definition,
    logs: Logs,
    made: Made,
}

impl Running<'_> {
    async fn run(self, dir: ContainerDir, started: BTreeSet<String>) {
        self.container.set_phase(Phase::Running);
        let dir = Arc::new(dir);
        let steps = Steps {
            cell: self.cell.clone(),
            handle: self.container.guid.clone(),
            logs: self.logs.clone(),
            env: self.made.env.clone(),
            dir: dir.clone(),
            disk: self.definition.download_limit(),
            started: Arc::new(started),
        };
        let outcome = tokio::select! {
            outcome = self.outcome(&steps) => outcome,
            reason = self.container.failed() => Some(Err(reason)),
            () = metrics::emit(self.cell, self.container, &self.logs, &self.definition) => None,
            () = self.rotate() => None,
            () = self.follow(&dir) => None,
        };
        if let Some(outcome) = outcome {
            complete(self.cell, self.container, outcome).await;
        }
        self.logs.cell(
            Stream::Out,
            format!(
                "Cell {} destroying container for instance {}",
                self.cell.settings.cell_id, self.container.guid
            ),
        );
        destroy(self.cell, &self.container.guid).await;
        self.logs.cell(
            Stream::Out,
            format!(
                "Cell {} successfully destroyed container for instance {}",
                self.cell.settings.cell_id, self.container.guid
            ),
        );
    }

    /// Returns the result or the reason of the failure. Returns `None` if the task was cancelled, because the BBS knows that
    /// already.
    async fn outcome(&self, steps: &Steps) -> Option<Result<String, String>> {
        match self.actions(steps).await {
            Ok(()) => Some(self.result().await),
            Err(StepError::Failed(reason)) => Some(Err(reason)),
            Err(StepError::Cancelled) => None,
        }
    }

    async fn actions(&self, steps: &Steps) -> StepResult {
        if let Err(error) = self.write_credentials() {
            return Err(StepError::Failed(format!(
                "failed to create credentials: {error:#}"
            )));
        }
        let (source, cancel) = (self.definition.log_source.as_str(), &self.container.stop);
        let layers = Action {
            parallel: Some(ParallelAction {
                actions: self.definition.layer_downloads(),
                log_source: String::new(),
            }),
            ..Action::default()
        };
        steps
            .perform(&layers, "layers".to_owned(), source, cancel.clone())
            .await?;
        match &self.task.action {
            Some(action) => {
                steps
                    .perform(action, "action".to_owned(), source, cancel.clone())
                    .await
            }
            None => Ok(()),
        }
    }

    async fn result(&self) -> Result<String, String> {
        if self.task.result_file.is_empty() {
            return Ok(String::new());
        }
        match self
            .cell
            .garden
            .read_file(&self.container.guid, &self.task.result_file, MAX_RESULT + 1)
            .await
        {
            Ok(content) if content.len() as u64 > MAX_RESULT => Err(format!(
                "result file size exceeds allowed limit of {MAX_RESULT} bytes"
            )),
            Ok(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
            Err(error) => Err(format!("failed to fetch result: {error:#}")),
        }
    }

    fn write_credentials(&self) -> Result<()> {
        let plan = credentials::identity(
            &self.container.guid,
            &self.definition.organizational_units,
            self.made.ip,
        );
        self.made
            .files
            .write_identity(&self.cell.issue(&plan)?, false)
    }

    /// Applies changes that the BBS makes to the egress rules of a running task. It never returns.
    async fn follow(&self, dir: &ContainerDir) {
        let mut applied = self.task.egress_rules.clone();
        let mut offered = self.container.egress.subscribe();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            let wanted = offered.borrow_and_update().clone();
            if let Some(wanted) = wanted {
                while let Err(error) = self.apply_changes(dir, &mut applied, &wanted).await {
                    tracing::warn!(
                        container = self.container.guid,
                        error = format!("{error:#}"),
                        "change-of-task-not-applied"
                    );
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                backoff.reset();
            }
            if offered.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    async fn apply_changes(
        &self,
        dir: &ContainerDir,
        applied: &mut Vec<SecurityGroupRule>,
        wanted: &[SecurityGroupRule],
    ) -> Result<()> {
        if egress::apply(self.cell, self.container, applied, wanted).await? {
            dir.save_definition(&TaskDefinition {
                egress_rules: wanted.to_vec(),
                ..self.task.clone()
            })?;
        }
        Ok(())
    }

    /// Issues new certificates before the old ones expire. It never returns.
    async fn rotate(&self) {
        loop {
            tokio::time::sleep(credentials::rotate_after(self.cell.issuer.validity())).await;
            if let Err(error) = self.write_credentials() {
                tracing::error!(
                    container = self.container.guid,
                    error = format!("{error:#}"),
                    "credentials-not-written"
                );
            }
        }
    }
}

async fn complete(cell: &Cell, container: &Container, outcome: Result<String, String>) {
    let (result, reason) = match outcome {
        Ok(result) => (result, None),
        Err(reason) => (String::new(), Some(report::cut(&reason))),
    };
    let request = CompleteTaskRequest {
        task_guid: container.guid.clone(),
        cell_id: cell.settings.cell_id.clone(),
        failed: reason.is_some(),
        failure_reason: reason.unwrap_or_default(),
        result,
    };
    let answer = until_answered(COMPLETE_LIMIT, || cell.bbs.complete_task(&request)).await;
    report::log_refusal(container, "task-not-completed", answer);
}
