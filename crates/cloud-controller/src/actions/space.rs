//! Verbs of spaces: create, change and remove.

use super::{app, route};
use crate::change::Change;
use crate::db::space::{self, Space};
use crate::db::{self, Connection, app as apps, route as routes};
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

/// Removes a space with its apps and routes, and marks the processes that must be removed or changed in Diego.
pub(crate) async fn delete(tx: &mut Change, space: &Space) -> ApiResult<()> {
    for app in apps::of_space(tx, &space.guid).await? {
        app::delete(tx, &app).await?;
    }
    for route in routes::of_space(tx, &space.guid).await? {
        route::delete(tx, &route).await?;
    }
    db::delete::<Space>(tx, &space.guid).await?;
    Ok(())
}
