//! The tasks of an app: one-off commands on its droplet, which Diego runs.

use super::egress::{self, Known};
use super::fault;
use super::pass::{self, Pass};
use crate::controller::Cc;
use crate::db::app::App;
use crate::db::droplet::Droplet;
use crate::db::process::Process;
use crate::db::security_group::Phase;
use crate::db::task::{self, Task, TaskState};
use crate::db::{self, process};
use anyhow::{Context as _, Result};
use cc_rules::recipe::{self, AppSpec, TASKS_DOMAIN};
use wire::bbs::{Action, SecurityGroupRule, SerialAction, TaskCallback, TaskDefinition};

/// Starts a task after its commit. If the BBS cannot be reached, the sync retries.
pub(crate) async fn start(cc: &Cc, task: &Task) {
    if let Err(error) = desire(cc, task).await {
        tracing::warn!(
            task = task.guid,
            error = format!("{error:#}"),
            "task-not-started"
        );
        cc.driver.nudge().nudge();
    }
}

/// Desires a task. A task that can never be desired fails, so that its owner learns the reason.
async fn desire(cc: &Cc, task: &Task) -> Result<()> {
    match try_desire(cc, task).await {
        Err(error) if fault::is_row_wrong(&error) => {
            finish(cc, &task.guid, Some(format!("{error:#}"))).await
        }
        result => result,
    }
}

async fn try_desire(cc: &Cc, task: &Task) -> Result<()> {
    let mut spec = {
        let mut conn = cc.db.read_own().await?;
        let app: App = db::by_guid(&mut conn, &task.app_guid)
            .await?
            .context("the task's app does not exist any more")?;
        let droplet: Droplet = db::by_guid(&mut conn, &task.droplet_guid)
            .await?
            .context("the task's droplet does not exist any more")?;
        let web = process::of_type(&mut conn, &app.guid, "web")
            .await?
            .unwrap_or_default();
        let process = Process {
            memory_in_mb: task.memory_in_mb,
            disk_in_mb: task.disk_in_mb,
            log_rate_limit: task.log_rate_limit,
            ..web
        };
        cc.driver.spec(&mut conn, &app, &process, &droplet).await?
    };
    spec.command.clone_from(&task.command);
    spec.sidecars.clear();
    let callback = format!(
        "{}/internal/v4/tasks/{}/completed",
        cc.settings.internal_url, task.guid
    );
    match cc
        .bbs
        .desire_task(
            &task.guid,
            TASKS_DOMAIN,
            definition(&spec, &task.name, callback)?,
        )
        .await
    {
        Err(error) if error.is_exists() => {}
        result => result?,
    }
    let mut tx = cc.change().await?;
    if let Some(mut task) = db::by_guid::<Task>(&mut tx, &task.guid)
        .await?
        .filter(|task| task.state == TaskState::Pending)
    {
        task.state = TaskState::Running;
        task.touch();
        db::update(&mut tx, &task).await?;
        tx.commit(db::Unrecorded::Consequence).await?;
    }
    Ok(())
}

/// Returns the definition of a task, which is the app's own recipe run once: its set-up, and then its launcher with the task's
/// command.
fn definition(
    spec: &AppSpec,
    name: &str,
    completion_callback_url: String,
) -> Result<TaskDefinition> {
    let lrp = recipe::desired_lrp(spec)?;
    let mut launch = lrp
        .action
        .and_then(|action| action.codependent)
        .and_then(|codependent| codependent.actions.into_iter().next())
        .context("the recipe has no action")?;
    if let Some(run) = &mut launch.run {
        run.log_source = format!("APP/TASK/{name}");
    }
    let steps = lrp.setup.into_iter().chain([launch]).collect();
    Ok(TaskDefinition {
        root_fs: lrp.root_fs,
        environment_variables: lrp.environment_variables,
        action: Some(Action {
            serial: Some(SerialAction {
                actions: steps,
                ..SerialAction::default()
            }),
            ..Action::default()
        }),
        disk_mb: lrp.disk_mb,
        memory_mb: lrp.memory_mb,
        cpu_weight: lrp.cpu_weight,
        log_source: format!("APP/TASK/{name}"),
        log_guid: lrp.log_guid,
        metrics_guid: lrp.metrics_guid,
        completion_callback_url,
        egress_rules: lrp.egress_rules,
        cached_dependencies: lrp.cached_dependencies,
        legacy_download_user: lrp.legacy_download_user,
        trusted_system_certificates_path: lrp.trusted_system_certificates_path,
        network: lrp.network,
        placement_tags: lrp.placement_tags,
        max_pids: lrp.max_pids,
        certificate_properties: lrp.certificate_properties,
        log_rate_limit: lrp.log_rate_limit,
        metric_tags: recipe::identity_tags(&spec.live.identity),
        volume_mounted_files: lrp.volume_mounted_files,
        ..TaskDefinition::default()
    })
}

/// Handles the BBS's callback.
pub(crate) async fn completed(cc: &Cc, guid: &str, callback: &TaskCallback) -> Result<()> {
    finish(
        cc,
        guid,
        callback.failed.then(|| callback.failure_reason.clone()),
    )
    .await
}

async fn finish(cc: &Cc, guid: &str, failure: Option<String>) -> Result<()> {
    let mut tx = cc.change().await?;
    let Some(mut task) = db::by_guid::<Task>(&mut tx, guid)
        .await?
        .filter(|task| !task.state.has_ended())
    else {
        return Ok(());
    };
    task.state = match failure {
        Some(_) => TaskState::Failed,
        None => TaskState::Succeeded,
    };
    task.failure_reason = failure;
    task.touch();
    db::update(&mut tx, &task).await?;
    tx.commit(db::Unrecorded::Consequence).await?;
    Ok(())
}

/// Reconciles the open tasks as part of the sync. A task that the BBS does not have is started if it is pending, and failed
/// otherwise. A task with which this fails is skipped and reported. Tasks of the BBS that are not open here are cancelled.
/// `listed` is the time at which the BBS's `tasks` were requested; a task that changed later may not be among them yet.
pub(crate) async fn repair(cc: &Cc, tasks: &Known, listed: i64) -> Result<()> {
    let open = {
        let mut conn = cc.db.read_own().await?;
        task::open(&mut conn).await?
    };
    let mut pass = Pass::new(&open.broken);
    for task in &open.rows {
        let has = tasks.get(&task.guid).map(Vec::as_slice);
        pass.note(&task.guid, repair_one(cc, task, has, listed).await);
    }
    if pass.knows_all_guids() {
        let open = open.rows.iter().map(|task| task.guid.as_str());
        pass.cancel_unknown(cc, tasks, open).await;
    }
    pass.end(cc, "tasks")
}

/// Reconciles one task. `has` contains the rules of the BBS's task.
async fn repair_one(
    cc: &Cc,
    task: &Task,
    has: Option<&[SecurityGroupRule]>,
    listed: i64,
) -> Result<()> {
    match (task.state, has) {
        (TaskState::Canceling, Some(_)) => pass::cancel(cc, &task.guid).await,
        (_, Some(rules)) => {
            egress::follow(cc, &task.guid, &task.app_guid, Phase::Running, rules).await
        }
        (TaskState::Pending, None) => desire(cc, task).await,
        (_, None) if task.updated_at < listed => {
            let reason = "Unable to determine completion status".to_owned();
            finish(cc, &task.guid, Some(reason)).await
        }
        (_, None) => Ok(()),
    }
}
