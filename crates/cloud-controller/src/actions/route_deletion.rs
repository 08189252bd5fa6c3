//! Removes routes together with their bindings. A binding of a managed instance is removed first by a job of its own, because its broker may
//! be slow.

use super::audit::{self, Target};
use super::job::Progress;
use super::managed_binding::Removal;
use super::{managed_route_binding, route};
use crate::change::Change;
use crate::controller::Settings;
use crate::db;
use crate::db::route::Route;
use crate::db::service_instance::DELETE;
use crate::error::{ApiError, ApiResult};

/// Removes a route that is to be removed with something above it, such as its domain. It is called again until it returns
/// [`Removal::Gone`]. A removal of the binding that has failed since `since` counts.
pub(super) async fn remove(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (route, since): (&Route, i64),
) -> ApiResult<Removal> {
    let what = (route, since);
    let removal = managed_route_binding::remove_of_route(tx, settings, actor, what).await?;
    if removal == Removal::Gone {
        audit::also(audit::deleted_route(tx, actor, route).await?);
        route::delete(tx, route).await?;
    }
    Ok(removal)
}

/// Removes a route whose binding only a broker can remove. A job calls it until the route is gone. A removal of the binding that has
/// failed since `since` ends it. The events are recorded in the name of `actor`.
pub(crate) async fn delete_part(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (guid, since): (&str, i64),
) -> ApiResult<Progress> {
    let Some(route) = db::by_guid::<Route>(tx, guid).await? else {
        return Ok(Progress::Done);
    };
    match remove(tx, settings, actor, (&route, since)).await? {
        Removal::Gone => Ok(Progress::Done),
        Removal::Waiting => Ok(Progress::waiting(since)),
        Removal::Failed(text) => Err(ApiError::unable(DELETE, text)),
    }
}
