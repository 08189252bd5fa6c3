//! The endpoints `/v3/app_usage_events`, for callers who read everything; others see an empty list.

use super::prelude::*;
use crate::db::usage_event::{self, AppUsageEvent};

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/app_usage_events", list)
        .lists(&["after_guid"])
        .get("/v3/app_usage_events/{guid}", show)
        .post(
            "/v3/app_usage_events/actions/destructively_purge_all_and_reseed",
            purge,
        )
}

fn present(cc: &Cc, event: &AppUsageEvent) -> Value {
    resource(
        &event.guid,
        event.created_at,
        event.updated_at,
        json!({
            "state": { "current": event.state, "previous": event.previous_state },
            "app": { "guid": event.app_guid, "name": event.app_name },
            "process": { "guid": event.process_guid, "type": event.process_type },
            "space": { "guid": event.space_guid, "name": event.space_name },
            "organization": { "guid": event.organization_guid },
            "buildpack": { "guid": event.buildpack_guid, "name": event.buildpack_name },
            "task": { "guid": event.task_guid, "name": event.task_name },
            "memory_in_mb_per_instance": { "current": event.memory_in_mb, "previous": event.previous_memory_in_mb },
            "instance_count": { "current": event.instances, "previous": event.previous_instances },
            "links": cc.links(&format!("/v3/app_usage_events/{}", event.guid), &[]),
        }),
    )
}

/// Returns the refusal of a place in the order of events that is none.
pub(super) fn unknown_place(noun: &str) -> ApiError {
    ApiError::unprocessable(format!(
        "After guid filter must be a valid {noun} usage event guid."
    ))
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut scope = who.visible::<AppUsageEvent>();
    if let Some(guid) = query.value("after_guid").filter(|_| who.reads_all()) {
        let place = usage_event::place_of(&mut conn, guid)
            .await?
            .ok_or_else(|| unknown_place("app"))?;
        scope = scope.that(usage_event::is_after(place));
    }
    let found = query.fetch(&mut conn, scope).await?;
    let resources = found.rows.iter().map(|row| present(&cc, row)).collect();
    Ok(ok(cc.page(&query, found.page, resources)))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who
        .find::<AppUsageEvent>(&mut conn, &guid, Right::Read)
        .await?;
    Ok(ok(present(&cc, &found.row)))
}

async fn purge(State(cc): State<Cc>, who: Principal) -> ApiResult {
    who.must_be_admin()?;
    let mut tx = cc.change().await?;
    usage_event::purge_and_reseed(&mut tx).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(json!({})))
}
