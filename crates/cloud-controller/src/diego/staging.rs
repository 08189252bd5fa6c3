//! Staging: a build becomes a task; its callback makes a droplet or says why not.

use super::recipe::{Artifact, STAGING_DOMAIN};
use super::recipe_staging::{self, Staged, StagingError, StagingSpec, TaskCallback};
use super::spec;
use crate::clock;
use crate::controller::Cc;
use crate::db::app::App;
use crate::db::build::{self, Build, Droplet};
use crate::db::package::Package;
use crate::db::process;
use crate::db::{self, Connection};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;

/// A build younger than this whose task the BBS does not have is desired again.
const DESIRE_AGAIN: Duration = Duration::from_secs(60);

/// After the commit of a new build. A BBS that cannot be reached is tried again by the sync.
pub(crate) async fn start(cc: &Cc, build: &Build) {
    if let Err(error) = desire(cc, build).await {
        tracing::warn!(
            build = build.guid,
            error = format!("{error:#}"),
            "staging-not-started"
        );
        cc.driver.nudge().nudge();
    }
}

async fn desire(cc: &Cc, build: &Build) -> Result<()> {
    let spec = {
        let mut conn = cc.db.read_own().await?;
        staging_spec(cc, &mut conn, build).await?
    };
    let definition = match recipe_staging::task_definition(&spec) {
        Ok(definition) => definition,
        Err(error) => {
            return fail(
                cc,
                &build.guid,
                &StagingError {
                    id: "StagingError",
                    description: format!("Staging error: {error}"),
                },
            )
            .await;
        }
    };
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
        .context("the build's app is gone")?;
    let package: Package = db::by_guid(conn, &build.package_guid)
        .await?
        .context("the build's package is gone")?;
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
        environment: spec::environment(conn, "staging", &app).await?,
        services: json!({}),
        memory_mb: u32::try_from(build.memory_in_mb)?,
        disk_mb: u32::try_from(build.disk_in_mb)?,
        log_rate_limit: -1,
        egress_rules: spec::egress(conn, &app.space_guid, "staging").await?,
        isolation_segment: None,
        api_url: cc.settings.api_url.clone(),
        uris: mappings
            .iter()
            .filter(|mapping| cc.driver.may_have(mapping))
            .map(|mapping| {
                crate::route_rules::url(&mapping.host, &mapping.domain, &mapping.path, 0)
            })
            .collect(),
        timeout_seconds: u32::try_from(cc.settings.staging_timeout.as_secs())?,
    })
}

/// The BBS's callback. A build that is not being staged any more stays as it is.
pub(crate) async fn completed(cc: &Cc, build_guid: &str, callback: &TaskCallback) -> Result<()> {
    match recipe_staging::parse_staging_result(callback) {
        Ok(staged) => succeed(cc, build_guid, staged).await,
        Err(error) => fail(cc, build_guid, &error).await,
    }
}

async fn succeed(cc: &Cc, build_guid: &str, staged: Staged) -> Result<()> {
    let mut tx = cc.db.write().await?;
    let Some((mut build, mut droplet)) = open_build(&mut tx, build_guid).await? else {
        return Ok(());
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
    "STAGED".clone_into(&mut droplet.state);
    "STAGED".clone_into(&mut build.state);
    finish(cc, tx, build, droplet).await
}

pub(crate) async fn fail(cc: &Cc, build_guid: &str, error: &StagingError) -> Result<()> {
    let mut tx = cc.db.write().await?;
    let Some((mut build, mut droplet)) = open_build(&mut tx, build_guid).await? else {
        return Ok(());
    };
    build.error = Some(error.to_string());
    droplet.error = Some(error.to_string());
    "FAILED".clone_into(&mut droplet.state);
    "FAILED".clone_into(&mut build.state);
    finish(cc, tx, build, droplet).await
}

async fn finish(cc: &Cc, mut tx: db::Tx, mut build: Build, mut droplet: Droplet) -> Result<()> {
    build.touch();
    droplet.touch();
    db::update(&mut tx, &build).await?;
    db::update(&mut tx, &droplet).await?;
    tx.commit().await?;
    let line = match &build.error {
        None => format!("Staged build {} as droplet {}", build.guid, droplet.guid),
        Some(error) => format!("Failed to stage build {}: {error}", build.guid),
    };
    cc.log_to_app(&build.app_guid, line);
    Ok(())
}

async fn open_build(conn: &mut Connection, guid: &str) -> Result<Option<(Build, Droplet)>> {
    let Some(build) = db::by_guid::<Build>(conn, guid)
        .await?
        .filter(|build| build.state == "STAGING")
    else {
        return Ok(None);
    };
    let droplet = db::by_guid(conn, build.droplet_guid.as_deref().unwrap_or_default()).await?;
    Ok(droplet.map(|droplet| (build, droplet)))
}

/// Part of the sync: builds whose task is missing are desired again or given up; those that took too long are ended.
pub(crate) async fn repair(cc: &Cc, tasks: &HashSet<String>) -> Result<()> {
    let builds = {
        let mut conn = cc.db.read_own().await?;
        build::staging(&mut conn).await?
    };
    let age = |build: &Build| {
        Duration::from_micros(u64::try_from(clock::now() - build.created_at).unwrap_or_default())
    };
    for build in builds {
        if age(&build) > cc.settings.staging_timeout + Duration::from_secs(30) {
            let _ = cc.bbs.cancel_task(&build.guid).await;
            let description = format!(
                "Staging error: staging took longer than {} seconds",
                cc.settings.staging_timeout.as_secs()
            );
            fail(
                cc,
                &build.guid,
                &StagingError {
                    id: "StagingTimeExpired",
                    description,
                },
            )
            .await?;
        } else if !tasks.contains(&build.guid) && age(&build) < DESIRE_AGAIN {
            desire(cc, &build).await?;
        } else if !tasks.contains(&build.guid) {
            let description = "Staging error: the staging task was lost; push again".to_owned();
            fail(
                cc,
                &build.guid,
                &StagingError {
                    id: "StagingError",
                    description,
                },
            )
            .await?;
        }
    }
    Ok(())
}
