//! Processes, and the desired LRPs that must be removed.

use super::app::App;
use super::{
    Arg, Connection, Json, Readable, Select, execute, readable_rows, rows, spelled, with_parent,
};
use cc_rules::metadata::Metadata;
use kit::db::query;
use serde::{Deserialize, Serialize};

rows! {
    /// A process. `version` and the guid form the name of the desired LRP, so a new version is a new LRP.
    Process in "processes" {
        app_guid: String, r#type: String, version: String, command: Option<String>, user: Option<String>, instances: i64, memory_in_mb: i64, disk_in_mb: i64,
        log_rate_limit: i64, health_check: Json<HealthCheck>, readiness_health_check: Json<HealthCheck>, metadata: Json<Metadata>,
    }
}

spelled! {
    /// The way in which an instance is checked: whether its ports accept connections, whether its endpoint answers 200, or whether
    /// its process runs. `none` is an older name of `process`, which the API no longer stores.
    CheckType { Port = "port", Http = "http", Process = "process", None = "none" }
}

/// A health check as in the API. Times are in seconds; absent values mean Diego's defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HealthCheck {
    pub r#type: CheckType,
    pub timeout: Option<i64>,
    pub invocation_timeout: Option<i64>,
    pub interval: Option<i64>,
    pub endpoint: Option<String>,
}

impl Process {
    /// Returns the guid of the desired LRP, which Diego calls the process guid.
    pub(crate) fn lrp_guid(&self) -> String {
        format!("{}-{}", self.guid, self.version)
    }
}

pub(crate) async fn of_app(conn: &mut Connection, app: &str) -> sqlx::Result<Vec<Process>> {
    Select::new().is("app_guid", app).all(conn).await
}

/// Returns the newest process of a type. During a deployment there are two of type web.
pub(crate) async fn of_type(
    conn: &mut Connection,
    app: &str,
    process_type: &str,
) -> sqlx::Result<Option<Process>> {
    Select::new()
        .is("app_guid", app)
        .is("type", process_type)
        .order("id DESC")
        .first(conn)
        .await
}

/// Returns all processes of started apps that have a droplet.
pub(crate) async fn started(conn: &mut Connection) -> sqlx::Result<Readable<Process>> {
    Select::new().and("app_guid IN (SELECT guid FROM apps WHERE state = 'STARTED' AND droplet_guid IS NOT NULL)", []).readable(conn).await
}

/// The beginning of a statement that marks processes as changed at the time `$1`. The mark always increases.
macro_rules! touch {
    () => {
        "UPDATE processes SET updated_at = CASE WHEN updated_at < $1 THEN $1 ELSE updated_at + 1 END"
    };
}

/// Returns a process and its app.
pub(crate) async fn with_app(
    conn: &mut Connection,
    guid: &str,
) -> sqlx::Result<Option<(Process, App)>> {
    with_parent(conn, guid, "app_guid").await
}

/// Marks the processes of a type of an app as changed, so that the sync updates them in Diego. Returns their guids.
pub(crate) async fn touch_of_type(
    conn: &mut Connection,
    app: &str,
    process_type: &str,
) -> sqlx::Result<Vec<String>> {
    let rows = query(concat!(
        touch!(),
        " WHERE app_guid = $2 AND type = $3 RETURNING guid"
    ))
    .bind(crate::clock::now())
    .bind(app)
    .bind(process_type)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// A place whose name is in the tags of an app's logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Space(&'a str),
    Organization(&'a str),
}

/// Marks the started processes in a place as changed after a rename, so that the sync updates the name in Diego.
pub(crate) async fn touch_in(conn: &mut Connection, place: Place<'_>) -> sqlx::Result<()> {
    let now = crate::clock::now().into();
    let (sql, guid) = match place {
        Place::Space(guid) => (
            concat!(
                touch!(),
                " WHERE app_guid IN (SELECT guid FROM apps WHERE state = 'STARTED' AND space_guid = $2)"
            ),
            guid,
        ),
        Place::Organization(guid) => (
            concat!(
                touch!(),
                " WHERE app_guid IN (SELECT guid FROM apps WHERE state = 'STARTED' AND space_guid IN (SELECT guid FROM spaces WHERE organization_guid = $2))"
            ),
            guid,
        ),
    };
    execute(conn, sql, &[now, guid.into()]).await.map(drop)
}

/// Notes that a desired LRP must be removed. The driver removes it after the commit and deletes the note.
pub(crate) async fn retire_lrp(
    conn: &mut Connection,
    process: &str,
    lrp_guid: &str,
) -> sqlx::Result<()> {
    execute(
        conn,
        "INSERT INTO stale_lrps (process_guid, lrp_guid) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        &[Arg::from(process), lrp_guid.into()],
    )
    .await
    .map(drop)
}

pub(crate) async fn stale_lrps(conn: &mut Connection, process: &str) -> sqlx::Result<Vec<String>> {
    let rows = query("SELECT lrp_guid FROM stale_lrps WHERE process_guid = $1")
        .bind(process)
        .fetch_all(conn)
        .await?;
    Ok(readable_rows(&rows, |row| row.try_get(0)))
}

pub(crate) async fn processes_with_stale_lrps(conn: &mut Connection) -> sqlx::Result<Vec<String>> {
    let rows = query("SELECT DISTINCT process_guid FROM stale_lrps")
        .fetch_all(conn)
        .await?;
    Ok(readable_rows(&rows, |row| row.try_get(0)))
}

pub(crate) async fn delete_stale_lrp(conn: &mut Connection, lrp_guid: &str) -> sqlx::Result<()> {
    execute(
        conn,
        "DELETE FROM stale_lrps WHERE lrp_guid = $1",
        &[lrp_guid.into()],
    )
    .await
    .map(drop)
}

/// Reduces processes with more than `most` instances to `instances`. Returns the number of changed processes.
pub(crate) async fn shrink(conn: &mut Connection, most: i64, instances: i64) -> sqlx::Result<u64> {
    execute(
        conn,
        "UPDATE processes SET instances = $2, updated_at = updated_at + 1 WHERE instances > $1",
        &[most.into(), instances.into()],
    )
    .await
}

/// The guids of the apps that run: started apps with a droplet.
macro_rules! started {
    () => {
        "SELECT guid FROM apps WHERE state = 'STARTED' AND droplet_guid IS NOT NULL"
    };
}

/// Returns the guids of the processes of all apps that run.
pub(crate) async fn running(conn: &mut Connection) -> sqlx::Result<Vec<String>> {
    let rows = query(concat!(
        "SELECT guid FROM processes WHERE app_guid IN (",
        started!(),
        ")"
    ))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Returns the guids of an app's processes, if it runs.
pub(crate) async fn running_of(conn: &mut Connection, app: &str) -> sqlx::Result<Vec<String>> {
    let rows = query(concat!(
        "SELECT guid FROM processes WHERE app_guid = $1 AND app_guid IN (",
        started!(),
        ")"
    ))
    .bind(app)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Returns the guids of the processes of the apps that run in some spaces.
pub(crate) async fn running_in(
    conn: &mut Connection,
    spaces: Vec<String>,
) -> sqlx::Result<Vec<String>> {
    if spaces.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query(concat!(
        "SELECT guid FROM processes WHERE app_guid IN (",
        started!(),
        " AND space_guid IN LIST($1))"
    ))
    .bind(spaces)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Marks processes as changed at the time `now`. `updated_at` always increases. One statement does it, because all processes of a
/// foundation may be among them.
pub(crate) async fn touch_all(
    conn: &mut Connection,
    guids: &[String],
    now: i64,
) -> sqlx::Result<()> {
    execute(
        conn,
        "UPDATE processes SET updated_at = CASE WHEN updated_at < $1 THEN $1 ELSE updated_at + 1 END WHERE guid IN LIST($2)",
        &[now.into(), Arg::texts(guids.iter().map(String::as_str))],
    )
    .await
    .map(drop)
}

/// Returns the web processes of an app, the newest first.
pub(crate) async fn webs_newest_first(
    conn: &mut Connection,
    app: &str,
) -> sqlx::Result<Vec<Process>> {
    Select::new()
        .is("app_guid", app)
        .is("type", "web")
        .order("id DESC")
        .all(conn)
        .await
}
