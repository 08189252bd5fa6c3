//! Writing audit events.

use crate::auth::Principal;
use crate::db::audit_event::AuditEvent;
use crate::db::space::Space;
use crate::db::{Connection, Json, insert};
use crate::error::ApiResult;
use serde_json::Value;

/// What an event is about: (guid, type, name).
pub(crate) type Target<'a> = (&'a str, &'a str, &'a str);

pub(crate) async fn record(
    conn: &mut Connection,
    who: &Principal,
    kind: &str,
    target: Target<'_>,
    space: Option<&Space>,
    data: Value,
) -> ApiResult<()> {
    let actor_type = if who.claims.user_id.is_some() {
        "user"
    } else {
        "client"
    };
    write(
        conn,
        (who.guid(), actor_type, who.name()),
        kind,
        target,
        space,
        data,
    )
    .await
}

/// An event that the platform itself causes: a crash.
pub(crate) async fn record_of_process(
    conn: &mut Connection,
    process: Target<'_>,
    kind: &str,
    target: Target<'_>,
    space: Option<&Space>,
    data: Value,
) -> ApiResult<()> {
    write(conn, process, kind, target, space, data).await
}

async fn write(
    conn: &mut Connection,
    actor: Target<'_>,
    kind: &str,
    target: Target<'_>,
    space: Option<&Space>,
    data: Value,
) -> ApiResult<()> {
    let event = AuditEvent {
        r#type: kind.to_owned(),
        actor_guid: actor.0.to_owned(),
        actor_type: actor.1.to_owned(),
        actor_name: actor.2.to_owned(),
        target_guid: target.0.to_owned(),
        target_type: target.1.to_owned(),
        target_name: target.2.to_owned(),
        data: Json(data),
        space_guid: space.map(|space| space.guid.clone()).unwrap_or_default(),
        organization_guid: space
            .map(|space| space.organization_guid.clone())
            .unwrap_or_default(),
        ..AuditEvent::fresh()
    };
    insert(conn, &event).await?;
    Ok(())
}
