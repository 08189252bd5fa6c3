//! Commands that start, stop, restart and restage apps.

use super::apps::announce;
use crate::api::types::{App, Guid};
use crate::args::{Flag, Parsed, Spec, switch, value};
use crate::session::Session;
use crate::start::{MAX_IN_FLIGHT, STRATEGY, Strategy};
use crate::{start as steps, summary};
use anyhow::{Context as _, Result};

const GROUP: &str = "Apps";
const NO_WAIT: Flag = switch(
    None,
    "no-wait",
    "Return when the first instance of the web process runs",
);

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "start",
        alias: "st",
        group: GROUP,
        about: "Start an app",
        args: &["APP_NAME"],
        flags: &[],
        examples: &["cf start my-app"],
    },
    Spec {
        name: "stop",
        alias: "sp",
        group: GROUP,
        about: "Stop an app",
        args: &["APP_NAME"],
        flags: &[],
        examples: &["cf stop my-app"],
    },
    Spec {
        name: "restart",
        alias: "rs",
        group: GROUP,
        about: "Stop all instances of the app, then start them again",
        args: &["APP_NAME"],
        flags: &[NO_WAIT, STRATEGY, MAX_IN_FLIGHT],
        examples: &["cf restart my-app", "cf restart my-app --strategy rolling"],
    },
    Spec {
        name: "restage",
        alias: "rg",
        group: GROUP,
        about: "Stage the app's latest package into a droplet and restart the app with it",
        args: &["APP_NAME"],
        flags: &[NO_WAIT, STRATEGY, MAX_IN_FLIGHT],
        examples: &["cf restage my-app", "cf restage my-app --strategy rolling"],
    },
    Spec {
        name: "restart-app-instance",
        alias: "",
        group: GROUP,
        about: "Terminate, then instantiate an app instance",
        args: &["APP_NAME", "INDEX"],
        flags: &[value(
            None,
            "process",
            "TYPE",
            "Process of the instance (default: web)",
        )],
        examples: &["cf restart-app-instance my-app 0"],
    },
];

/// Starts a stopped app and waits for its instances.
pub(super) async fn start_and_wait(s: &Session, app: &App, web_only: bool) -> Result<()> {
    steps::action(s, app, "start").await?;
    s.ui.line("Waiting for app to start...");
    s.ui.blank();
    steps::wait_until_running(s, app, web_only).await
}

/// Stages the newest package if it has never been staged, as for an app that was pushed with --no-start.
async fn stage_if_needed(s: &Session, app: &App) -> Result<()> {
    let Some(package) = steps::newest_package(s, app).await? else {
        return Ok(());
    };
    let staged: Option<Guid> = s
        .first(
            &format!("/v3/packages/{}/droplets", package.guid),
            &[("states", "STAGED")],
        )
        .await?;
    if staged.is_none() {
        let droplet = steps::stage(s, app, &package.guid).await?;
        steps::set_droplet(s, app, &droplet).await?;
        s.ui.blank();
    }
    Ok(())
}

pub(super) async fn start(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    announce(s, "Starting", &app.name, &target);
    if app.is_started() {
        s.ui.line(format!("App '{}' is already started.", app.name));
        s.ui.ok();
        return p.end_early();
    }
    s.ui.blank();
    stage_if_needed(s, &app).await?;
    start_and_wait(s, &app, false).await?;
    s.ui.blank();
    summary::show(s, &app.guid, false).await
}

pub(super) async fn stop(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    announce(s, "Stopping", &app.name, &target);
    if app.is_started() {
        steps::action(s, &app, "stop").await?;
    } else {
        s.ui.line(format!("App '{}' is already stopped.", app.name));
    }
    s.ui.ok();
    Ok(())
}

pub(super) async fn restart(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let strategy = Strategy::of(spec, p)?;
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    announce(s, "Restarting", &app.name, &target);
    s.ui.blank();
    stage_if_needed(s, &app).await?;
    replace_instances(s, &app, None, strategy, p.has("no-wait")).await?;
    s.ui.blank();
    summary::show(s, &app.guid, false).await
}

/// Restarts the app, or rolls it if it runs. If a droplet is given, the new instances run that droplet.
async fn replace_instances(
    s: &Session,
    app: &App,
    droplet_guid: Option<&str>,
    strategy: Strategy,
    web_only: bool,
) -> Result<()> {
    match strategy {
        Strategy::Rolling { max_in_flight } if app.is_started() => {
            s.ui.flavor("Creating deployment for app {}...", &[&app.name]);
            steps::roll(s, app, droplet_guid, max_in_flight, web_only).await
        }
        _ => {
            stop_for_restart(s, app).await?;
            if let Some(guid) = droplet_guid {
                steps::set_droplet(s, app, guid).await?;
            }
            start_and_wait(s, app, web_only).await
        }
    }
}

async fn stop_for_restart(s: &Session, app: &App) -> Result<()> {
    if app.is_started() {
        s.ui.line("Stopping app...");
        s.ui.blank();
        steps::action(s, app, "stop").await?;
    }
    Ok(())
}

pub(super) async fn restage(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    let strategy = Strategy::of(spec, p)?;
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    if strategy == Strategy::StopStart {
        s.ui.warn("This action will cause app downtime.");
    }
    s.ui.blank();
    announce(s, "Restaging", &app.name, &target);
    s.ui.blank();
    let package = steps::newest_package(s, &app).await?.with_context(|| {
        format!(
            "App '{0}' has no package to stage. Use 'cf push {0}' first.",
            app.name
        )
    })?;
    let droplet = steps::stage(s, &app, &package.guid).await?;
    s.ui.blank();
    announce(s, "Restarting", &app.name, &target);
    s.ui.blank();
    replace_instances(s, &app, Some(&droplet), strategy, p.has("no-wait")).await?;
    s.ui.blank();
    summary::show(s, &app.guid, false).await
}

pub(super) async fn restart_app_instance(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let process = p.get("process").unwrap_or("web");
    s.ui.flavor(
        "Restarting instance {} of process {} of app {} in org {} / space {} as {}...",
        &[
            p.arg(1),
            process,
            p.arg(0),
            &target.org.name,
            &target.space.name,
            &target.user,
        ],
    );
    let app = s.app(p.arg(0), &target).await?;
    s.delete(&format!(
        "/v3/apps/{}/processes/{process}/instances/{}",
        app.guid,
        p.arg(1)
    ))
    .await?;
    s.ui.ok();
    Ok(())
}
