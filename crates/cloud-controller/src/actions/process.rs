//! Verbs of processes: scale, set health checks, and decide when running instances must be replaced.

use super::sidecar;
use crate::change::Change;
use crate::controller::Settings;
use crate::db::app::App;
use crate::db::process::{self, CheckType, HealthCheck, Process};
use crate::db::{self, Connection, Json};
use crate::error::{ApiError, ApiResult};
use crate::quota::{Meter, Subject};
use serde_json::Value;
use std::collections::BTreeSet;

/// The user that runs the processes and tasks of every app.
const USER: &str = "vcap";

/// The values that a request or a manifest wants a process to have. Absent fields stay unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wish {
    pub command: Option<Option<String>>,
    pub user: Option<Option<String>>,
    pub instances: Option<i64>,
    pub memory_in_mb: Option<i64>,
    pub disk_in_mb: Option<i64>,
    pub log_rate_limit: Option<i64>,
    pub health_check: Option<HealthCheck>,
    pub readiness: Option<HealthCheck>,
}

/// Returns a new process with the platform's defaults: one instance of `web`, and none of other types.
pub(crate) fn fresh(settings: &Settings, app: &App, kind: &str) -> Process {
    let check = |kind| {
        Json(HealthCheck {
            r#type: kind,
            ..HealthCheck::default()
        })
    };
    let mut process = Process {
        app_guid: app.guid.clone(),
        r#type: kind.to_owned(),
        version: crate::clock::guid(),
        instances: i64::from(kind == "web"),
        memory_in_mb: settings.default_memory_mb,
        disk_in_mb: settings.default_disk_mb,
        log_rate_limit: -1,
        health_check: check(if kind == "web" {
            CheckType::Port
        } else {
            CheckType::Process
        }),
        readiness_health_check: check(CheckType::Process),
        ..Process::fresh()
    };
    if kind == "web" {
        process.guid.clone_from(&app.guid);
    }
    process
}

/// Changes a process, if limits and quotas allow it, and marks it if its LRP changes. All but the number of instances takes effect at
/// the next restart of the app; until then the running version stays.
pub(crate) async fn change(
    tx: &mut Change,
    settings: &Settings,
    app: &App,
    process: &mut Process,
    wish: Wish,
) -> ApiResult<()> {
    let meter = if app.is_started() {
        Some(Meter::of_app(tx, app).await?)
    } else {
        None
    };
    if change_unmetered(tx, settings, app, process, wish).await? {
        tx.reconcile(&process.guid);
    }
    if let Some(meter) = meter {
        meter.check(tx, Subject::Process).await?;
    }
    Ok(())
}

/// Changes a process without checking quotas. The caller checks them; a manifest does so once for all its processes. Returns
/// whether the LRP changes.
pub(super) async fn change_unmetered(
    conn: &mut Connection,
    settings: &Settings,
    app: &App,
    process: &mut Process,
    wish: Wish,
) -> ApiResult<bool> {
    let before = process.clone();
    if let Some(command) = wish.command {
        process.command = command;
    }
    if let Some(user) = wish.user {
        if let Some(user) = user.as_deref() {
            check_user(user)?;
        }
        process.user = user;
    }
    process.instances = wish.instances.unwrap_or(process.instances);
    process.memory_in_mb = wish.memory_in_mb.unwrap_or(process.memory_in_mb);
    process.disk_in_mb = wish.disk_in_mb.unwrap_or(process.disk_in_mb);
    process.log_rate_limit = wish.log_rate_limit.unwrap_or(process.log_rate_limit);
    if let Some(check) = wish.health_check {
        process.health_check.0 = check;
    }
    if let Some(check) = wish.readiness {
        process.readiness_health_check.0 = check;
    }
    check_limits(settings, &before, process)?;
    if before.memory_in_mb != process.memory_in_mb {
        sidecar::check_room(conn, process).await?;
    }
    process.touch();
    db::update(conn, process).await?;
    Ok(app.is_started() && before.instances != process.instances)
}

/// Refuses any user but the platform's, because apps always run as that user.
pub(crate) fn check_user(user: &str) -> ApiResult<()> {
    if user.eq_ignore_ascii_case(USER) {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!(
        "User invalid (requested user '{user}' not allowed, permitted users are: '{USER}')"
    )))
}

/// Refuses values above the limits. When a limit was lowered, a process may keep the value that it has.
pub(super) fn check_limits(
    settings: &Settings,
    before: &Process,
    process: &Process,
) -> ApiResult<()> {
    let grown = |before: i64, now: i64| if now > before { now } else { 0 };
    let command = process.command.as_deref();
    settings.limits.check_process(
        grown(before.instances, process.instances),
        grown(before.disk_in_mb, process.disk_in_mb),
        command.filter(|_| process.command != before.command),
    )?;
    Ok(())
}

/// Gives a process a new version. Its LRP is a different one, so the present LRP is removed. The caller updates the row.
pub(crate) async fn new_version(conn: &mut Connection, process: &mut Process) -> ApiResult<()> {
    process::retire_lrp(conn, &process.guid, &process.lrp_guid()).await?;
    process.version = crate::clock::guid();
    Ok(())
}

/// Refuses an app with too many process types. It is called after a manifest or a droplet has added processes.
pub(super) async fn check_types(
    conn: &mut Connection,
    settings: &Settings,
    app: &App,
) -> ApiResult<()> {
    let processes = process::of_app(conn, &app.guid).await?;
    let types: BTreeSet<&String> = processes.iter().map(|process| &process.r#type).collect();
    let most = settings.limits.processes_per_app;
    if types.len() > most as usize {
        return Err(ApiError::unprocessable(format!(
            "The app would have {} process types; an app may have at most {most}",
            types.len()
        )));
    }
    Ok(())
}

/// Removes a process with its LRP.
pub(crate) async fn delete(conn: &mut Connection, process: &Process) -> ApiResult<()> {
    process::retire_lrp(conn, &process.guid, &process.lrp_guid()).await?;
    db::delete::<Process>(conn, &process.guid).await?;
    Ok(())
}

/// Applies `{"type": …, "data": {…}}` to a health check.
pub(crate) fn health_check(
    before: &HealthCheck,
    json: &Value,
    readiness: bool,
) -> ApiResult<HealthCheck> {
    let label = if readiness {
        "Readiness health check"
    } else {
        "Health check"
    };
    let mut check = before.clone();
    if let Some(kind) = json.get("type") {
        check.r#type = match kind.as_str().map(str::parse::<CheckType>) {
            Some(Ok(CheckType::None)) if !readiness => CheckType::Process,
            Some(Ok(kind @ (CheckType::Port | CheckType::Http | CheckType::Process))) => kind,
            _ => {
                return Err(ApiError::unprocessable(format!(
                    "{label} type must be \"port\", \"process\", or \"http\""
                )));
            }
        };
    }
    if let Some(data) = json.get("data").filter(|data| !data.is_null()) {
        let number = |name: &str, before: Option<i64>| match data.get(name) {
            None => Ok(before),
            Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) if number >= 1 => Ok(Some(number)),
                _ => Err(ApiError::unprocessable(format!(
                    "{label} {} must be greater than or equal to 1",
                    name.replace('_', " ")
                ))),
            },
        };
        check.timeout = number("timeout", check.timeout)?;
        check.invocation_timeout = number("invocation_timeout", check.invocation_timeout)?;
        check.interval = number("interval", check.interval)?;
        match data.get("endpoint") {
            None => {}
            Some(Value::Null) => check.endpoint = None,
            Some(Value::String(path)) if path.starts_with('/') => {
                check.endpoint = Some(path.clone())
            }
            Some(_) => {
                return Err(ApiError::unprocessable(format!(
                    "{label} endpoint must be a valid URI path"
                )));
            }
        }
    }
    if check.timeout.is_some_and(|timeout| timeout > 180) {
        return Err(ApiError::unprocessable(format!(
            "{label} timeout must be at most 180 seconds"
        )));
    }
    if check.r#type != CheckType::Http {
        check.endpoint = None;
    } else if check.endpoint.is_none() {
        check.endpoint = Some("/".to_owned());
    }
    Ok(check)
}
