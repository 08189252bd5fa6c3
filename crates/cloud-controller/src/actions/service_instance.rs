//! Verbs of service instances: create, change and remove.

use super::audit::{self, Target};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::service_instance::{self, LastOperation, ServiceInstance};
use crate::db::space::Space;
use crate::db::{self, Connection, Json, Trail};
use crate::error::{ApiError, ApiResult};
use crate::sealing::Keyring;
use cc_rules::ordered_json::OrderedJson;
use serde_json::json;

const SUCCEEDED: Option<&str> = Some("Operation succeeded");

pub(crate) async fn create(
    conn: &mut Connection,
    settings: &Settings,
    instance: &mut ServiceInstance,
) -> ApiResult<()> {
    check_name(conn, instance).await?;
    let most = settings.limits.service_instances_per_space;
    if service_instance::count_in_space(conn, &instance.space_guid).await? >= i64::from(most) {
        return Err(ApiError::unprocessable(format!(
            "The space has {most} service instances already; a space may have at most {most}"
        )));
    }
    instance.last_operation = Json(LastOperation::done("create", SUCCEEDED));
    db::insert(conn, instance).await?;
    Ok(())
}

/// Stores what a request changed in an instance.
pub(crate) async fn update(conn: &mut Connection, instance: &mut ServiceInstance) -> ApiResult<()> {
    check_name(conn, instance).await?;
    instance.last_operation = Json(LastOperation::done("update", SUCCEEDED));
    instance.touch();
    db::update(conn, instance).await?;
    Ok(())
}

/// Seals new credentials of an instance.
pub(crate) fn set_credentials(
    keys: &Keyring,
    instance: &mut ServiceInstance,
    credentials: Option<&OrderedJson>,
) -> ApiResult<()> {
    let guid = &instance.guid;
    let sealed = credentials.map(|json| keys.seal(guid, &json.text()));
    instance.credentials = sealed.transpose()?;
    Ok(())
}

/// Opens the credentials of an instance.
pub(crate) fn credentials(
    keys: &Keyring,
    instance: &ServiceInstance,
) -> ApiResult<Option<OrderedJson>> {
    let Some(sealed) = &instance.credentials else {
        return Ok(None);
    };
    let text = keys.open(&instance.guid, sealed)?;
    let read = serde_json::from_str(&text).map_err(anyhow::Error::from)?;
    Ok(Some(read))
}

async fn check_name(conn: &mut Connection, instance: &ServiceInstance) -> ApiResult<()> {
    let name = &instance.name;
    match service_instance::by_name(conn, &instance.space_guid, name).await? {
        Some(other) if other.guid != instance.guid => Err(ApiError::unprocessable(format!(
            "The service instance name is taken: {name}."
        ))),
        _ => Ok(()),
    }
}

/// Removes an instance. The events are recorded in the name of `actor`.
pub(crate) async fn delete(
    tx: &mut Change,
    actor: Target<'_>,
    instance: &ServiceInstance,
    space: &Space,
) -> ApiResult<Trail> {
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
