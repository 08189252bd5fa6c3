//! Removes old rows. Each statement affects a bounded number of them.

use super::droplet::DropletState;
use super::package::PackageState;
use super::{Connection, execute};
use crate::bits::store::Kind;
use kit::db::{AssertSqlSafe, query};
use std::collections::HashSet;

/// The statements of which each deletes at most `$2` rows that were last changed before `$1`.
pub(crate) const OLD_RECORDS: &[&str] = &[
    "DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events WHERE created_at < $1 LIMIT $2)",
    "DELETE FROM app_usage_events WHERE id IN (SELECT id FROM app_usage_events WHERE created_at < $1 LIMIT $2)",
    "DELETE FROM service_usage_events WHERE id IN (SELECT id FROM service_usage_events WHERE created_at < $1 LIMIT $2)",
    "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE state NOT IN ('PROCESSING', 'POLLING') AND updated_at < $1 LIMIT $2)",
    "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE state IN ('SUCCEEDED', 'FAILED') AND updated_at < $1 LIMIT $2)",
    "DELETE FROM builds WHERE id IN (SELECT id FROM builds WHERE state <> 'STAGING' AND updated_at < $1 LIMIT $2)",
    "DELETE FROM deployments WHERE id IN (SELECT id FROM deployments WHERE state = 'FINALIZED' AND updated_at < $1 LIMIT $2)",
    // A row without bits is of no use after that time.
    "DELETE FROM droplets WHERE id IN (SELECT id FROM droplets WHERE state IN ('EXPIRED', 'FAILED', 'AWAITING_UPLOAD', 'COPYING') AND updated_at < $1
        AND guid NOT IN (SELECT droplet_guid FROM apps WHERE droplet_guid IS NOT NULL) LIMIT $2)",
    "DELETE FROM packages WHERE id IN (SELECT id FROM packages WHERE state IN ('EXPIRED', 'FAILED', 'AWAITING_UPLOAD', 'COPYING') AND updated_at < $1
        AND guid NOT IN (SELECT package_guid FROM builds WHERE state = 'STAGING') LIMIT $2)",
];

/// Runs one of [`OLD_RECORDS`] and returns the number of deleted rows.
pub(crate) async fn remove_old(
    conn: &mut Connection,
    statement: &'static str,
    cutoff: i64,
    limit: i64,
) -> sqlx::Result<u64> {
    execute(conn, statement, &[cutoff.into(), limit.into()]).await
}

/// A resource of which the newest ones are kept for each app.
#[derive(Debug)]
pub(crate) struct Kept {
    table: &'static str,
    /// The state of the rows that are counted.
    state: &'static str,
    /// The condition for rows that nothing uses now.
    unused: &'static str,
}

pub(crate) const DROPLETS: Kept = Kept {
    table: "droplets",
    state: DropletState::Staged.as_str(),
    unused: "guid NOT IN (SELECT droplet_guid FROM apps WHERE droplet_guid IS NOT NULL)
        AND guid NOT IN (SELECT droplet_guid FROM builds WHERE state = 'STAGING' AND droplet_guid IS NOT NULL)
        AND guid NOT IN (SELECT droplet_guid FROM deployments WHERE state = 'ACTIVE')
        AND guid NOT IN (SELECT previous_droplet_guid FROM deployments WHERE state = 'ACTIVE' AND previous_droplet_guid IS NOT NULL)
        AND guid NOT IN (SELECT droplet_guid FROM tasks WHERE state IN ('PENDING', 'RUNNING', 'CANCELING'))",
};

pub(crate) const PACKAGES: Kept = Kept {
    table: "packages",
    state: PackageState::Ready.as_str(),
    unused: "guid NOT IN (SELECT package_guid FROM builds WHERE state = 'STAGING')
        AND guid NOT IN (SELECT d.package_guid FROM droplets d JOIN apps a ON a.droplet_guid = d.guid WHERE d.package_guid IS NOT NULL)",
};

/// Returns the guids of unused rows beyond the newest `keep` of each app, at most `limit`.
pub(crate) async fn surplus(
    conn: &mut Connection,
    kind: &Kept,
    keep: i64,
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    let Kept {
        table,
        state,
        unused,
    } = kind;
    let sql = format!(
        "SELECT guid FROM (SELECT guid, ROW_NUMBER() OVER (PARTITION BY app_guid ORDER BY created_at DESC, id DESC) AS place
            FROM {table} WHERE state = '{state}') AS ranked WHERE place > $1 AND {unused} LIMIT $2"
    );
    let rows = query(AssertSqlSafe(sql))
        .bind(keep)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Marks rows as expired unless they are in use by now. A trigger notes that their files can be removed.
pub(crate) async fn expire(
    conn: &mut Connection,
    kind: &Kept,
    guids: &[String],
    now: i64,
) -> sqlx::Result<u64> {
    let Kept {
        table,
        state,
        unused,
    } = kind;
    let sql = format!(
        "UPDATE {table} SET state = 'EXPIRED', checksum = NULL, updated_at = $1
         WHERE guid IN LIST($2) AND state = '{state}' AND {unused}"
    );
    query(AssertSqlSafe(sql))
        .bind(now)
        .bind(guids)
        .execute(conn)
        .await
}

/// Returns the blobs whose row is deleted or expired: kind (`packages`, `droplets`) and name.
pub(crate) async fn dead_blobs(
    conn: &mut Connection,
    limit: i64,
) -> sqlx::Result<Vec<(String, String)>> {
    let rows = query("SELECT kind, name FROM dead_blobs LIMIT $1")
        .bind(limit)
        .fetch_all(conn)
        .await?;
    Ok(super::readable_rows(&rows, |row| {
        Ok((row.try_get(0)?, row.try_get(1)?))
    }))
}

/// Removes the note of a blob that has been removed.
pub(crate) async fn delete_dead_blob(
    conn: &mut Connection,
    kind: &str,
    name: &str,
) -> sqlx::Result<()> {
    execute(
        conn,
        "DELETE FROM dead_blobs WHERE kind = $1 AND name = $2",
        &[kind.into(), name.into()],
    )
    .await
    .map(drop)
}

/// Returns those of the blobs' names that a row has.
pub(crate) async fn known(
    conn: &mut Connection,
    kind: Kind,
    names: &[String],
) -> sqlx::Result<HashSet<String>> {
    let sql = match kind {
        Kind::Package => "SELECT blob FROM packages WHERE blob IN LIST($1)",
        Kind::Droplet => "SELECT blob FROM droplets WHERE blob IN LIST($1)",
        Kind::Resource => "SELECT sha256 FROM resources WHERE sha256 IN LIST($1)",
    };
    let rows = query(sql).bind(names).fetch_all(conn).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
