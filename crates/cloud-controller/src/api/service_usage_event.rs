//! The endpoints `/v3/service_usage_events`, for callers who read everything; others see an empty list.

use super::prelude::*;
use super::usage_event::unknown_place;
use crate::db::service_usage_event::{self, ServiceUsageEvent};

const PATH: &str = "/v3/service_usage_events";

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get(PATH, list)
        .lists(&[
            "after_guid",
            "service_instance_types",
            "service_offering_guids",
        ])
        .get("/v3/service_usage_events/{guid}", show)
        .post(
            "/v3/service_usage_events/actions/destructively_purge_all_and_reseed",
            purge,
        )
}

fn present(cc: &Cc, event: &ServiceUsageEvent) -> Value {
    resource(
        &event.guid,
        event.created_at,
        event.updated_at,
        json!({
            "state": event.state,
            "space": { "guid": event.space_guid, "name": event.space_name },
            "organization": { "guid": event.organization_guid },
            "service_instance": {
                "guid": event.service_instance_guid,
                "name": event.service_instance_name,
                "type": event.service_instance_type,
            },
            "service_plan": { "guid": event.service_plan_guid, "name": event.service_plan_name },
            "service_offering": { "guid": event.service_offering_guid, "name": event.service_offering_name },
            "service_broker": { "guid": event.service_broker_guid, "name": event.service_broker_name },
            "links": cc.links(&format!("{PATH}/{}", event.guid), &[]),
        }),
    )
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut scope = who.visible::<ServiceUsageEvent>();
    for (name, column) in [
        ("service_instance_types", "service_instance_type"),
        ("service_offering_guids", "service_offering_guid"),
    ] {
        scope = query.filter(scope, name, column);
    }
    if let Some(guid) = query.value("after_guid").filter(|_| who.reads_all()) {
        let place = service_usage_event::place_of(&mut conn, guid)
            .await?
            .ok_or_else(|| unknown_place("service"))?;
        scope = scope.that(service_usage_event::is_after(place));
    }
    let found = query.fetch(&mut conn, scope).await?;
    let resources = found.rows.iter().map(|row| present(&cc, row)).collect();
    Ok(ok(cc.page(&query, found.page, resources)))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who
        .find::<ServiceUsageEvent>(&mut conn, &guid, Right::Read)
        .await?;
    Ok(ok(present(&cc, &found.row)))
}

async fn purge(State(cc): State<Cc>, who: Principal) -> ApiResult {
    who.must_be_admin()?;
    let mut tx = cc.change().await?;
    service_usage_event::purge_and_reseed(&mut tx).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(json!({})))
}
