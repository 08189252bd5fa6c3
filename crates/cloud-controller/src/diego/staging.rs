//! Staging: a build becomes a task, and the task's callback completes the droplet or fails the build.

use super::egress::{self, Known};
use super::fault;
use super::pass::Pass;
use super::spec;
use crate::actions::audit;
use crate::change::Change;
use crate::clock;
use crate::controller::Cc;
use crate::db::app::App;
use crate::db::build::{self, Build, BuildState};
use crate::db::droplet::{Droplet, DropletState};
use crate::db::package::Package;
use crate::db::process;
use crate::db::security_group::Phase;
use crate::db::space::Space;
use crate::db::{self, Connection, Trail, Unrecorded};
use anyhow::{Context as _, Result};
use cc_rules::recipe::staging::{Staged, StagingError, StagingSpec};
use cc_rules::recipe::{self, Artifact, STAGING_DOMAIN};
use serde_json::json;
use std::time::Duration;
use wire::bbs::{SecurityGroupRule, TaskCallback};

/// The age up to which a build is desired again if the BBS does not have its task.
const DESIRE_AGAIN: Duration = Duration::from_secs(60);

/// Starts a build after its commit. If the BBS cannot be reached, the sync retries.
pub(crate) async fn start(cc: &Cc, build: &Build) {
    cc.metrics.staging_requests.add(1);
    if let Err(error) = desire(cc, build).await {
        tracing::warn!(
            build = build.guid,
            error = format!("{error:#}"),
            "staging-not-started"
        );
        cc.driver.nudge().nudge();
    }
}

/// Desires the task of a build. A build that can never be desired fails, so that its owner learns the reason.
async fn desire(cc: &Cc, build: &Build) -> Result<()> {
    match try_desire(cc, build).await {
        Err(error) if fault::is_row_wrong(&error) => {
            let description = format!("Staging error: {error:#}");
            let problem = StagingError {
                id: "StagingError",
                description,
            };
            fail(cc, &build.guid, &problem).await
        }
        result => result,
    }
}

async fn try_desire(cc: &Cc, build: &Build) -> Result<()> {
    let spec = {
        let mut conn = cc.db.read_own().await?;
        staging_spec(cc, &mut conn, build).await?
    };
    let definition = recipe::staging::task_definition(&spec)?;
    match cc
        .bbs
        .desire_task(&build.guid, STAGING_DOMAIN, definition)
        .await
    {
        Err(error) if error.is_exists() => Ok(()),
        Err(error) if error.kind().is_some() => {
            let description = format!("Staging error: the BBS refused the staging task: {error}");
            fail(
                cc,
                &build.guid,
                &StagingError {
                    id: "StagerError",
                    description,
                },
            )
            .await
        }
        result => Ok(result?),
    }
}

async fn staging_spec(cc: &Cc, conn: &mut Connection, build: &Build) -> Result<StagingSpec> {
    let app: App = db::by_guid(conn, &build.app_guid)
        .await?
        .context("the build's app does not exist any more")?;
    let package: Package = db::by_guid(conn, &build.package_guid)
        .await?
        .context("the build's package does not exist any more")?;
    let droplet = build
        .droplet_guid
        .as_deref()
        .context("the build has no droplet")?;
    let mappings = db::route::mappings(conn, &app.guid, "web").await?;
    let url = &cc.settings.internal_url;
    Ok(StagingSpec {
        identity: spec::identity(conn, &app).await?,
        build_guid: build.guid.clone(),
        stack: build.stack.clone(),
        package: Artifact {
            url: format!("{url}/internal/v4/packages/{}/download", package.guid),
            sha256: package.checksum.unwrap_or_default(),
        },
        lifecycle: cc.driver.lifecycle(),
        droplet_upload_url: format!("{url}/internal/v4/droplets/{droplet}/upload"),
        completion_callback_url: format!(
            "{url}/internal/v3/staging/{}/build_completed",
            build.guid
        ),
        buildpacks: build.buildpacks.0.clone(),
        environment: spec::environment(conn, &cc.settings.keys, "staging", &app).await?,
        services: spec::services(conn, &cc.settings.keys, &app).await?,
        memory_mb: u32::try_from(build.memory_in_mb)?,
        disk_mb: u32::try_from(build.disk_in_mb)?,
        log_rate_limit: -1,
        egress_rules: spec::egress(conn, &app, Phase::Staging, cc.driver.bound_egress()).await?,
        isolation_segment: None,
        api_url: cc.settings.api_url.clone(),
        uris: mappings
            .iter()
            .filter(|mapping| cc.driver.may_desire(mapping))
            .map(|mapping| {
                cc_rules::route_rules::url(&mapping.host, &mapping.domain, &mapping.path, 0)
            })
            .collect(),
        timeout_seconds: u32::try_from(cc.settings.staging_timeout.as_secs())?,
    })
}

/// Handles the BBS's callback. A build whose staging has ended stays unchanged.
pub(crate) async fn completed(cc: &Cc, build_guid: &str, callback: &TaskCallback) -> Result<()> {
    match recipe::staging::parse_staging_result(callback) {
        Ok(staged) => succeed(cc, build_guid, staged).await,
        Err(error) => fail(cc, build_guid, &error).await,
    }
}

async fn succeed(cc: &Cc, build_guid: &str, staged: Staged) -> Result<()> {
    let mut tx = cc.change().await?;
    let Some((mut build, droplet)) = open_build(&mut tx, build_guid).await? else {
        return Ok(());
    };
    let Some(mut droplet) = droplet else {
        drop(tx);
        let description = "Staging error: the build's droplet does not exist any more".to_owned();
        let problem = StagingError {
            id: "StagingError",
            description,
        };
        return fail(cc, build_guid, &problem).await;
    };
    let web = process::of_type(&mut tx, &build.app_guid, "web").await?;
    let command = web
        .and_then(|process| process.command)
        .filter(|command| !command.is_empty());
    let problem = if droplet.checksum.is_none() {
        Some("Staging error: the droplet was not uploaded")
    } else if staged.start_command().is_none()
        && command.is_none()
        && !staged.process_types.keys().any(|kind| kind != "web")
    {
        Some("Staging error: Start command not specified")
    } else {
        None
    };
    if let Some(problem) = problem {
        drop(tx);
        return fail(
            cc,
            build_guid,
            &StagingError {
                id: "StagingError",
                description: problem.to_owned(),
            },
        )
        .await;
    }
    let metadata = staged.lifecycle_metadata;
    let used = metadata.buildpacks.iter().map(|used| {
        json!({ "name": used.key, "buildpack_name": used.name, "detect_output": metadata.detected_buildpack, "version": used.version })
    });
    droplet.buildpacks.0 = used.collect();
    droplet.process_types.0 = staged.process_types;
    droplet.execution_metadata = staged.execution_metadata;
    droplet.sidecars.0 = staged.sidecars;
    droplet.state = DropletState::Staged;
    build.state = BuildState::Staged;
    finish(cc, tx, build, Some(droplet)).await
}

pub(crate) async fn fail(cc: &Cc, build_guid: &str, error: &StagingError) -> Result<()> {
    let mut tx = cc.change().await?;
    let Some((mut build, mut droplet)) = open_build(&mut tx, build_guid).await? else {
        return Ok(());
    };
    build.error = Some(error.to_string());
    build.state = BuildState::Failed;
    if let Some(droplet) = &mut droplet {
        droplet.error = Some(error.to_string());
        droplet.state = DropletState::Failed;
    }
    finish(cc, tx, build, droplet).await
}

async fn finish(cc: &Cc, mut tx: Change, mut build: Build, droplet: Option<Droplet>) -> Result<()> {
    build.touch();
    db::update(&mut tx, &build).await?;
    if let Some(mut droplet) = droplet {
        droplet.touch();
        db::update(&mut tx, &droplet).await?;
    }
    let trail = record_end(&mut tx, &build).await?;
    let droplet = build.droplet_guid.as_deref().unwrap_or_default();
    let line = match &build.error {
        None => format!("Staged build {} as droplet {droplet}", build.guid),
        Some(error) => format!("Failed to stage build {}: {error}", build.guid),
    };
    tx.log_to_app(&build.app_guid, line);
    tx.commit(trail).await?;
    let duration = match build.error {
        None => &cc.metrics.staging_succeeded,
        Some(_) => &cc.metrics.staging_failed,
    };
    duration.observe(age(&build));
    Ok(())
}

/// Returns the time since the build was created.
fn age(build: &Build) -> Duration {
    Duration::from_micros(u64::try_from(clock::now() - build.created_at).unwrap_or_default())
}

/// Records the end of the staging and the new droplet as events, in the name of the user who requested the build.
async fn record_end(conn: &mut Connection, build: &Build) -> Result<Trail> {
    let Some(app) = db::by_guid::<App>(conn, &build.app_guid).await? else {
        return Ok(Unrecorded::Consequence.into());
    };
    let Some(space) = db::by_guid::<Space>(conn, &app.space_guid).await? else {
        return Ok(Unrecorded::Consequence.into());
    };
    let actor = (
        build.created_by_guid.as_str(),
        "user",
        build.created_by_name.as_str(),
    );
    let target = (app.guid.as_str(), "app", app.name.as_str());
    let mut data = json!({ "build_guid": build.guid, "package_guid": build.package_guid });
    if let Some(error) = &build.error {
        data["error_message"] = json!(error);
        data["error_id"] = json!(error.split(" - ").next());
        let kind = "audit.app.build.failed";
        return Ok(audit::record_of(conn, actor, kind, target, &space, data).await?);
    }
    data["droplet_guid"] = json!(build.droplet_guid);
    let made = json!({ "droplet_guid": build.droplet_guid, "package_guid": build.package_guid });
    let kind = "audit.app.droplet.create";
    audit::also(audit::record_of(conn, actor, kind, target, &space, made).await?);
    let kind = "audit.app.build.staged";
    Ok(audit::record_of(conn, actor, kind, target, &space, data).await?)
}

/// Returns a build that is being staged, and its droplet unless that was removed.
async fn open_build(conn: &mut Connection, guid: &str) -> Result<Option<(Build, Option<Droplet>)>> {
    let Some(build) = db::by_guid::<Build>(conn, guid)
        .await?
        .filter(|build| build.state == BuildState::Staging)
    else {
        return Ok(None);
    };
    let droplet = db::by_guid(conn, build.droplet_guid.as_deref().unwrap_or_default()).await?;
    Ok(Some((build, droplet)))
}

/// Reconciles every open build with its task, as part of the sync. A build with which this fails is skipped and reported. Tasks
/// that belong to no open build are cancelled.
pub(crate) async fn repair(cc: &Cc, tasks: &Known) -> Result<()> {
    let builds = {
        let mut conn = cc.db.read_own().await?;
        build::staging(&mut conn).await?
    };
    let mut pass = Pass::new(&builds.broken);
    for build in &builds.rows {
        let has = tasks.get(&build.guid).map(Vec::as_slice);
        pass.note(&build.guid, repair_one(cc, build, has).await);
    }
    if pass.knows_all_guids() {
        let open = builds.rows.iter().map(|build| build.guid.as_str());
        pass.cancel_unknown(cc, tasks, open).await;
    }
    pass.end(cc, "builds")
}

/// Ends a build that takes too long. If the task is missing, desires it again while the build is young, and fails the build
/// later. `has` contains the rules of the BBS's task.
async fn repair_one(cc: &Cc, build: &Build, has: Option<&[SecurityGroupRule]>) -> Result<()> {
    let age = age(build);
    let (id, description) = if age > cc.settings.staging_timeout + Duration::from_secs(30) {
        let _ = cc.bbs.cancel_task(&build.guid).await;
        let limit = cc.settings.staging_timeout.as_secs();
        (
            "StagingTimeExpired",
            format!("Staging error: staging took longer than {limit} seconds"),
        )
    } else if let Some(rules) = has {
        return egress::follow(cc, &build.guid, &build.app_guid, Phase::Staging, rules).await;
    } else if age < DESIRE_AGAIN {
        return desire(cc, build).await;
    } else {
        (
            "StagingError",
            "Staging error: the staging task was lost; push again".to_owned(),
        )
    };
    fail(cc, &build.guid, &StagingError { id, description }).await
}
