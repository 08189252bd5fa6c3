//! Network policies, and the numbers by which cells identify their sources.

use super::Connection;
use kit::db::{query, query_scalar};

/// A permission for one app's containers to connect to another app's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkPolicy {
    pub source_guid: String,
    pub destination_guid: String,
    /// The protocol: `tcp` or `udp`.
    pub protocol: String,
    pub first_port: u16,
    pub last_port: u16,
}

/// Inserts a policy. A policy that exists already stays unchanged.
pub(crate) async fn insert(conn: &mut Connection, policy: &NetworkPolicy) -> sqlx::Result<()> {
    query("INSERT INTO policy_sources (app_guid) SELECT guid FROM apps WHERE guid = $1 AND guid NOT IN (SELECT app_guid FROM policy_sources)")
        .bind(&policy.source_guid)
        .execute(&mut *conn)
        .await?;
    query(
        "INSERT INTO network_policies (source_guid, destination_guid, protocol, first_port, last_port) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(&policy.source_guid)
    .bind(&policy.destination_guid)
    .bind(&policy.protocol)
    .bind(i64::from(policy.first_port))
    .bind(i64::from(policy.last_port))
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// Removes a policy. A policy that does not exist is no error.
pub(crate) async fn delete(conn: &mut Connection, policy: &NetworkPolicy) -> sqlx::Result<()> {
    query(
        "DELETE FROM network_policies WHERE source_guid = $1 AND destination_guid = $2 AND protocol = $3 AND first_port = $4 AND last_port = $5",
    )
    .bind(&policy.source_guid)
    .bind(&policy.destination_guid)
    .bind(&policy.protocol)
    .bind(i64::from(policy.first_port))
    .bind(i64::from(policy.last_port))
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// Returns the number of policies whose source is an app.
pub(crate) async fn count_of_source(conn: &mut Connection, app: &str) -> sqlx::Result<i64> {
    query_scalar("SELECT COUNT(*) FROM network_policies WHERE source_guid = $1")
        .bind(app)
        .fetch_one(&mut *conn)
        .await
}

/// Returns all policies, each with the number of its source.
pub(crate) async fn all(conn: &mut Connection) -> sqlx::Result<Vec<(NetworkPolicy, u32)>> {
    let rows = query(
        "SELECT p.source_guid, p.destination_guid, p.protocol, p.first_port, p.last_port, s.number FROM network_policies p
         JOIN policy_sources s ON s.app_guid = p.source_guid ORDER BY p.id",
    )
    .fetch_all(&mut *conn)
    .await?;
    Ok(super::readable_rows(&rows, |row| {
        let policy = NetworkPolicy {
            source_guid: row.try_get(0)?,
            destination_guid: row.try_get(1)?,
            protocol: row.try_get(2)?,
            first_port: port(row.try_get(3)?),
            last_port: port(row.try_get(4)?),
        };
        let number: i64 = row.try_get(5)?;
        Ok((policy, u32::try_from(number).unwrap_or_default()))
    }))
}

fn port(stored: i64) -> u16 {
    u16::try_from(stored).unwrap_or_default()
}
