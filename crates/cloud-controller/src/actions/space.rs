//! Verbs of spaces: create, change and remove.

use super::{app, route};
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

/// Removes a space with its apps and routes. Returns the processes that must be removed or changed in Diego.
pub(crate) async fn delete(conn: &mut Connection, space: &Space) -> ApiResult<Vec<String>> {
    let mut processes = Vec::new();
    for app in apps::of_space(conn, &space.guid).await? {
        processes.extend(app::delete(conn, &app).await?);
    }
    for route in routes::of_space(conn, &space.guid).await? {
        processes.extend(route::delete(conn, &route).await?);
    }
    db::delete::<Space>(conn, &space.guid).await?;
    Ok(processes)
}
