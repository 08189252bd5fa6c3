//! Shares of managed service instances: the other spaces whose apps may be bound to an instance.

use super::service_instance::ServiceInstance;
use super::{Arg, Connection, Select, execute, readable_rows};
use kit::db::query;

/// Returns the guids of the spaces with which an instance is shared, in the order in which it was shared.
pub(crate) async fn spaces(conn: &mut Connection, instance: &str) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT space_guid FROM service_instance_shares WHERE service_instance_guid = $1 ORDER BY id";
    let rows = query(sql).bind(instance).fetch_all(conn).await?;
    Ok(readable_rows(&rows, |row| row.try_get(0)))
}

pub(crate) async fn add(conn: &mut Connection, instance: &str, space: &str) -> sqlx::Result<()> {
    let sql = "INSERT INTO service_instance_shares (service_instance_guid, space_guid) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    execute(conn, sql, &[Arg::from(instance), space.into()])
        .await
        .map(drop)
}

/// Removes a share and returns whether it existed.
pub(crate) async fn remove(
    conn: &mut Connection,
    instance: &str,
    space: &str,
) -> sqlx::Result<bool> {
    let sql =
        "DELETE FROM service_instance_shares WHERE service_instance_guid = $1 AND space_guid = $2";
    Ok(execute(conn, sql, &[Arg::from(instance), space.into()]).await? > 0)
}

/// Returns the oldest instance of another space that is shared with a space.
pub(crate) async fn first_into(
    conn: &mut Connection,
    space: &str,
) -> sqlx::Result<Option<ServiceInstance>> {
    let shared =
        "guid IN (SELECT service_instance_guid FROM service_instance_shares WHERE space_guid = ?)";
    Select::new().and(shared, [space.into()]).first(conn).await
}

/// Returns the number of bindings of an instance to the apps of each space, as (space, number).
pub(crate) async fn bindings_by_space(
    conn: &mut Connection,
    instance: &str,
) -> sqlx::Result<Vec<(String, i64)>> {
    let sql = "SELECT a.space_guid, COUNT(*) FROM service_credential_bindings b JOIN apps a ON a.guid = b.app_guid
        WHERE b.service_instance_guid = $1 GROUP BY a.space_guid ORDER BY a.space_guid";
    let rows = query(sql).bind(instance).fetch_all(conn).await?;
    Ok(readable_rows(&rows, |row| {
        Ok((row.try_get(0)?, row.try_get(1)?))
    }))
}
