//! Verbs of spaces: create, change and remove.

use super::audit::{self, Target};
use super::{app, route, service_broker, service_credential_binding as bindings, service_instance};
use crate::change::Change;
use crate::db::space::{self, Space};
use crate::db::{
    self, Connection, app as apps, route as routes, service_broker as brokers,
    service_instance as instances,
};
use crate::error::{ApiError, ApiResult};

pub(crate) async fn create(conn: &mut Connection, space: &Space) -> ApiResult<()> {
    check_name(conn, space).await?;
    db::insert(conn, space).await?;
    Ok(())
}

pub(crate) async fn update(conn: &mut Connection, mut space: Space) -> ApiResult<Space> {
    check_name(conn, &space).await?;
    space.touch();
    db::update(conn, &space).await?;
    Ok(space)
}

async fn check_name(conn: &mut Connection, space: &Space) -> ApiResult<()> {
    match space::by_name(conn, &space.organization_guid, &space.name).await? {
        Some(other) if other.guid != space.guid => Err(ApiError::unprocessable(
            "Name must be unique per organization",
        )),
        _ => Ok(()),
    }
}

/// Removes one part of a space: a service instance, then a service broker, then an app, then a route, and at last the space itself. A
/// job calls it until it returns true, which means that the space is gone. Events are recorded in the name of `actor`.
pub(crate) async fn delete_part(tx: &mut Change, actor: Target<'_>, guid: &str) -> ApiResult<bool> {
    let Some(space) = db::by_guid::<Space>(tx, guid).await? else {
        return Ok(true);
    };
    if let Some(instance) = instances::first_of_space(tx, guid).await? {
        audit::also(service_instance::delete(tx, actor, &instance, &space).await?);
        return Ok(false);
    }
    if let Some(broker) = brokers::first_of_space(tx, guid).await? {
        audit::also(service_broker::delete_of_space(tx, actor, &broker).await?);
        return Ok(false);
    }
    if let Some(app) = apps::first_of_space(tx, guid).await? {
        bindings::delete_of_app(tx, actor, &app, &space).await?;
        audit::also(audit::deleted_app(tx, actor, &app, &space).await?);
        app::delete(tx, &app).await?;
        return Ok(false);
    }
    if let Some(route) = routes::first_of_space(tx, guid).await? {
        audit::also(audit::deleted_route(tx, actor, &route).await?);
        route::delete(tx, &route).await?;
        return Ok(false);
    }
    audit::also(audit::deleted_space(tx, actor, &space).await?);
    db::delete::<Space>(tx, guid).await?;
    Ok(true)
}

/// Removes one route of a space that has no destination. A job calls it until it returns true, which means that there is none left.
/// The event is recorded in the name of `actor`.
pub(crate) async fn delete_unmapped_part(
    tx: &mut Change,
    actor: Target<'_>,
    guid: &str,
) -> ApiResult<bool> {
    let Some(route) = routes::first_unmapped(tx, guid).await? else {
        return Ok(true);
    };
    audit::also(audit::deleted_route(tx, actor, &route).await?);
    route::delete(tx, &route).await?;
    Ok(false)
}
