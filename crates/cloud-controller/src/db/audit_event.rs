//! Audit events, and the proof that a transaction has written its event.

use super::{Connection, Json, ListCondition, insert, rows};

rows! {
    AuditEvent in "audit_events" {
        r#type: String, actor_guid: String, actor_type: String, actor_name: String, target_guid: String, target_type: String, target_name: String,
        data: Json<serde_json::Value>, space_guid: String, organization_guid: String,
    }
}

/// The condition for events of all other targets.
pub(crate) const NOT_OF_TARGETS: ListCondition = ListCondition("target_guid NOT IN LIST(?)");

/// The proof that the audit trail covers what a change does. `Change::commit` requires it, so that no write can omit its event.
/// It comes from [`write`], or from an [`Unrecorded`] that names the reason why there is no event.
#[derive(Debug)]
#[must_use = "a transaction commits with it"]
pub(crate) struct Trail(());

/// The reason why a change has no audit event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unrecorded {
    /// Cloud Foundry has no event for this noun: domains, security groups, feature flags, environment groups, sidecars,
    /// features, and metadata of what belongs to an app.
    NoSuchEvent,
    /// The request changed nothing.
    NothingChanged,
    /// The request only began a job, which records the event with what it does.
    ByJob,
    /// The platform itself continues a change that was recorded when it was requested.
    Consequence,
}

impl From<Unrecorded> for Trail {
    fn from(_: Unrecorded) -> Self {
        Self(())
    }
}

pub(crate) async fn write(conn: &mut Connection, event: &AuditEvent) -> sqlx::Result<Trail> {
    insert(conn, event).await?;
    Ok(Trail(()))
}
