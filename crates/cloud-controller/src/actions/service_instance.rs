//! Verbs of service instances: create, change and remove user-provided ones. Those of managed ones are in `managed_instance`.

use super::audit::{self, Target};
use super::{service_credential_binding, service_route_binding};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::service_instance::{self, LastOperation, ServiceInstance};
use crate::db::space::Space;
use crate::db::{self, Connection, Json, Trail};
use crate::error::{ApiError, ApiResult};
use crate::sealing::Keyring;
use serde_json::json;

const SUCCEEDED: Option<&str> = Some("Operation succeeded");

pub(crate) async fn create(
    conn: &mut Connection,
    settings: &Settings,
    instance: &mut ServiceInstance,
) -> ApiResult<()> {
    check_name(conn, instance).await?;
    check_number(conn, settings, &instance.space_guid).await?;
    instance.last_operation = Json(LastOperation::done("create", SUCCEEDED));
    db::insert(conn, instance).await?;
    Ok(())
}

/// Refuses one more instance in a space that has as many as it may have.
pub(super) async fn check_number(
    conn: &mut Connection,
    settings: &Settings,
    space: &str,
) -> ApiResult<()> {
    let most = settings.limits.service_instances_per_space;
    if service_instance::count_in_space(conn, space).await? >= i64::from(most) {
        return Err(ApiError::unprocessable(format!(
            "The space has {most} service instances already; a space may have at most {most}"
        )));
    }
    Ok(())
}

/// Stores what a request changed in an instance, and changes its bindings like it.
pub(crate) async fn update(
    tx: &mut Change,
    keys: &Keyring,
    instance: &mut ServiceInstance,
) -> ApiResult<()> {
    check_name(tx, instance).await?;
    instance.last_operation = Json(LastOperation::done("update", SUCCEEDED));
    instance.touch();
    db::update(tx, instance).await?;
    service_credential_binding::follow(tx, keys, instance).await?;
    service_route_binding::follow(tx, instance).await
}

/// Refuses a name that another instance has in the space, or that one has that is shared with it.
pub(super) async fn check_name(conn: &mut Connection, instance: &ServiceInstance) -> ApiResult<()> {
    let name = &instance.name;
    match service_instance::usable_by_name(conn, &instance.space_guid, name).await? {
        Some(other) if other.guid != instance.guid => Err(ApiError::unprocessable(format!(
            "The service instance name is taken: {name}."
        ))),
        _ => Ok(()),
    }
}

/// Removes a user-provided instance and its bindings. The events are recorded in the name of `actor`.
pub(crate) async fn delete(
    tx: &mut Change,
    actor: Target<'_>,
    instance: &ServiceInstance,
    space: &Space,
) -> ApiResult<Trail> {
    service_route_binding::delete_of_instance(tx, actor, instance, space).await?;
    service_credential_binding::delete_of_instance(tx, actor, instance, space).await?;
    db::delete::<ServiceInstance>(tx, &instance.guid).await?;
    let kind = "audit.user_provided_service_instance.delete";
    let data = json!({ "request": null });
    audit::record_of(tx, actor, kind, target(instance), space, data).await
}

/// Returns an instance as the target of an event.
pub(crate) fn target(instance: &ServiceInstance) -> Target<'_> {
    let kind = "user_provided_service_instance";
    (&instance.guid, kind, &instance.name)
}
