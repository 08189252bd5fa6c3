//! Verbs of apps: create, change, start, stop and remove.

use super::{process as verbs, sidecar};
use crate::controller::Settings;
use crate::db::app::{self, App, AppState};
use crate::db::buildpack;
use crate::db::deployment::{self, Deployment, DeploymentReason};
use crate::db::droplet::{Droplet, DropletState};
use crate::db::process;
use crate::db::stack;
use crate::db::{self, Connection};
use crate::error::{ApiError, ApiResult};
use crate::quota::{Meter, Subject};
use cc_rules::limits::Limits;
use serde_json::Value;

/// Creates an app with its web process.
pub(crate) async fn create(conn: &mut Connection, settings: &Settings, app: &App) -> ApiResult<()> {
    check(conn, app).await?;
    db::insert(conn, app).await?;
    db::insert(conn, &verbs::fresh(settings, app, "web")).await?;
    Ok(())
}

/// Changes an app. Returns its processes, because their LRPs contain the app's name and place.
pub(crate) async fn update(conn: &mut Connection, app: &mut App) -> ApiResult<Vec<String>> {
    check(conn, app).await?;
    app.touch();
    db::update(conn, app).await?;
    touch_processes(conn, app).await
}

async fn touch_processes(conn: &mut Connection, app: &App) -> ApiResult<Vec<String>> {
    let mut touched = Vec::new();
    for mut process in process::of_app(conn, &app.guid).await? {
        process.touch();
        db::update(conn, &process).await?;
        touched.push(process.guid);
    }
    Ok(touched)
}

async fn check(conn: &mut Connection, app: &App) -> ApiResult<()> {
    if let Some(other) = app::by_name(conn, &app.space_guid, &app.name).await?
        && other.guid != app.guid
    {
        return Err(ApiError::unprocessable(format!(
            "App with the name '{}' already exists.",
            app.name
        )));
    }
    if let Some(stack) = &app.stack
        && stack::by_name(conn, stack).await?.is_none()
    {
        return Err(ApiError::unprocessable(format!(
            "Stack must be an existing stack (got '{stack}'; see 'cf stacks')"
        )));
    }
    let known = buildpack::all(conn).await?;
    for name in &app.buildpacks.0 {
        if !known.iter().any(|buildpack| &buildpack.name == name) {
            return Err(ApiError::unprocessable(format!(
                "Buildpack \"{name}\" must be an existing admin buildpack or a valid git URI"
            )));
        }
    }
    Ok(())
}

/// Merges `{"K": "V"|null}` into the environment.
pub(crate) fn set_environment(
    limits: &Limits,
    app: &mut App,
    var: &serde_json::Map<String, Value>,
) -> ApiResult<()> {
    for (name, value) in var {
        let text = match value {
            Value::Null => {
                app.environment.0.remove(name);
                continue;
            }
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => value.to_string(),
        };
        if name.is_empty() {
            return Err(ApiError::unprocessable(
                "Environment variable names must not be empty",
            ));
        }
        if name.starts_with("VCAP_") {
            return Err(ApiError::unprocessable(format!(
                "Environment variable '{name}' is reserved: names cannot start with VCAP_"
            )));
        }
        if name == "PORT" {
            return Err(ApiError::unprocessable(
                "Environment variable 'PORT' is reserved: cannot set PORT",
            ));
        }
        if name.contains(['=', '\0']) || text.contains('\0') {
            return Err(ApiError::unprocessable(format!(
                "Environment variable '{name}' must not contain '=' or NUL"
            )));
        }
        app.environment.0.insert(name.clone(), text);
    }
    let most = limits.environment_bytes as usize;
    match serde_json::to_string(&app.environment.0) {
        Ok(text) if text.len() > most => Err(ApiError::unprocessable(format!(
            "Environment variables must be at most {most} bytes together, as JSON (got {})",
            text.len()
        ))),
        _ => Ok(()),
    }
}

/// Makes a droplet the current one of its app. Replaces the sidecars of the previous droplet, and creates the missing processes,
/// so that every process type of the droplet has one.
pub(crate) async fn assign_droplet(
    conn: &mut Connection,
    settings: &Settings,
    app: &mut App,
    droplet: &Droplet,
) -> ApiResult<Vec<String>> {
    if droplet.app_guid != app.guid || droplet.state != DropletState::Staged {
        return Err(ApiError::unprocessable(
            "Unable to assign current droplet. Ensure the droplet exists and belongs to this app.",
        ));
    }
    app.droplet_guid = Some(droplet.guid.clone());
    app.touch();
    db::update(conn, app).await?;
    sidecar::replace_with_droplets(conn, &settings.limits, app, droplet).await?;
    let existing = process::of_app(conn, &app.guid).await?;
    let most = settings.limits.processes_per_app as usize;
    if droplet.process_types.0.len() > most {
        return Err(ApiError::unprocessable(format!(
            "The droplet has {} process types; an app may have at most {most}",
            droplet.process_types.0.len()
        )));
    }
    for kind in droplet.process_types.0.keys() {
        if !existing.iter().any(|process| &process.r#type == kind) {
            let process = verbs::fresh(settings, app, kind);
            sidecar::check_room_for_new(conn, &process).await?;
            db::insert(conn, &process).await?;
        }
    }
    verbs::check_types(conn, settings, app).await?;
    Ok(Vec::new())
}

pub(crate) fn must_have_droplet(app: &App) -> ApiResult<()> {
    if app.droplet_guid.is_some() {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "Assign a droplet before starting this app.",
    ))
}

/// Starts an app. A started app stays unchanged. Returns the processes that the driver must reconcile.
pub(crate) async fn start(conn: &mut Connection, app: &mut App) -> ApiResult<Vec<String>> {
    must_have_droplet(app)?;
    if app.is_started() {
        return guids(conn, app).await;
    }
    start_stopped(conn, app).await
}

/// Starts a stopped app, if the quotas have room for it.
async fn start_stopped(conn: &mut Connection, app: &mut App) -> ApiResult<Vec<String>> {
    let meter = Meter::of_app(conn, app).await?;
    set_state(conn, app, AppState::Started).await?;
    let renewed = give_new_versions(conn, app).await?;
    meter.check(conn, Subject::Process).await?;
    Ok(renewed)
}

/// Stops an app and ends its active deployment. Returns the processes that the driver must reconcile.
pub(crate) async fn stop(conn: &mut Connection, app: &mut App) -> ApiResult<Vec<String>> {
    let mut touched = end_deployment(conn, app).await?;
    set_state(conn, app, AppState::Stopped).await?;
    for process in process::of_app(conn, &app.guid).await? {
        process::retire_lrp(conn, &process.guid, &process.lrp_guid()).await?;
        touched.push(process.guid);
    }
    Ok(touched)
}

/// Replaces all instances of an app. Returns the processes that the driver must reconcile.
pub(crate) async fn restart(conn: &mut Connection, app: &mut App) -> ApiResult<Vec<String>> {
    must_have_droplet(app)?;
    let mut touched = end_deployment(conn, app).await?;
    // The restart is measured as a stop and a start, so that an app that no longer fits its quota is not started again.
    set_state(conn, app, AppState::Stopped).await?;
    touched.extend(start_stopped(conn, app).await?);
    Ok(touched)
}

async fn set_state(conn: &mut Connection, app: &mut App, state: AppState) -> ApiResult<()> {
    app.state = state;
    app.touch();
    db::update(conn, app).await?;
    Ok(())
}

/// Gives every process a new version. Returns the processes.
async fn give_new_versions(conn: &mut Connection, app: &App) -> ApiResult<Vec<String>> {
    let mut renewed = Vec::new();
    for mut process in process::of_app(conn, &app.guid).await? {
        verbs::new_version(conn, &mut process).await?;
        process.touch();
        db::update(conn, &process).await?;
        renewed.push(process.guid);
    }
    Ok(renewed)
}

async fn guids(conn: &mut Connection, app: &App) -> ApiResult<Vec<String>> {
    Ok(process::of_app(conn, &app.guid)
        .await?
        .into_iter()
        .map(|process| process.guid)
        .collect())
}

/// Ends the deployment of an app that is stopped or restarted: only the newest web process stays. Returns the removed ones.
async fn end_deployment(conn: &mut Connection, app: &App) -> ApiResult<Vec<String>> {
    let Some(mut active): Option<Deployment> = deployment::active_of_app(conn, &app.guid).await?
    else {
        return Ok(Vec::new());
    };
    super::deployment::finalize(conn, &mut active, DeploymentReason::Canceled).await?;
    let webs = process::webs_newest_first(conn, &app.guid).await?;
    let mut webs_gone = Vec::new();
    for old in webs.iter().skip(1) {
        verbs::delete(conn, old).await?;
        webs_gone.push(old.guid.clone());
    }
    if let Some(mut newest) = webs.into_iter().next() {
        newest.instances = active.instances;
        newest.touch();
        db::update(conn, &newest).await?;
    }
    Ok(webs_gone)
}

/// Removes an app. Its routes stay, without the app as a destination. Returns the processes that must be removed from Diego.
pub(crate) async fn delete(conn: &mut Connection, app: &App) -> ApiResult<Vec<String>> {
    let processes = process::of_app(conn, &app.guid).await?;
    for process in &processes {
        process::retire_lrp(conn, &process.guid, &process.lrp_guid()).await?;
    }
    db::delete::<App>(conn, &app.guid).await?;
    Ok(processes.into_iter().map(|process| process.guid).collect())
}
