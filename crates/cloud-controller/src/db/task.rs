//! Tasks: one-off commands of an app.

use super::{Connection, Json, Readable, Select, rows, spelled};
use cc_rules::metadata::Metadata;

spelled! {
    TaskState { Pending = "PENDING", Running = "RUNNING", Canceling = "CANCELING", Succeeded = "SUCCEEDED", Failed = "FAILED" }
}

impl TaskState {
    pub(crate) fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

rows! {
    Task in "tasks" {
        app_guid: String, sequence_id: i64, name: String, command: String, state: TaskState, memory_in_mb: i64, disk_in_mb: i64, log_rate_limit: i64,
        droplet_guid: String, failure_reason: Option<String>, metadata: Json<Metadata>,
    }
}

pub(crate) async fn open(conn: &mut Connection) -> sqlx::Result<Readable<Task>> {
    Select::new()
        .any(
            "state",
            TaskState::ALL
                .iter()
                .copied()
                .filter(|state| !state.has_ended()),
        )
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
