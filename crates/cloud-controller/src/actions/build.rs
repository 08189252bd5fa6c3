//! Builds: they turn a ready package into a staging task, which the driver starts.

use crate::auth::Principal;
use crate::controller::Settings;
use crate::db::app::App;
use crate::db::build::{self, Build, BuildState};
use crate::db::buildpack;
use crate::db::droplet::{Droplet, DropletState};
use crate::db::package::{Package, PackageState};
use crate::db::process;
use crate::db::stack;
use crate::db::{self, Connection, Json};
use crate::error::{ApiError, ApiResult};
use crate::quota::Meter;

/// The values that a request may set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub buildpacks: Option<Vec<String>>,
    pub stack: Option<String>,
    pub memory_in_mb: Option<i64>,
    pub disk_in_mb: Option<i64>,
}

pub(crate) async fn create(
    conn: &mut Connection,
    settings: &Settings,
    who: &Principal,
    app: &App,
    package: &Package,
    wish: Wish,
) -> ApiResult<Build> {
    if package.state != PackageState::Ready {
        return Err(ApiError::bad_request(
            "Cannot stage package whose state is not ready.",
        ));
    }
    if build::staging_of_app(conn, &app.guid).await?.is_some() {
        return Err(ApiError::new(
            422,
            170_017,
            "StagingInProgress",
            "Only one build can be STAGING at a time per application.",
        ));
    }
    let buildpacks = wish.buildpacks.unwrap_or_else(|| app.buildpacks.0.clone());
    let known = buildpack::all(conn).await?;
    if let Some(name) = buildpacks.iter().find(|name| {
        !known
            .iter()
            .any(|buildpack| &buildpack.name == *name && buildpack.enabled)
    }) {
        return Err(ApiError::unprocessable(format!(
            "Buildpack \"{name}\" must be an existing admin buildpack or a valid git URI"
        )));
    }
    let default_stack = stack::default_one(conn).await?.map(|stack| stack.name);
    let stack = wish
        .stack
        .or_else(|| app.stack.clone())
        .or(default_stack)
        .unwrap_or_else(|| cc_rules::buildpacks::STACK.to_owned());
    if stack::by_name(conn, &stack).await?.is_none() {
        return Err(ApiError::unprocessable(format!(
            "Stack must be an existing stack (got '{stack}')"
        )));
    }
    let memory_in_mb = staging_memory(conn, settings, app, wish.memory_in_mb).await?;
    let disk_in_mb = wish.disk_in_mb.unwrap_or(settings.staging_disk_mb);
    if disk_in_mb > i64::from(settings.limits.disk_in_mb_per_instance) {
        return Err(ApiError::unprocessable(format!(
            "disk limit exceeded: staging_disk_in_mb must be at most {} (got {disk_in_mb})",
            settings.limits.disk_in_mb_per_instance
        )));
    }
    let droplet = Droplet {
        app_guid: app.guid.clone(),
        package_guid: Some(package.guid.clone()),
        state: DropletState::Staging,
        stack: Some(stack.clone()),
        ..Droplet::fresh()
    };
    db::insert(conn, &droplet).await?;
    let build = Build {
        app_guid: app.guid.clone(),
        package_guid: package.guid.clone(),
        droplet_guid: Some(droplet.guid),
        state: BuildState::Staging,
        buildpacks: Json(buildpacks),
        stack,
        memory_in_mb,
        disk_in_mb,
        created_by_guid: who.guid().to_owned(),
        created_by_name: who.name().to_owned(),
        ..Build::fresh()
    };
    db::insert(conn, &build).await?;
    Ok(build)
}

/// Returns the memory that the request names, or else the memory of the app's web process, but at least the minimum for staging.
/// The minimum is not checked against quotas, so that an app that is smaller than its staging can be pushed into a small quota.
/// Anything else must fit.
async fn staging_memory(
    conn: &mut Connection,
    settings: &Settings,
    app: &App,
    asked: Option<i64>,
) -> ApiResult<i64> {
    let least = settings.staging_memory_mb;
    let wanted = match asked {
        Some(asked) => asked,
        None => process::of_type(conn, &app.guid, "web")
            .await?
            .map_or(least, |web| web.memory_in_mb),
    };
    if asked.is_some() || wanted > least {
        Meter::of_app(conn, app).await?.check_staging(wanted)?;
    }
    Ok(wanted.max(least))
}
