//! Verbs of tasks.

use crate::controller::Settings;
use crate::db::app::App;
use crate::db::droplet::{self, DropletState};
use crate::db::process;
use crate::db::task::{self, Task, TaskState};
use crate::db::{self, Connection};
use crate::error::{ApiError, ApiResult};
use crate::quota::{Meter, Subject};

/// The values that a request may set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub name: Option<String>,
    pub command: Option<String>,
    pub template_process: Option<String>,
    pub memory_in_mb: Option<i64>,
    pub disk_in_mb: Option<i64>,
    pub log_rate_limit: Option<i64>,
    pub droplet_guid: Option<String>,
}

/// Creates a task, if limits and quotas allow it.
pub(crate) async fn create(
    conn: &mut Connection,
    settings: &Settings,
    app: &App,
    wish: Wish,
) -> ApiResult<Task> {
    let droplet = match &wish.droplet_guid {
        // A droplet of another app counts as unknown.
        Some(guid) => Some(
            droplet::of_app(conn, &app.guid, guid)
                .await?
                .ok_or_else(|| ApiError::not_found("Droplet"))?,
        ),
        None => droplet::current(conn, app).await?,
    };
    let Some(droplet) = droplet else {
        return Err(ApiError::unprocessable(
            "Task must have a droplet. Specify droplet or assign current droplet to app.",
        ));
    };
    if droplet.state != DropletState::Staged {
        return Err(ApiError::unprocessable(format!(
            "Task must have a droplet that is staged. The state of droplet '{}' is {}.",
            droplet.guid, droplet.state
        )));
    }
    let template = match &wish.template_process {
        None => process::of_type(conn, &app.guid, "web").await?,
        Some(guid) => db::by_guid::<process::Process>(conn, guid)
            .await?
            .filter(|process| process.app_guid == app.guid),
    };
    let template = template.ok_or_else(|| ApiError::not_found("Process"))?;
    // The command is the user's command of the template process, or else the one that staging found.
    let detected = || droplet.process_types.0.get(&template.r#type).cloned();
    let of_template = || {
        let own = template.command.clone();
        own.filter(|command| !command.is_empty()).or_else(detected)
    };
    let Some(command) = wish
        .command
        .or_else(|| wish.template_process.as_ref().and_then(|_| of_template()))
    else {
        return Err(ApiError::unprocessable("No command or template provided"));
    };
    let task = Task {
        app_guid: app.guid.clone(),
        sequence_id: task::last_of_app(conn, &app.guid)
            .await?
            .map_or(1, |last| last.sequence_id + 1),
        name: wish
            .name
            .unwrap_or_else(|| format!("{:08x}", rand::random::<u32>())),
        command,
        state: TaskState::Pending,
        memory_in_mb: wish.memory_in_mb.unwrap_or(template.memory_in_mb),
        disk_in_mb: wish.disk_in_mb.unwrap_or(template.disk_in_mb),
        log_rate_limit: wish.log_rate_limit.unwrap_or(template.log_rate_limit),
        droplet_guid: droplet.guid,
        ..Task::fresh()
    };
    settings
        .limits
        .check_process(0, task.disk_in_mb, Some(&task.command))?;
    let meter = Meter::of_app(conn, app).await?;
    meter.check_container(task.memory_in_mb)?;
    db::insert(conn, &task).await?;
    meter.check(conn, Subject::Task).await?;
    Ok(task)
}

pub(crate) async fn cancel(conn: &mut Connection, task: &mut Task) -> ApiResult<()> {
    if task.state.has_ended() {
        return Err(ApiError::unprocessable(format!(
            "Task state is {} and therefore cannot be canceled",
            task.state
        )));
    }
    task.state = TaskState::Canceling;
    task.touch();
    db::update(conn, task).await?;
    Ok(())
}
