//! What push, start, restart, restage and scale share: staging a package with its logs, and waiting for instances.

use crate::api::error::ApiError;
use crate::api::logs::Tail;
use crate::api::poll_delay;
use crate::api::types::{App, Build, Guid, Instance, Process, Stats};
use crate::session::Session;
use anyhow::{Result, bail};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Stages a package and prints the staging logs; returns the droplet's guid.
pub(crate) async fn stage(session: &Session, app: &App, package_guid: &str) -> Result<String> {
    let ui = &session.ui;
    ui.line("Staging app and tracing logs...");
    let mut logs = match session.tail(&app.guid).await {
        Ok(tail) => Some(tail),
        Err(error) => {
            ui.warn(format!("{error:#}\nStaging goes on without its logs."));
            None
        }
    };
    let mut build: Build = session
        .post("/v3/builds", &json!({"package": {"guid": package_guid}}))
        .await?;
    let (begun, limit) = (Instant::now(), session.minutes("CF_STAGING_TIMEOUT", 15));
    let url = format!("/v3/builds/{}", build.guid);
    while build.state == "STAGING" {
        if begun.elapsed() > limit {
            bail!(
                "Timed out waiting for staging of app '{}' after {} minutes. CF_STAGING_TIMEOUT sets the limit.",
                app.name,
                limit.as_secs() / 60
            );
        }
        tokio::time::sleep(poll_delay(begun.elapsed())).await;
        print_staging_logs(session, &mut logs).await;
        build = session.get(&url).await?;
    }
    // the last lines come on another way than the end of staging
    let mut quiet = 0;
    while quiet < 2 && logs.is_some() {
        quiet = if print_staging_logs(session, &mut logs).await {
            0
        } else {
            quiet + 1
        };
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    match (build.state.as_str(), build.droplet) {
        ("STAGED", Some(droplet)) => Ok(droplet.guid),
        _ => bail!(
            "{}",
            staging_failure(
                build
                    .error
                    .as_deref()
                    .unwrap_or("staging failed without a reason")
            )
        ),
    }
}

fn staging_failure(error: &str) -> String {
    let tip = if error.contains("NoAppDetected") {
        "\n\nTIP: Use 'cf buildpacks' to see a list of supported buildpacks."
    } else {
        ""
    };
    format!("Error staging application: {error}{tip}")
}

/// Prints new staging lines; whether there were any.
async fn print_staging_logs(session: &Session, logs: &mut Option<Tail>) -> bool {
    let Some(tail) = logs else { return false };
    match session.follow(tail).await {
        Ok(lines) => {
            let staging: Vec<_> = lines.iter().filter(|l| l.source_type == "STG").collect();
            for line in &staging {
                let text = line.render(false);
                session.ui.line(if line.is_error {
                    session.ui.red(&text)
                } else {
                    text
                });
            }
            !staging.is_empty()
        }
        Err(error) => {
            session
                .ui
                .warn(format!("{error:#}\nStaging goes on without its logs."));
            *logs = None;
            false
        }
    }
}

/// Makes a droplet the app's current one.
pub(crate) async fn set_droplet(session: &Session, app: &App, droplet_guid: &str) -> Result<()> {
    let _: serde_json::Value = session
        .patch(
            &format!("/v3/apps/{}/relationships/current_droplet", app.guid),
            &json!({"data": {"guid": droplet_guid}}),
        )
        .await?;
    Ok(())
}

/// `start`, `stop` or `restart`.
pub(crate) async fn action(session: &Session, app: &App, action: &str) -> Result<App> {
    session
        .post(
            &format!("/v3/apps/{}/actions/{action}", app.guid),
            &json!({}),
        )
        .await
}

pub(crate) async fn stats(session: &Session, process: &Process) -> Result<Vec<Instance>> {
    match session
        .get::<Stats>(&format!("/v3/processes/{}/stats", process.guid))
        .await
    {
        Ok(stats) => Ok(stats.resources),
        // an app that was stopped meanwhile
        Err(error)
            if error
                .downcast_ref::<ApiError>()
                .is_some_and(|e| e.errors.iter().any(|e| e.code == 200_003)) =>
        {
            Ok(vec![])
        }
        Err(error) => Err(error),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Up,
    Waiting,
    /// All instances have crashed.
    Crashed,
}

/// As the original decides: one running instance is enough, only crashed ones are a failure.
pub(crate) fn health(instances: &[Instance]) -> Health {
    match () {
        () if instances.is_empty() || instances.iter().any(|i| i.state == "RUNNING") => Health::Up,
        () if instances.iter().all(|i| i.state == "CRASHED") => Health::Crashed,
        () => Health::Waiting,
    }
}

/// Waits until every process (only `web`, when `web_only`) runs, or has failed.
pub(crate) async fn wait_until_running(session: &Session, app: &App, web_only: bool) -> Result<()> {
    let (begun, limit) = (Instant::now(), session.minutes("CF_STARTUP_TIMEOUT", 5));
    let mut waiting: Vec<Process> = session
        .list(&format!("/v3/apps/{}/processes", app.guid), &[])
        .await?;
    waiting.retain(|p| !web_only || p.kind == "web");
    let mut announced: Option<Instant> = None;
    let mut told = BTreeSet::new();
    loop {
        let mut pending = Vec::new();
        for process in waiting {
            let instances = stats(session, &process).await?;
            match health(&instances) {
                Health::Up => {}
                Health::Crashed => {
                    tell_details(session, &instances, &mut told);
                    bail!(
                        "Start unsuccessful\n\nTIP: use 'cf logs {} --recent' for more information",
                        app.name
                    );
                }
                Health::Waiting => {
                    tell_details(session, &instances, &mut told);
                    pending.push(process);
                }
            }
        }
        if pending.is_empty() {
            return Ok(());
        }
        if announced.is_none_or(|at| at.elapsed() >= Duration::from_secs(3)) {
            session.ui.line("Instances starting...");
            announced = Some(Instant::now());
        }
        if begun.elapsed() > limit {
            bail!(
                "Start app timeout\n\nTIP: Application must be listening on the right port. Instead of hard coding the port, use the $PORT environment variable.\n\nUse 'cf logs {} --recent' for more information",
                app.name
            );
        }
        waiting = pending;
        tokio::time::sleep(poll_delay(begun.elapsed())).await;
    }
}

/// Says once why an instance does not run (no room on a cell, exit of the app).
fn tell_details(session: &Session, instances: &[Instance], told: &mut BTreeSet<String>) {
    for instance in instances {
        let Some(details) = instance.details.as_deref().filter(|d| !d.is_empty()) else {
            continue;
        };
        let line = format!(
            "Instance {} is {}: {details}",
            instance.index,
            instance.state.to_ascii_lowercase()
        );
        if told.insert(line.clone()) {
            session.ui.warn(line);
        }
    }
}

/// The newest package of an app, if its bits are there.
pub(crate) async fn newest_package(session: &Session, app: &App) -> Result<Option<Guid>> {
    session
        .first(
            "/v3/packages",
            &[
                ("app_guids", &app.guid),
                ("states", "READY"),
                ("order_by", "-created_at"),
            ],
        )
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_running_instance_is_enough_and_only_crashed_ones_fail() {
        let check = |states: &[&str]| {
            health(
                &states
                    .iter()
                    .map(|s| Instance {
                        state: (*s).into(),
                        ..Instance::default()
                    })
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(check(&[]), Health::Up);
        assert_eq!(check(&["CRASHED", "RUNNING"]), Health::Up);
        assert_eq!(check(&["CRASHED", "STARTING"]), Health::Waiting);
        assert_eq!(check(&["DOWN"]), Health::Waiting);
        assert_eq!(check(&["CRASHED", "CRASHED"]), Health::Crashed);
    }
}
