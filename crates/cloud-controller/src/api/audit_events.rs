//! `/v3/audit_events`

use super::prelude::*;
use crate::db::audit_event::AuditEvent;

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/audit_events", get(list))
        .route("/v3/audit_events/{guid}", get(show))
}

fn present(cc: &Cc, event: &AuditEvent) -> Value {
    let place = |guid: &str| (!guid.is_empty()).then(|| json!({ "guid": guid }));
    resource(
        &event.guid,
        event.created_at,
        event.updated_at,
        json!({
            "type": event.r#type,
            "actor": { "guid": event.actor_guid, "type": event.actor_type, "name": event.actor_name },
            "target": { "guid": event.target_guid, "type": event.target_type, "name": event.target_name },
            "data": event.data.0,
            "space": place(&event.space_guid),
            "organization": place(&event.organization_guid),
            "links": cc.links(&format!("/v3/audit_events/{}", event.guid), &[]),
        }),
    )
}

/// Events of spaces that the caller sees, and of apps in them.
fn visible(who: &Principal) -> Select {
    if who.reads_all() {
        return Select::new();
    }
    who.sees_spaces(Select::new(), "space_guid")
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    let query = Query::list(
        &uri,
        &["types", "target_guids", "space_guids", "organization_guids"],
    )?;
    let mut conn = cc.db.read().await?;
    let mut select = visible(&who);
    for (name, column) in [
        ("types", "type"),
        ("target_guids", "target_guid"),
        ("space_guids", "space_guid"),
        ("organization_guids", "organization_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    select = query.filter_by(select, "target_guids[not]", "target_guid NOT IN (?)");
    let found = query.fetch::<AuditEvent>(&mut conn, select).await?;
    Ok(ok(cc.page(
        &query,
        found.total,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    )))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let event: Option<AuditEvent> = visible(&who).is("guid", guid).first(&mut conn).await?;
    Ok(ok(present(
        &cc,
        &event.ok_or_else(|| ApiError::not_found("Event"))?,
    )))
}
