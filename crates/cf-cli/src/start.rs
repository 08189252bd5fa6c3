//! The parts that push, start, restart, restage and scale share: staging a package with its logs, and waiting for instances.

use crate::api::error::ApiError;
use crate::api::logs::Tail;
use crate::api::poll_delay;
use crate::api::types::{App, Build, Deployment, Guid, Instance, Process, Stats};
use crate::args::{Flag, Parsed, Spec, Usage, value};
use crate::session::Session;
use anyhow::{Result, bail, ensure};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Stages a package and prints the staging logs. Returns the droplet's guid.
pub(crate) async fn stage(session: &Session, app: &App, package_guid: &str) -> Result<String> {
    let ui = &session.ui;
    ui.line("Staging app and tracing logs...");
    let mut logs = match session.tail(&app.guid).await {
        Ok(tail) => Some(tail),
        Err(error) => {
            ui.warn(format!("{error:#}\nStaging continues without its logs."));
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
    // The last lines arrive by another path than the end of staging.
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

/// Prints new staging lines. Returns whether there were any.
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
                .warn(format!("{error:#}\nStaging continues without its logs."));
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

/// Runs the action `start`, `stop` or `restart`.
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
        // The app may have been stopped in the meantime.
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

pub(crate) const STRATEGY: Flag = value(
    None,
    "strategy",
    "STRATEGY",
    "rolling: replace instances one after the other, the app stays reachable; null: stop, then start",
);
pub(crate) const MAX_IN_FLIGHT: Flag = value(
    None,
    "max-in-flight",
    "N",
    "Number of new instances that may start at once (with --strategy rolling; default: 1)",
);

/// The way in which the instances of a running app are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// All instances stop, then the new ones start.
    StopStart,
    Rolling {
        max_in_flight: u32,
    },
}

impl Strategy {
    /// Returns the strategy of `--strategy` and `--max-in-flight`.
    pub(crate) fn of(spec: &Spec, parsed: &Parsed) -> Result<Self> {
        let max_in_flight = parsed.number::<u32>(spec, "max-in-flight")?;
        ensure!(
            max_in_flight != Some(0),
            Usage("--max-in-flight must be greater than or equal to 1".into())
        );
        match parsed.get("strategy") {
            Some("rolling") => Ok(Self::Rolling {
                max_in_flight: max_in_flight.unwrap_or(1),
            }),
            None | Some("null") => {
                ensure!(
                    max_in_flight.is_none(),
                    Usage("--max-in-flight requires --strategy rolling".into())
                );
                Ok(Self::StopStart)
            }
            Some(other) => bail!(Usage(format!(
                "invalid argument for flag `--strategy' ({other:?}): it must be \"rolling\" or \"null\""
            ))),
        }
    }
}

/// Replaces the instances of an app, a few at a time. If a droplet is given, the new instances run that droplet.
pub(crate) async fn roll(
    session: &Session,
    app: &App,
    droplet_guid: Option<&str>,
    max_in_flight: u32,
    web_only: bool,
) -> Result<()> {
    let mut body = json!({
        "strategy": "rolling",
        "options": {"max_in_flight": max_in_flight},
        "relationships": {"app": {"data": {"guid": app.guid}}},
    });
    if let Some(guid) = droplet_guid {
        body["droplet"] = json!({"guid": guid});
    }
    let mut deployment: Deployment = session.post("/v3/deployments", &body).await?;
    session.ui.line("Waiting for app to deploy...");
    session.ui.blank();
    let (begun, limit) = (Instant::now(), session.minutes("CF_STARTUP_TIMEOUT", 5));
    let url = format!("/v3/deployments/{}", deployment.guid);
    let (mut announced, mut printed) = (None, BTreeSet::new());
    while deployment.status.value == "ACTIVE" {
        announce_waiting(session, &mut announced);
        for process in &deployment.new_processes {
            // A process that no longer exists belongs to a deployment that has just ended.
            if let Ok(instances) = stats(session, process).await {
                print_details(session, &instances, &mut printed);
            }
        }
        if begun.elapsed() > limit {
            session
                .post::<serde_json::Value>(&format!("{url}/actions/cancel"), &json!({}))
                .await?;
            bail!(
                "Start app timeout: the deployment was cancelled, and the previous instances stay.\n\nTIP: Use 'cf logs {} --recent' for more information",
                app.name
            );
        }
        tokio::time::sleep(poll_delay(begun.elapsed())).await;
        deployment = session.get(&url).await?;
    }
    match deployment.status.reason.as_str() {
        "DEPLOYED" => wait_until_running(session, app, web_only).await,
        reason => bail!(
            "The deployment of app '{}' was {}.{}",
            app.name,
            reason.to_ascii_lowercase(),
            deployment
                .status
                .details
                .error
                .map(|error| format!(" {error}"))
                .unwrap_or_default()
        ),
    }
}

fn announce_waiting(session: &Session, announced: &mut Option<Instant>) {
    if announced.is_none_or(|at| at.elapsed() >= Duration::from_secs(3)) {
        session.ui.line("Instances starting...");
        *announced = Some(Instant::now());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Up,
    Waiting,
    /// All instances have crashed.
    Crashed,
    /// No cell can ever have room for any of them.
    Impossible,
}

/// The part of the auctioneer's placement error that does not change by waiting.
const PERMANENT: &str = "no cell is that large";

/// Returns the health of an app as the cf CLI determines it: one running instance is enough, and only crashed ones are a failure.
pub(crate) fn health(instances: &[Instance]) -> Health {
    match () {
        () if instances.is_empty() || instances.iter().any(|i| i.state == "RUNNING") => Health::Up,
        () if instances.iter().all(|i| i.state == "CRASHED") => Health::Crashed,
        () if instances.iter().all(is_impossible) => Health::Impossible,
        () => Health::Waiting,
    }
}

fn is_impossible(instance: &Instance) -> bool {
    let details = instance.details.as_deref().unwrap_or_default();
    instance.state == "DOWN" && details.contains(PERMANENT)
}

/// Waits until every process (only `web` if `web_only`) runs or has failed.
pub(crate) async fn wait_until_running(session: &Session, app: &App, web_only: bool) -> Result<()> {
    let (begun, limit) = (Instant::now(), session.minutes("CF_STARTUP_TIMEOUT", 5));
    let mut waiting: Vec<Process> = session
        .list(&format!("/v3/apps/{}/processes", app.guid), &[])
        .await?;
    waiting.retain(|p| !web_only || p.kind == "web");
    let mut announced: Option<Instant> = None;
    let mut printed = BTreeSet::new();
    loop {
        let mut pending = Vec::new();
        for process in waiting {
            let instances = stats(session, &process).await?;
            match health(&instances) {
                Health::Up => {}
                Health::Crashed => {
                    print_details(session, &instances, &mut printed);
                    bail!(
                        "Start unsuccessful\n\nTIP: use 'cf logs {} --recent' for more information",
                        app.name
                    );
                }
                Health::Impossible => {
                    print_details(session, &instances, &mut printed);
                    bail!(
                        "Start unsuccessful\n\nTIP: request less with 'cf scale {} -m MEMORY -k DISK'",
                        app.name
                    );
                }
                Health::Waiting => {
                    print_details(session, &instances, &mut printed);
                    pending.push(process);
                }
            }
        }
        if pending.is_empty() {
            crate::names::wait_for_app(session, &app.guid).await;
            return Ok(());
        }
        announce_waiting(session, &mut announced);
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

/// Prints once why an instance does not run (no room on a cell, exit of the app).
fn print_details(session: &Session, instances: &[Instance], printed: &mut BTreeSet<String>) {
    for instance in instances {
        let Some(details) = instance.details.as_deref().filter(|d| !d.is_empty()) else {
            continue;
        };
        let line = format!(
            "Instance {} is {}: {details}",
            instance.index,
            instance.state.to_ascii_lowercase()
        );
        if printed.insert(line.clone()) {
            session.ui.warn(line);
        }
    }
}

/// Returns the newest package of an app whose bits are ready.
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
        let down = |details: &str| Instance {
            state: "DOWN".into(),
            details: Some(details.into()),
            ..Instance::default()
        };
        let never = down("insufficient resources: memory (no cell is that large)");
        let full = down("insufficient resources: memory");
        assert_eq!(health(&[never.clone(), never.clone()]), Health::Impossible);
        assert_eq!(health(&[never, full]), Health::Waiting);
    }
}
