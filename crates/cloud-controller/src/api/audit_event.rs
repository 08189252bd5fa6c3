//! The endpoints `/v3/audit_events`.

use super::prelude::*;
use crate::db::audit_event::{self, AuditEvent};

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/audit_events", list)
        .lists(&[
            "types",
            "target_guids",
            "target_guids[not]",
            "space_guids",
            "organization_guids",
        ])
        .get("/v3/audit_events/{guid}", show)
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

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = who.visible::<AuditEvent>();
    for (name, column) in [
        ("types", "type"),
        ("target_guids", "target_guid"),
        ("space_guids", "space_guid"),
        ("organization_guids", "organization_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    select = query.filter_by(select, "target_guids[not]", audit_event::NOT_OF_TARGETS);
    let found = query.fetch(&mut conn, select).await?;
    Ok(ok(cc.page(
        &query,
        found.page,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    )))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who
        .find::<AuditEvent>(&mut conn, &guid, Right::Read)
        .await?;
    Ok(ok(present(&cc, &found.row)))
}
