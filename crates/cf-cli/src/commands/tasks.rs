//! Tasks: commands that run once on an app's droplet.

use super::apps::announce;
use crate::api::poll_delay;
use crate::api::types::Task;
use crate::args::{Parsed, Spec, Usage, switch, value};
use crate::session::Session;
use crate::units;
use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};
use std::time::Instant;

const GROUP: &str = "Apps";

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "run-task",
        alias: "rt",
        group: GROUP,
        about: "Run a one-off task on an app",
        args: &["APP_NAME"],
        flags: &[
            value(Some('c'), "command", "COMMAND", "Command to run"),
            value(
                None,
                "process",
                "TYPE",
                "Process whose command is run (without --command)",
            )
            .not_with(&["command"]),
            value(Some('k'), "disk", "DISK", "Disk limit (256M, 1G)"),
            value(Some('m'), "memory", "MEMORY", "Memory limit (64M, 1G)"),
            value(None, "name", "NAME", "Name of the task"),
            switch(
                Some('w'),
                "wait",
                "Wait until the task has ended; the exit code is 1 if it failed",
            ),
        ],
        examples: &[
            "cf run-task my-app --command ./migrate --name migrate",
            "cf run-task my-app --process worker -m 128M --wait",
        ],
    },
    Spec {
        name: "tasks",
        alias: "",
        group: GROUP,
        about: "List the tasks of an app",
        args: &["APP_NAME"],
        flags: &[],
        examples: &["cf tasks my-app"],
    },
    Spec {
        name: "terminate-task",
        alias: "",
        group: GROUP,
        about: "Terminate a running task of an app",
        args: &["APP_NAME", "TASK_ID"],
        flags: &[],
        examples: &["cf terminate-task my-app 3"],
    },
];

/// Returns the body of the request that creates the task. The process whose command the task uses is added later.
fn request_body(p: &Parsed) -> Result<Map<String, Value>> {
    let mut body = Map::new();
    for (flag, key) in [("command", "command"), ("name", "name")] {
        if let Some(text) = p.get(flag) {
            body.insert(key.to_owned(), text.into());
        }
    }
    for (flag, key) in [("memory", "memory_in_mb"), ("disk", "disk_in_mb")] {
        let Some(text) = p.get(flag) else { continue };
        let size = units::megabytes(text).with_context(|| {
            Usage(format!(
                "invalid argument for flag `--{flag}' ({text:?}): {}",
                units::QUANTITY
            ))
        })?;
        body.insert(key.to_owned(), size.into());
    }
    Ok(body)
}

pub(super) async fn run_task(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let mut body = request_body(p)?;
    let (process, waits) = (p.get("process"), p.has("wait"));
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    if !body.contains_key("command") {
        let kind = process.unwrap_or("web");
        let process: crate::api::types::Process = s
            .get(&format!("/v3/apps/{}/processes/{kind}", app.guid))
            .await
            .with_context(|| {
                format!(
                    "The task uses the command of process '{kind}'; --command sets another one. See 'cf help {}'.",
                    spec.name
                )
            })?;
        body.insert(
            "template".to_owned(),
            json!({"process": {"guid": process.guid}}),
        );
    }
    announce(s, "Creating task for", &app.name, &target);
    let task: Task = s
        .post(&format!("/v3/apps/{}/tasks", app.guid), &body)
        .await?;
    s.ui.line("Task has been submitted successfully for execution.");
    s.ui.ok();
    s.ui.blank();
    s.ui.key_values(&[
        ("task name", task.name.clone()),
        ("task id", task.sequence_id.to_string()),
    ]);
    if waits { end_of(s, task).await } else { Ok(()) }
}

async fn end_of(s: &Session, mut task: Task) -> Result<()> {
    s.ui.blank();
    s.ui.line("Waiting for task to complete execution...");
    let begun = Instant::now();
    while !matches!(task.state.as_str(), "SUCCEEDED" | "FAILED") {
        tokio::time::sleep(poll_delay(begun.elapsed())).await;
        task = s.get(&format!("/v3/tasks/{}", task.guid)).await?;
    }
    if task.state == "FAILED" {
        bail!(
            "Task {} failed: {}",
            task.name,
            task.result.failure_reason.unwrap_or_default()
        );
    }
    s.ui.line("Task has completed successfully.");
    s.ui.ok();
    Ok(())
}

pub(super) async fn tasks(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    announce(s, "Getting tasks for", &app.name, &target);
    s.ui.blank();
    let tasks: Vec<Task> = s
        .list(
            &format!("/v3/apps/{}/tasks", app.guid),
            &[("order_by", "-created_at")],
        )
        .await?;
    if tasks.is_empty() {
        s.ui.line("No tasks found for application.");
        return Ok(());
    }
    let row = |task: Task| {
        vec![
            task.sequence_id.to_string(),
            task.name,
            task.state,
            units::long_date(&task.created_at),
            task.command.unwrap_or_else(|| "[hidden]".to_owned()),
        ]
    };
    s.ui.table(
        "",
        &["id", "name", "state", "start time", "command"],
        tasks.into_iter().map(row).collect(),
    );
    Ok(())
}

pub(super) async fn terminate_task(s: &Session, p: &Parsed) -> Result<()> {
    let id = p.arg(1);
    if id.parse::<u64>().is_err() {
        bail!(Usage(format!(
            "Invalid value for TASK_ID ({id:?}): it must be a whole number, as 'cf tasks' shows it"
        )));
    }
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    let task: Option<Task> = s
        .first(
            &format!("/v3/apps/{}/tasks", app.guid),
            &[("sequence_ids", id)],
        )
        .await?;
    let task = task.with_context(|| format!("Task sequence ID {id} not found."))?;
    s.ui.flavor(
        "Terminating task {} of app {} in org {} / space {} as {}...",
        &[
            id,
            &app.name,
            &target.org.name,
            &target.space.name,
            &target.user,
        ],
    );
    let _: Task = s
        .post(
            &format!("/v3/tasks/{}/actions/cancel", task.guid),
            &json!({}),
        )
        .await?;
    s.ui.ok();
    Ok(())
}
