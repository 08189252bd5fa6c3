//! Deployments: one app's way from one web process to the next.

use super::{Connection, Json, Select, rows};
use crate::metadata::Metadata;

rows! {
    /// `state` is ACTIVE or FINALIZED; `instances` is what the new web process ends with.
    Deployment in "deployments" {
        app_guid: String, state: String, reason: String, strategy: String, droplet_guid: String, previous_droplet_guid: Option<String>,
        deploying_process_guid: Option<String>, instances: i64, max_in_flight: i64, error: Option<String>, status_changed_at: i64, metadata: Json<Metadata>,
    }
}

pub(crate) async fn active(conn: &mut Connection) -> sqlx::Result<Vec<Deployment>> {
    Select::new().is("state", "ACTIVE").all(conn).await
}

pub(crate) async fn active_of_app(
    conn: &mut Connection,
    app: &str,
) -> sqlx::Result<Option<Deployment>> {
    Select::new()
        .is("state", "ACTIVE")
        .is("app_guid", app)
        .first(conn)
        .await
}
