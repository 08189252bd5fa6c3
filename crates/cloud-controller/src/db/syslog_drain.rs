//! The log drains of all apps: bindings of apps to instances with an address for their logs.

use super::service_credential_binding::is_made;
use super::service_instance::LastOperation;
use super::{Connection, Json, readable_rows};
use crate::sealing::Sealed;
use kit::db::query;

/// A binding with a drain, and the names of its app.
#[derive(Clone, Debug)]
pub(crate) struct DrainBinding {
    pub url: String,
    pub guid: String,
    /// The credentials of the binding. A drain may have a certificate there.
    pub credentials: Option<Sealed>,
    pub app_guid: String,
    pub app: String,
    pub space: String,
    pub organization: String,
    /// Whether the binding can be used: it is neither being made nor being removed.
    pub is_made: bool,
}

/// Returns the bindings with some of all URLs, which are counted in their order.
pub(crate) async fn page(
    conn: &mut Connection,
    limit: u32,
    offset: u32,
) -> sqlx::Result<Vec<DrainBinding>> {
    let rows = query(
        "SELECT b.syslog_drain_url, b.guid, b.credentials, a.guid, a.name, s.name, o.name, b.last_operation FROM service_credential_bindings b
         JOIN apps a ON a.guid = b.app_guid
         JOIN spaces s ON s.guid = a.space_guid
         JOIN organizations o ON o.guid = s.organization_guid
         WHERE b.syslog_drain_url IN (
             SELECT DISTINCT syslog_drain_url FROM service_credential_bindings
             WHERE app_guid IS NOT NULL AND syslog_drain_url <> '' ORDER BY syslog_drain_url LIMIT $1 OFFSET $2)
         ORDER BY b.syslog_drain_url, b.id",
    )
    .bind(limit)
    .bind(offset)
    .fetch_all(&mut *conn)
    .await?;
    Ok(readable_rows(&rows, |row| {
        Ok(DrainBinding {
            url: row.try_get(0)?,
            guid: row.try_get(1)?,
            credentials: row.try_get(2)?,
            app_guid: row.try_get(3)?,
            app: row.try_get(4)?,
            space: row.try_get(5)?,
            organization: row.try_get(6)?,
            is_made: is_made(&row.try_get::<Json<LastOperation>, _>(7)?.0),
        })
    }))
}
