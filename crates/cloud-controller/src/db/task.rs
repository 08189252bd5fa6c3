//! Tasks: one-off commands of an app.

use super::{Connection, Json, Readable, Select, rows};
use crate::metadata::Metadata;

rows! {
    /// `state` is PENDING, RUNNING, SUCCEEDED, CANCELING or FAILED.
    Task in "tasks" {
        app_guid: String, sequence_id: i64, name: String, command: String, state: String, memory_in_mb: i64, disk_in_mb: i64, log_rate_limit: i64,
        droplet_guid: String, failure_reason: Option<String>, metadata: Json<Metadata>,
    }
}

pub(crate) async fn open(conn: &mut Connection) -> sqlx::Result<Readable<Task>> {
    Select::new()
        .any("state", ["PENDING", "RUNNING", "CANCELING"])
        .readable(conn)
        .await
}

pub(crate) async fn last_of_app(conn: &mut Connection, app: &str) -> sqlx::Result<Option<Task>> {
    Select::new()
        .is("app_guid", app)
        .order("sequence_id DESC")
        .first(conn)
        .await
}
