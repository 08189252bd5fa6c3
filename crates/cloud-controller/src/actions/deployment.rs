//! Verbs of deployments: begin, cancel, and apply the steps that the rollout decides.

use super::{app as apps, process as verbs};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::app::App;
use crate::db::deployment::{
    self, Deployment, DeploymentReason, DeploymentState, Options, Strategy,
};
use crate::db::droplet::Droplet;
use crate::db::process::{self, Process};
use crate::db::usage::AppUsage;
use crate::db::{self, Connection, Json};
use crate::diego::rollout::Step;
use crate::error::{ApiError, ApiResult};
use crate::quota::{Meter, Subject};

/// The way in which a droplet is to be deployed.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub strategy: Strategy,
    pub max_in_flight: i64,
    pub options: Options,
}

/// Begins a deployment of a droplet, and marks its first step.
pub(crate) async fn create(
    tx: &mut Change,
    settings: &Settings,
    app: &mut App,
    droplet: &Droplet,
    wanted: Wanted,
) -> ApiResult<Deployment> {
    tx.advance_deployments();
    let previous = app.droplet_guid.clone();
    apps::assign_droplet(tx, settings, app, droplet).await?;
    let mut deployment = Deployment {
        app_guid: app.guid.clone(),
        strategy: wanted.strategy,
        droplet_guid: droplet.guid.clone(),
        previous_droplet_guid: previous,
        max_in_flight: wanted.max_in_flight,
        status_changed_at: crate::clock::now(),
        state: DeploymentState::Finalized,
        reason: DeploymentReason::Deployed,
        ..Deployment::fresh()
    };
    let mut web = process::of_type(tx, &app.guid, "web")
        .await?
        .ok_or_else(|| ApiError::not_found("Process"))?;
    let before = web.clone();
    let meter = Meter::of_app(tx, app).await?;
    let options = &wanted.options;
    deployment.instances_before = web.instances;
    deployment.instances = options.web_instances.unwrap_or(web.instances);
    let (memory, disk, log_rate) = (
        options.memory_in_mb.unwrap_or(web.memory_in_mb),
        options.disk_in_mb.unwrap_or(web.disk_in_mb),
        options
            .log_rate_limit_in_bytes_per_second
            .unwrap_or(web.log_rate_limit),
    );
    (web.memory_in_mb, web.disk_in_mb, web.log_rate_limit) = (memory, disk, log_rate);
    let goal = Process {
        instances: deployment.instances,
        ..web.clone()
    };
    verbs::check_limits(settings, &before, &goal)?;
    super::sidecar::check_room(tx, &web).await?;
    if !app.is_started() {
        web.instances = deployment.instances;
        web.touch();
        db::update(tx, &web).await?;
        apps::start(tx, app).await?;
        db::insert(tx, &deployment).await?;
        return Ok(deployment);
    }
    if let Some(mut active) = deployment::active_of_app(tx, &app.guid).await? {
        deployment.instances_before = active.instances_before;
        deployment.instances = options.web_instances.unwrap_or(active.instances);
        finalize(tx, &mut active, DeploymentReason::Superseded).await?;
    }
    let instances = deployment.instances.min(wanted.max_in_flight);
    let now = crate::clock::now();
    let new = Process {
        guid: crate::clock::guid(),
        created_at: now,
        updated_at: now,
        version: crate::clock::guid(),
        instances,
        ..web
    };
    db::insert(tx, &new).await?;
    let more = at_its_largest(&before, &new, deployment.instances, wanted.max_in_flight);
    meter
        .check_with(tx, Subject::Process, more)
        .await
        .map_err(|error| too_large(error, app))?;
    deployment.options = Json(wanted.options);
    deployment.deploying_process_guid = Some(new.guid.clone());
    deployment.state = DeploymentState::Active;
    deployment.reason = DeploymentReason::Deploying;
    db::insert(tx, &deployment).await?;
    tx.reconcile(new.guid);
    Ok(deployment)
}

/// Returns what the rollout uses beyond its first step, at the moment when all new instances run beside the last old ones.
fn at_its_largest(old: &Process, new: &Process, target: i64, max_in_flight: i64) -> AppUsage {
    let left = old.instances.min(max_in_flight).min(target);
    let sum = |per_old: i64, per_new: i64| {
        let first = old.instances.saturating_mul(per_old) + new.instances.saturating_mul(per_new);
        let last = left.saturating_mul(per_old) + target.saturating_mul(per_new);
        (last - first).max(0)
    };
    AppUsage {
        instances: sum(1, 1),
        memory_in_mb: sum(old.memory_in_mb, new.memory_in_mb),
        log_rate: sum(old.log_rate_limit.max(0), new.log_rate_limit.max(0)),
        ..AppUsage::default()
    }
}

fn too_large(mut error: ApiError, app: &App) -> ApiError {
    for one in &mut error.errors {
        if one.detail.contains("quota_exceeded") || one.detail.contains("limit_exceeded") {
            one.detail.push_str(&format!(
                " for app '{}'. The quota may not be large enough to support rolling deployments or your configured max-in-flight.",
                app.name
            ));
        }
    }
    error
}

/// Requests the end of a deployment, and marks its next step.
pub(crate) async fn cancel(tx: &mut Change, deployment: &mut Deployment) -> ApiResult<()> {
    if deployment.state != DeploymentState::Active {
        return Err(ApiError::unprocessable(format!(
            "Cannot cancel a deployment with status: {} and reason: {}",
            deployment.state, deployment.reason
        )));
    }
    set_reason(deployment, DeploymentReason::Canceling);
    db::update(tx, deployment).await?;
    tx.advance_deployments();
    Ok(())
}

pub(crate) async fn finalize(
    conn: &mut Connection,
    deployment: &mut Deployment,
    reason: DeploymentReason,
) -> ApiResult<()> {
    deployment.state = DeploymentState::Finalized;
    set_reason(deployment, reason);
    db::update(conn, deployment).await?;
    Ok(())
}

fn set_reason(deployment: &mut Deployment, reason: DeploymentReason) {
    deployment.reason = reason;
    deployment.touch();
    deployment.status_changed_at = deployment.updated_at;
}

/// Applies one step of the rollout, as far as the quotas have room for it now, and marks the processes. Returns whether anything
/// changes; if not, the caller drops the change.
pub(crate) async fn apply(
    tx: &mut Change,
    deployment: &mut Deployment,
    new: Process,
    old: Vec<Process>,
    step: Step,
) -> ApiResult<bool> {
    for process in old.iter().chain([&new]) {
        tx.reconcile(&process.guid);
    }
    match step {
        Step::Wait => {}
        Step::Scale {
            new: grown,
            old: left,
        } => {
            if !scale(tx, deployment, new, old, (grown, left)).await? {
                return Ok(false);
            }
        }
        Step::Finish => {
            for process in &old {
                verbs::delete(tx, process).await?;
            }
            finalize(tx, deployment, DeploymentReason::Deployed).await?;
            restart_others(tx, deployment).await?;
        }
        Step::Cancel => {
            let meter = meter(tx, deployment).await?;
            verbs::delete(tx, &new).await?;
            if let Some(newest) = old.into_iter().next_back() {
                restore(tx, &meter, newest, deployment.instances_before).await?;
            }
            if let Some(mut app) = db::by_guid::<App>(tx, &deployment.app_guid).await? {
                app.droplet_guid = deployment
                    .previous_droplet_guid
                    .clone()
                    .or(app.droplet_guid);
                app.touch();
                db::update(tx, &app).await?;
            }
            finalize(tx, deployment, DeploymentReason::Canceled).await?;
        }
    }
    Ok(true)
}

async fn meter(conn: &mut Connection, deployment: &Deployment) -> ApiResult<Meter> {
    let app = db::by_guid::<App>(conn, &deployment.app_guid).await?;
    let app = app.ok_or_else(|| ApiError::not_found("App"))?;
    Meter::of_app(conn, &app).await
}

/// Scales the new and old processes, and returns whether anything changes. Others may use more than at the beginning of the
/// deployment. If there is no room, the old instances still shrink, and the deployment shows why the new ones do not grow.
async fn scale(
    conn: &mut Connection,
    deployment: &mut Deployment,
    mut new: Process,
    old: Vec<Process>,
    (grown, left): (i64, i64),
) -> ApiResult<bool> {
    let meter = meter(conn, deployment).await?;
    // The oldest processes shrink first.
    let surplus = old.iter().map(|process| process.instances).sum::<i64>() - left;
    let mut still = surplus;
    for mut process in old {
        let fewer = still.clamp(0, process.instances);
        still -= fewer;
        let instances = process.instances - fewer;
        resize(conn, &mut process, instances).await?;
    }
    let before = new.instances;
    resize(conn, &mut new, grown).await?;
    let checked = meter.check(conn, Subject::Process).await;
    let refused = match checked {
        Ok(()) => None,
        Err(error) if error.status.is_server_error() => return Err(error),
        Err(error) => Some(error.to_string()),
    };
    if refused.is_some() {
        resize(conn, &mut new, before).await?;
    }
    let news = deployment.error != refused;
    if news {
        deployment.error.clone_from(&refused);
        deployment.touch();
        db::update(conn, deployment).await?;
    }
    Ok(news || surplus > 0 || refused.is_none())
}

/// Restores as many of a process's instances as the quotas have room for. The process keeps at least those that it has.
async fn restore(
    conn: &mut Connection,
    meter: &Meter,
    mut process: Process,
    wanted: i64,
) -> ApiResult<()> {
    let (mut fits, mut most) = (process.instances.min(wanted), wanted);
    let mut tried = wanted;
    while fits < most {
        resize(conn, &mut process, tried).await?;
        match meter.check(conn, Subject::Process).await {
            Ok(()) => fits = tried,
            Err(error) if error.status.is_server_error() => return Err(error),
            Err(_) => most = tried - 1,
        }
        tried = fits + (most - fits + 1) / 2;
    }
    resize(conn, &mut process, fits).await
}

async fn resize(conn: &mut Connection, process: &mut Process, instances: i64) -> ApiResult<()> {
    if process.instances != instances {
        process.instances = instances;
        process.touch();
        db::update(conn, process).await?;
    }
    Ok(())
}

/// Gives the processes of other types a new version, so that they run the new droplet, and marks them.
async fn restart_others(tx: &mut Change, deployment: &Deployment) -> ApiResult<()> {
    for mut process in process::of_app(tx, &deployment.app_guid).await? {
        if process.r#type != "web" {
            verbs::new_version(tx, &mut process).await?;
            process.touch();
            db::update(tx, &process).await?;
            tx.reconcile(process.guid);
        }
    }
    Ok(())
}
