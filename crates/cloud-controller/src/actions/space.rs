//! Verbs of spaces: create, change and remove.

use super::audit::{self, Target};
use super::job::Progress;
use super::managed_binding::Removal;
use super::{app, managed_instance, route, route_deletion, service_broker, service_instance};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::space::{self, Space};
use crate::db::{
    self, Connection, app as apps, route as routes, service_broker as brokers,
    service_instance as instances, service_instance_share as shares,
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

/// Removes one part of a space: its service instances, then a service broker, then an app, then the shares of instances with it, then a
/// route, and at last the space itself. A job calls it until the space is gone; it waits for the jobs that remove instances and bindings at
/// their brokers. A removal that has failed since `since` ends it. Events are recorded in the name of `actor`.
pub(crate) async fn delete_part(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (guid, since): (&str, i64),
) -> ApiResult<Progress> {
    let Some(space) = db::by_guid::<Space>(tx, guid).await? else {
        return Ok(Progress::Done);
    };
    if let Some(instance) = instances::first_provided(tx, guid).await? {
        audit::also(service_instance::delete(tx, actor, &instance, &space).await?);
        return Ok(Progress::More);
    }
    let mut removal = Removal::Gone;
    for instance in instances::managed_of_space(tx, guid).await? {
        let one = managed_instance::remove(tx, settings, actor, (instance, since)).await?;
        removal = removal.and(one);
    }
    match removal {
        Removal::Gone => {}
        Removal::Waiting => return Ok(Progress::waiting(since)),
        Removal::Failed(text) => return Err(failed(&space, &text)),
    }
    if let Some(broker) = brokers::first_of_space(tx, guid).await? {
        audit::also(service_broker::delete_of_space(tx, actor, &broker).await?);
        return Ok(Progress::More);
    }
    if let Some(app) = apps::first_of_space(tx, guid).await? {
        return match app::delete_part(tx, settings, actor, (&app.guid, since)).await {
            Ok(Progress::Done) => Ok(Progress::More),
            Err(error) if !error.status.is_server_error() => {
                Err(failed(&space, &error.to_string()))
            }
            other => other,
        };
    }
    if let Some(instance) = shares::first_into(tx, guid).await? {
        shares::remove(tx, &instance.guid, guid).await?;
        if let Some(own) = db::by_guid::<Space>(tx, &instance.space_guid).await? {
            let place = (&instance, &own);
            audit::also(managed_instance::unshared(tx, actor, place, guid).await?);
        }
        return Ok(Progress::More);
    }
    if let Some(route) = routes::first_of_space(tx, guid).await? {
        return match route_deletion::remove(tx, settings, actor, (&route, since)).await? {
            Removal::Gone => Ok(Progress::More),
            Removal::Waiting => Ok(Progress::waiting(since)),
            Removal::Failed(text) => Err(failed(&space, &text)),
        };
    }
    audit::also(audit::deleted_space(tx, actor, &space).await?);
    db::delete::<Space>(tx, guid).await?;
    Ok(Progress::Done)
}

/// Returns the error of a space that cannot be deleted because of what is in it.
fn failed(space: &Space, text: &str) -> ApiError {
    let name = &space.name;
    ApiError::new(
        502,
        290_008,
        "SpaceDeletionFailed",
        format!(
            "Deletion of space {name} failed because one or more resources within could not be deleted.\n\n\t{text}"
        ),
    )
}

/// Removes one route of a space that has no destination and no service. A job calls it until it returns true, which means that there is
/// none left. The event is recorded in the name of `actor`.
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
