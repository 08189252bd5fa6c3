//! Audit events.

use super::{Json, rows};

rows! {
    AuditEvent in "audit_events" {
        r#type: String, actor_guid: String, actor_type: String, actor_name: String, target_guid: String, target_type: String, target_name: String,
        data: Json<serde_json::Value>, space_guid: String, organization_guid: String,
    }
}
