//! Writes audit events.

pub(crate) use super::audit_changes::{
    Snapshot, deleted_app, deleted_domain, deleted_organization, deleted_route, deleted_space,
    manifest, mappings, new_processes, space_quota, space_quota_of,
};
use crate::auth::Principal;
use crate::db::app::App;
use crate::db::audit_event::{self, AuditEvent, Trail};
use crate::db::domain::Domain;
use crate::db::organization::Organization;
use crate::db::route::Route;
use crate::db::space::Space;
use crate::db::{self, Connection, Json};
use crate::error::ApiResult;
use cc_rules::route_rules;
use serde_json::Value;

/// The target of an event, or the actor that caused it: (guid, type, name).
pub(crate) type Target<'a> = (&'a str, &'a str, &'a str);

/// The place of an event, which decides who sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    Space(&'a Space),
    Organization(&'a str),
    /// An event on the platform itself, which only callers who read everything see.
    Platform,
}

impl<'a> From<&'a Space> for Place<'a> {
    fn from(space: &'a Space) -> Self {
        Self::Space(space)
    }
}

impl<'a> From<&'a Organization> for Place<'a> {
    fn from(organization: &'a Organization) -> Self {
        Self::Organization(&organization.guid)
    }
}

/// Writes an event that a caller causes.
pub(crate) async fn record<'a>(
    conn: &mut Connection,
    who: &Principal,
    kind: &str,
    target: Target<'_>,
    place: impl Into<Place<'a>>,
    data: Value,
) -> ApiResult<Trail> {
    record_of(conn, actor(who), kind, target, place, data).await
}

/// Returns a caller as the actor of an event.
pub(crate) fn actor(who: &Principal) -> Target<'_> {
    let kind = match who.claims.user_id {
        Some(_) => "user",
        None => "client",
    };
    (who.guid(), kind, who.name())
}

/// Writes an event whose target is an app.
pub(crate) async fn of_app(
    conn: &mut Connection,
    who: &Principal,
    kind: &str,
    app: &App,
    data: Value,
) -> ApiResult<Trail> {
    of_app_by(conn, actor(who), kind, app, data).await
}

/// Writes an event like [`of_app`], in the name of any actor.
pub(super) async fn of_app_by(
    conn: &mut Connection,
    actor: Target<'_>,
    kind: &str,
    app: &App,
    data: Value,
) -> ApiResult<Trail> {
    match db::by_guid::<Space>(conn, &app.space_guid).await? {
        Some(space) => of_app_in(conn, actor, kind, app, &space, data).await,
        None => of_app_in(conn, actor, kind, app, Place::Platform, data).await,
    }
}

/// Writes an event like [`of_app_by`], for a caller that has found the app's place.
pub(super) async fn of_app_in<'a>(
    conn: &mut Connection,
    actor: Target<'_>,
    kind: &str,
    app: &App,
    place: impl Into<Place<'a>>,
    data: Value,
) -> ApiResult<Trail> {
    let target = (app.guid.as_str(), "app", app.name.as_str());
    record_of(conn, actor, kind, target, place, data).await
}

/// Writes an event whose target is a route. It is seen in the space that owns the route.
pub(crate) async fn of_route(
    conn: &mut Connection,
    who: &Principal,
    kind: &str,
    route: &Route,
    data: Value,
) -> ApiResult<Trail> {
    of_route_by(conn, actor(who), kind, route, data).await
}

/// Writes an event like [`of_route`], in the name of any actor.
pub(super) async fn of_route_by(
    conn: &mut Connection,
    actor: Target<'_>,
    kind: &str,
    route: &Route,
    data: Value,
) -> ApiResult<Trail> {
    let domain: Option<Domain> = db::by_guid(conn, &route.domain_guid).await?;
    let domain = domain.map(|domain| domain.name).unwrap_or_default();
    let url = route_rules::url(&route.host, &domain, &route.path, route.port);
    let target = (route.guid.as_str(), "route", url.as_str());
    match db::by_guid::<Space>(conn, &route.space_guid).await? {
        Some(space) => record_of(conn, actor, kind, target, &space, data).await,
        None => record_of(conn, actor, kind, target, Place::Platform, data).await,
    }
}

/// Drops the trail of an event whose transaction commits with the trail of another event.
pub(crate) fn also(trail: Trail) {
    drop(trail);
}

/// Writes an event that the platform itself causes in the name of `actor`: a crash, the end of a staging.
pub(crate) async fn record_of<'a>(
    conn: &mut Connection,
    actor: Target<'_>,
    kind: &str,
    target: Target<'_>,
    place: impl Into<Place<'a>>,
    data: Value,
) -> ApiResult<Trail> {
    let (space_guid, organization_guid) = match place.into() {
        Place::Space(space) => (space.guid.clone(), space.organization_guid.clone()),
        Place::Organization(guid) => (String::new(), guid.to_owned()),
        Place::Platform => (String::new(), String::new()),
    };
    let event = AuditEvent {
        r#type: kind.to_owned(),
        actor_guid: actor.0.to_owned(),
        actor_type: actor.1.to_owned(),
        actor_name: actor.2.to_owned(),
        target_guid: target.0.to_owned(),
        target_type: target.1.to_owned(),
        target_name: target.2.to_owned(),
        data: Json(data),
        space_guid,
        organization_guid,
        ..AuditEvent::fresh()
    };
    Ok(audit_event::write(conn, &event).await?)
}
