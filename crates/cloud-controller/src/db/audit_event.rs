//! Audit events, and the proof that a transaction has its own.

use super::{Connection, Json, ListCondition, insert, rows};

rows! {
    AuditEvent in "audit_events" {
        r#type: String, actor_guid: String, actor_type: String, actor_name: String, target_guid: String, target_type: String, target_name: String,
        data: Json<serde_json::Value>, space_guid: String, organization_guid: String,
    }
}

/// Holds for events of every other target.
pub(crate) const NOT_OF_TARGETS: ListCondition = ListCondition("target_guid NOT IN (?)");

/// Says that the audit trail knows of what a transaction does. `Tx::commit` wants one, so that no write can forget its
/// event: it comes from [`write`], or from an [`Unrecorded`] that names why there is no event.
#[derive(Debug)]
#[must_use = "a transaction commits with it"]
pub(crate) struct Trail(());

/// Why a change has no audit event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unrecorded {
    /// Cloud Foundry knows no event for this noun: domains, security groups, feature flags, environment groups, sidecars,
    /// features, metadata of what belongs to an app.
    NoSuchEvent,
    /// The request changed nothing.
    NothingChanged,
    /// The platform itself goes on with what was recorded when it was asked for.
    Consequence,
    /// What the platform notes for itself: users seen, seeds, clean-up.
    Bookkeeping,
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
