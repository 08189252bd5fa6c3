//! Deployments: each one replaces an app's web process by a new one.

use super::{Connection, Json, Readable, Select, rows, spelled};
use cc_rules::metadata::Metadata;
use serde::{Deserialize, Serialize};

spelled! {
    DeploymentState { Active = "ACTIVE", Finalized = "FINALIZED" }
}

spelled! {
    /// The reason for the state of a deployment. The first two belong to an active deployment, the others to a finalized one.
    DeploymentReason {
        Deploying = "DEPLOYING", Canceling = "CANCELING", Deployed = "DEPLOYED", Canceled = "CANCELED", Superseded = "SUPERSEDED",
    }
}

spelled! {
    /// The way in which a deployment replaces the instances.
    Strategy { Rolling = "rolling" }
}

rows! {
    /// A deployment. `instances` is the number that the new web process has at the end; `instances_before` is the number to
    /// which a cancelled deployment returns.
    Deployment in "deployments" {
        app_guid: String, state: DeploymentState, reason: DeploymentReason, strategy: Strategy, droplet_guid: String, previous_droplet_guid: Option<String>,
        deploying_process_guid: Option<String>, instances: i64, max_in_flight: i64, error: Option<String>, status_changed_at: i64, metadata: Json<Metadata>,
        options: Json<Options>, instances_before: i64,
    }
}

/// The settings in which the new web process differs from the previous one, under the API's names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Options {
    pub web_instances: Option<i64>,
    pub memory_in_mb: Option<i64>,
    pub disk_in_mb: Option<i64>,
    /// The maximum log rate; -1 means unlimited.
    pub log_rate_limit_in_bytes_per_second: Option<i64>,
}

pub(crate) async fn active(conn: &mut Connection) -> sqlx::Result<Readable<Deployment>> {
    Select::new()
        .is("state", DeploymentState::Active)
        .readable(conn)
        .await
}

pub(crate) async fn active_of_app(
    conn: &mut Connection,
    app: &str,
) -> sqlx::Result<Option<Deployment>> {
    Select::new()
        .is("state", DeploymentState::Active)
        .is("app_guid", app)
        .first(conn)
        .await
}
