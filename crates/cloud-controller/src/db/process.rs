//! Processes, and the desired LRPs that must go away.

use super::{Arg, Connection, Json, ListCondition, Readable, Select, execute, readable_rows, rows};
use crate::metadata::Metadata;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;

rows! {
    /// `version` with the guid names the desired LRP; a new version is a new LRP.
    Process in "processes" {
        app_guid: String, r#type: String, version: String, command: Option<String>, user: Option<String>, instances: i64, memory_in_mb: i64, disk_in_mb: i64,
        log_rate_limit: i64, health_check: Json<HealthCheck>, readiness_health_check: Json<HealthCheck>, metadata: Json<Metadata>,
    }
}

/// As in the API: seconds; absent values take Diego's defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HealthCheck {
    pub r#type: String,
    pub timeout: Option<i64>,
    pub invocation_timeout: Option<i64>,
    pub interval: Option<i64>,
    pub endpoint: Option<String>,
}

impl Process {
    /// The process guid that Diego knows.
    pub(crate) fn lrp_guid(&self) -> String {
        format!("{}-{}", self.guid, self.version)
    }
}

pub(crate) async fn of_app(conn: &mut Connection, app: &str) -> sqlx::Result<Vec<Process>> {
    Select::new().is("app_guid", app).all(conn).await
}

/// The newest of a type: during a deployment there are two of type web.
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

/// All processes of started apps.
pub(crate) async fn started(conn: &mut Connection) -> sqlx::Result<Readable<Process>> {
    Select::new().and("app_guid IN (SELECT guid FROM apps WHERE state = 'STARTED' AND droplet_guid IS NOT NULL)", []).readable(conn).await
}

/// What the tags of an app's logs are made of, beside the app itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Space(&'a str),
    Organization(&'a str),
}

/// After a rename: the started processes in a place count as changed, so that the sync brings the new name to Diego.
pub(crate) async fn touch_in(conn: &mut Connection, place: Place<'_>) -> sqlx::Result<()> {
    let now = crate::clock::now().into();
    let (sql, guid) = match place {
        Place::Space(guid) => (
            "UPDATE processes SET updated_at = MAX($1, updated_at + 1)
             WHERE app_guid IN (SELECT guid FROM apps WHERE state = 'STARTED' AND space_guid = $2)",
            guid,
        ),
        Place::Organization(guid) => (
            "UPDATE processes SET updated_at = MAX($1, updated_at + 1)
             WHERE app_guid IN (SELECT guid FROM apps WHERE state = 'STARTED' AND space_guid IN (SELECT guid FROM spaces WHERE organization_guid = $2))",
            guid,
        ),
    };
    execute(conn, sql, &[now, guid.into()]).await.map(drop)
}

/// Notes that a desired LRP must be removed; the driver does it after the commit and clears the note.
pub(crate) async fn retire_lrp(
    conn: &mut Connection,
    process: &str,
    lrp_guid: &str,
) -> sqlx::Result<()> {
    execute(
        conn,
        "INSERT OR IGNORE INTO stale_lrps (process_guid, lrp_guid) VALUES ($1, $2)",
        &[Arg::from(process), lrp_guid.into()],
    )
    .await
    .map(drop)
}

pub(crate) async fn stale_lrps(conn: &mut Connection, process: &str) -> sqlx::Result<Vec<String>> {
    let rows = sqlx::query("SELECT lrp_guid FROM stale_lrps WHERE process_guid = $1")
        .bind(process.to_owned())
        .fetch_all(conn)
        .await?;
    Ok(readable_rows(&rows, |row| row.try_get(0)))
}

pub(crate) async fn processes_with_stale_lrps(conn: &mut Connection) -> sqlx::Result<Vec<String>> {
    let rows = sqlx::query("SELECT DISTINCT process_guid FROM stale_lrps")
        .fetch_all(conn)
        .await?;
    Ok(readable_rows(&rows, |row| row.try_get(0)))
}

pub(crate) async fn lrp_is_gone(conn: &mut Connection, lrp_guid: &str) -> sqlx::Result<()> {
    execute(
        conn,
        "DELETE FROM stale_lrps WHERE lrp_guid = $1",
        &[lrp_guid.into()],
    )
    .await
    .map(drop)
}

/// Processes with more than `most` instances get `instances`; answers how many there were.
pub(crate) async fn shrink(conn: &mut Connection, most: i64, instances: i64) -> sqlx::Result<u64> {
    execute(
        conn,
        "UPDATE processes SET instances = $2, updated_at = updated_at + 1 WHERE instances > $1",
        &[most.into(), instances.into()],
    )
    .await
}

/// Apps that run.
macro_rules! started {
    () => {
        "SELECT guid FROM apps WHERE state = 'STARTED' AND droplet_guid IS NOT NULL"
    };
}

/// Processes of all apps that run.
pub(crate) async fn running(conn: &mut Connection) -> sqlx::Result<Vec<Process>> {
    let sql = concat!("app_guid IN (", started!(), ")");
    Select::new().and(sql, []).all(conn).await
}

/// Processes of the apps that run in some spaces.
pub(crate) async fn running_in(
    conn: &mut Connection,
    spaces: Vec<String>,
) -> sqlx::Result<Vec<Process>> {
    if spaces.is_empty() {
        return Ok(Vec::new());
    }
    let sql = concat!("app_guid IN (", started!(), " AND space_guid IN (?))");
    Select::new()
        .list(ListCondition(sql), spaces)
        .all(conn)
        .await
}

/// The web processes of an app, the newest first.
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
