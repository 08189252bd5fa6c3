//! Finding a resource for a caller: what the caller may not see is not there.

use crate::auth::{Access, Principal};
use crate::db::app::App;
use crate::db::organization::Organization;
use crate::db::process::Process;
use crate::db::route::Route;
use crate::db::space::Space;
use crate::db::{self, Connection, Row};
use crate::error::{ApiError, ApiResult};

pub(super) async fn organization(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<(Organization, Access)> {
    let missing = || ApiError::not_found("Organization");
    let organization: Organization = db::by_guid(conn, guid).await?.ok_or_else(missing)?;
    let access = who.in_organization(conn, guid).await?;
    if access.reads_organization() {
        Ok((organization, access))
    } else {
        Err(missing())
    }
}

pub(super) async fn space(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<(Space, Access)> {
    let missing = || ApiError::not_found("Space");
    let space: Space = db::by_guid(conn, guid).await?.ok_or_else(missing)?;
    let access = who.in_space(conn, &space).await?;
    if access.reads_space() {
        Ok((space, access))
    } else {
        Err(missing())
    }
}

pub(super) async fn app(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<(App, Space, Access)> {
    of_app(conn, who, guid, "App").await
}

/// The app that something belongs to; when it is invisible, the `noun` is not found.
pub(super) async fn of_app(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
    noun: &str,
) -> ApiResult<(App, Space, Access)> {
    let missing = || ApiError::not_found(noun);
    let app: App = db::by_guid(conn, guid).await?.ok_or_else(missing)?;
    let space: Space = db::by_guid(conn, &app.space_guid)
        .await?
        .ok_or_else(missing)?;
    let access = who.in_space(conn, &space).await?;
    if access.reads_space() {
        Ok((app, space, access))
    } else {
        Err(missing())
    }
}

pub(super) async fn process(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<(Process, App, Access)> {
    let process: Process = row(conn, guid, "Process").await?;
    let (app, _, access) = of_app(conn, who, &process.app_guid, "Process").await?;
    Ok((process, app, access))
}

pub(super) async fn route(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<(Route, Space, Access)> {
    let missing = || ApiError::not_found("Route");
    let route: Route = db::by_guid(conn, guid).await?.ok_or_else(missing)?;
    let space: Space = db::by_guid(conn, &route.space_guid)
        .await?
        .ok_or_else(missing)?;
    let access = who.in_space(conn, &space).await?;
    if access.reads_routes() {
        Ok((route, space, access))
    } else {
        Err(missing())
    }
}

/// Any row, by guid; the caller checks who may see it.
pub(super) async fn row<R: Row>(conn: &mut Connection, guid: &str, noun: &str) -> ApiResult<R> {
    db::by_guid(conn, guid)
        .await?
        .ok_or_else(|| ApiError::not_found(noun))
}
