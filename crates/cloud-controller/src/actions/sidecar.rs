//! Verbs of sidecars: create and change. They check that the sidecars leave memory for the process beside them. A change applies
//! to instances that start afterwards.

use crate::db::app::App;
use crate::db::droplet::Droplet;
use crate::db::process::{self, Process};
use crate::db::sidecar::{self, Origin, Sidecar};
use crate::db::{self, Connection};
use crate::error::{ApiError, ApiResult};
use cc_rules::limits::Limits;
use cc_rules::manifest::SidecarManifest;

/// The fields that a request, a manifest or a buildpack sets. Absent fields stay unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wish {
    pub name: Option<String>,
    pub command: Option<String>,
    pub process_types: Option<Vec<String>>,
    /// The memory. `Some(None)` means that the sidecar has no memory of its own.
    pub memory_in_mb: Option<Option<i64>>,
}

impl From<&SidecarManifest> for Wish {
    fn from(manifest: &SidecarManifest) -> Self {
        Self {
            name: Some(manifest.name.clone()),
            command: Some(manifest.command.clone()),
            process_types: Some(manifest.process_types.clone()),
            memory_in_mb: manifest.memory_in_mb.map(Some),
        }
    }
}

pub(crate) async fn create(
    conn: &mut Connection,
    limits: &Limits,
    app: &App,
    wish: Wish,
    origin: Origin,
) -> ApiResult<Sidecar> {
    let mut sidecar = Sidecar {
        app_guid: app.guid.clone(),
        origin,
        ..Sidecar::fresh()
    };
    overwrite(&mut sidecar, wish);
    let most = limits.sidecars_per_app;
    if sidecar::of_app(conn, &app.guid).await?.len() >= most as usize {
        return Err(ApiError::unprocessable(format!(
            "The app has {most} sidecars already; an app may have at most {most}"
        )));
    }
    check(conn, &sidecar).await?;
    db::insert(conn, &sidecar).await?;
    Ok(sidecar)
}

pub(crate) async fn update(
    conn: &mut Connection,
    sidecar: &mut Sidecar,
    wish: Wish,
) -> ApiResult<()> {
    overwrite(sidecar, wish);
    check(conn, sidecar).await?;
    sidecar.touch();
    db::update(conn, sidecar).await?;
    Ok(())
}

/// Applies a manifest's sidecar: changes the sidecar of that name, or else creates it.
pub(crate) async fn apply(
    conn: &mut Connection,
    limits: &Limits,
    app: &App,
    wish: Wish,
) -> ApiResult<()> {
    let name = wish.name.as_deref().unwrap_or_default();
    match sidecar::by_name(conn, &app.guid, name).await? {
        Some(mut known) => update(conn, &mut known, wish).await,
        None => create(conn, limits, app, wish, Origin::User)
            .await
            .map(drop),
    }
}

fn overwrite(sidecar: &mut Sidecar, wish: Wish) {
    if let Some(name) = wish.name {
        sidecar.name = name;
    }
    if let Some(command) = wish.command {
        sidecar.command = command;
    }
    if let Some(types) = wish.process_types {
        sidecar.process_types.0 = types;
    }
    if let Some(memory) = wish.memory_in_mb {
        sidecar.memory_in_mb = memory;
    }
}

async fn check(conn: &mut Connection, sidecar: &Sidecar) -> ApiResult<()> {
    let same_name = sidecar::by_name(conn, &sidecar.app_guid, &sidecar.name).await?;
    if same_name.is_some_and(|other| other.guid != sidecar.guid) {
        return Err(ApiError::unprocessable(format!(
            "Sidecar with name '{}' already exists for given app",
            sidecar.name
        )));
    }
    for process in process::of_app(conn, &sidecar.app_guid).await? {
        if !sidecar.process_types.0.contains(&process.r#type) {
            continue;
        }
        let beside = sidecar::beside(&sidecar.app_guid, &process.r#type)
            .that(sidecar::is_other_than(sidecar))
            .all::<Sidecar>(conn)
            .await?;
        let mine = sidecar.memory_in_mb.unwrap_or_default();
        if mine + memory(&beside) >= process.memory_in_mb {
            return Err(ApiError::unprocessable(format!(
                "The memory allocation defined is too large to run with the dependent \"{}\" process",
                process.r#type
            )));
        }
    }
    Ok(())
}

/// Returns the memory in MB that sidecars use of the memory of the process beside them.
pub(crate) fn memory(sidecars: &[Sidecar]) -> i64 {
    sidecars
        .iter()
        .filter_map(|sidecar| sidecar.memory_in_mb)
        .sum()
}

/// Refuses a process whose sidecars would use all of its memory.
pub(crate) async fn check_room(conn: &mut Connection, process: &Process) -> ApiResult<()> {
    if has_room(conn, process).await? {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "The requested memory allocation is not large enough to run all of your sidecar processes",
    ))
}

/// Refuses a process of a droplet whose sidecars would use all of its memory. Only the error text differs from `check_room`.
pub(crate) async fn check_room_for_new(conn: &mut Connection, process: &Process) -> ApiResult<()> {
    if has_room(conn, process).await? {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!(
        "The sidecar memory allocation defined is too large to run with the dependent \"{}\" process",
        process.r#type
    )))
}

async fn has_room(conn: &mut Connection, process: &Process) -> ApiResult<bool> {
    let beside = sidecar::beside(&process.app_guid, &process.r#type)
        .all::<Sidecar>(conn)
        .await?;
    let taken = memory(&beside);
    Ok(taken == 0 || taken < process.memory_in_mb)
}

/// Replaces the sidecars of the app's previous droplet with those of its new one.
pub(crate) async fn replace_with_droplets(
    conn: &mut Connection,
    limits: &Limits,
    app: &App,
    droplet: &Droplet,
) -> ApiResult<()> {
    sidecar::delete_of_buildpack(conn, &app.guid).await?;
    for staged in &droplet.sidecars.0 {
        if sidecar::by_name(conn, &app.guid, &staged.name)
            .await?
            .is_some()
        {
            return Err(ApiError::unprocessable(format!(
                "Buildpack defined sidecar '{0}' conflicts with an existing user-defined sidecar. Consider renaming '{0}'.",
                staged.name
            )));
        }
        let wish = Wish {
            name: Some(staged.name.clone()),
            command: Some(staged.command.clone()),
            process_types: Some(staged.process_types.clone()),
            memory_in_mb: Some(staged.memory),
        };
        create(conn, limits, app, wish, Origin::Buildpack).await?;
    }
    Ok(())
}
