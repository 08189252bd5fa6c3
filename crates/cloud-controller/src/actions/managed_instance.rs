//! Verbs of managed service instances: create, change and remove them at their brokers.
//!
//! A request stores what is wanted and a job; the job calls the broker. While an operation is under way, nothing else changes the
//! instance, except that it can be deleted while it is being created. The texts are those of the original.

mod call;

pub(super) use call::{prepare_create, prepare_delete, recorded, settle_create, settle_delete};

use super::audit::{self, Target};
use super::broker_call::progress::note;
use super::broker_call::{Made, Subject, Task};
use super::job::{CREATE_SERVICE_INSTANCE, DELETE_SERVICE_INSTANCE, enqueue_for};
use super::managed_binding::{self, Removal};
use super::{orphan, service_instance, service_route_binding};
use crate::change::Change;
use crate::controller::Settings;
use crate::db::service_broker::BrokerState;
use crate::db::service_instance::{
    self as rows, CREATE, DELETE, FAILED, IN_PROGRESS, INITIAL, LastOperation, ServiceInstance,
    UPDATE,
};
use crate::db::space::Space;
use crate::db::{self, Connection, Json, Trail, job, service_instance_share as shares};
use crate::error::{ApiError, ApiResult};
use crate::quota;
use cc_rules::ordered_json::OrderedJson;
use serde_json::{Value, json};

/// The type of an instance as the resource of a job.
pub(super) const RESOURCE: &str = "service_instances";

/// Stores a new instance of a plan, and the job that makes it. An instance of the same name whose creation failed is replaced. Returns
/// the job.
pub(crate) async fn create(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    instance: &mut ServiceInstance,
    task: Task,
) -> ApiResult<String> {
    let subject = Subject::of(tx, instance.clone()).await?;
    if subject.broker.state != BrokerState::Available {
        return Err(ApiError::unprocessable(
            "The service instance cannot be created because there is an operation in progress for the service broker.",
        ));
    }
    replace_failed(tx, settings, actor, instance).await?;
    service_instance::check_name(tx, instance).await?;
    service_instance::check_number(tx, settings, &instance.space_guid).await?;
    quota::services::check_instance(tx, &subject.space, &subject.plan).await?;
    instance
        .maintenance_info
        .clone_from(&subject.plan.maintenance_info);
    instance.last_operation = Json(LastOperation::initial(CREATE));
    db::insert(tx, instance).await?;
    let guid = instance.guid.as_str();
    let input = task.sealed(&settings.keys, guid)?;
    enqueue_for(tx, actor, CREATE_SERVICE_INSTANCE, (RESOURCE, guid), input).await
}

/// Removes the instance of the same name whose creation failed. Its broker may have it.
async fn replace_failed(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    instance: &ServiceInstance,
) -> ApiResult<()> {
    let (space, name) = (&instance.space_guid, &instance.name);
    let Some(old) = rows::by_name(tx, space, name).await? else {
        return Ok(());
    };
    if !old.is_managed() || !old.last_operation.0.is(CREATE, FAILED) {
        return Ok(());
    }
    let subject = Subject::of(tx, old).await?;
    orphan::of_instance(tx, &settings.keys, actor, &subject).await?;
    db::delete::<ServiceInstance>(tx, &subject.instance.guid).await?;
    Ok(())
}

/// Begins to remove an instance: a job removes its bindings and shares, and then the instance at its broker. Returns the job.
async fn begin_delete(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    instance: &mut ServiceInstance,
) -> ApiResult<String> {
    let guid = instance.guid.clone();
    note(tx, instance, (DELETE, IN_PROGRESS), None).await?;
    job::hasten(tx, CREATE_SERVICE_INSTANCE, &guid).await?;
    let input = Task::new(Value::Null, None).sealed(&settings.keys, &guid)?;
    let resource = ("service_instance", guid.as_str());
    enqueue_for(tx, actor, DELETE_SERVICE_INSTANCE, resource, input).await
}

/// Begins to remove an instance at a user's request. A request that is repeated gets the same job. It is refused while the instance is
/// changed, or before its broker has the request to make it.
pub(crate) async fn request_delete(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    instance: &mut ServiceInstance,
) -> ApiResult<String> {
    if let Some(job) = job::open_of(tx, DELETE_SERVICE_INSTANCE, &instance.guid).await? {
        return Ok(job.guid);
    }
    if stops_deletion(&instance.last_operation.0) {
        return Err(ApiError::unprocessable(
            "There is an operation in progress for the service instance.",
        ));
    }
    begin_delete(tx, settings, actor, instance).await
}

fn stops_deletion(operation: &LastOperation) -> bool {
    let is_unsent = operation.is(CREATE, INITIAL);
    is_unsent || operation.does(UPDATE) || operation.does(DELETE)
}

/// Removes an instance that is to be removed with something above it, such as its space. It is called again until it returns
/// [`Removal::Gone`]. A removal that has failed since `since` counts.
pub(super) async fn remove(
    tx: &mut Change,
    settings: &Settings,
    actor: Target<'_>,
    (mut instance, since): (ServiceInstance, i64),
) -> ApiResult<Removal> {
    let guid = instance.guid.as_str();
    if job::open_of(tx, DELETE_SERVICE_INSTANCE, guid)
        .await?
        .is_some()
    {
        return Ok(Removal::Waiting);
    }
    let operation = &instance.last_operation.0;
    if operation.is(DELETE, FAILED) && operation.updated_at >= since {
        let text = operation.description.clone().unwrap_or_default();
        return Ok(Removal::Failed(text));
    }
    if operation.does(UPDATE) {
        return Ok(Removal::Waiting);
    }
    begin_delete(tx, settings, actor, &mut instance).await?;
    Ok(Removal::Waiting)
}

/// Removes an instance and its bindings here, and leaves its broker alone.
pub(crate) async fn purge(
    tx: &mut Change,
    actor: Target<'_>,
    instance: &ServiceInstance,
    space: &Space,
) -> ApiResult<Trail> {
    managed_binding::purge_of_instance(tx, actor, instance, space).await?;
    service_route_binding::delete_of_instance(tx, actor, instance, space).await?;
    unshare_all(tx, actor, instance, space).await?;
    db::delete::<ServiceInstance>(tx, &instance.guid).await?;
    tracing::info!(guid = instance.guid, "service-instance-purged");
    record(tx, actor, "purge", (instance, space), &Value::Null).await
}

/// Ends all shares of an instance. Its bindings in these spaces are gone.
async fn unshare_all(
    tx: &mut Change,
    actor: Target<'_>,
    instance: &ServiceInstance,
    space: &Space,
) -> ApiResult<()> {
    for target in shares::spaces(tx, &instance.guid).await? {
        shares::remove(tx, &instance.guid, &target).await?;
        audit::also(unshared(tx, actor, (instance, space), &target).await?);
    }
    Ok(())
}

/// Records that an instance is not shared with a space any more.
pub(crate) async fn unshared(
    conn: &mut Connection,
    actor: Target<'_>,
    (instance, space): (&ServiceInstance, &Space),
    target_space: &str,
) -> ApiResult<Trail> {
    let kind = "audit.service_instance.unshare";
    let data = json!({ "target_space_guid": target_space });
    audit::record_of(conn, actor, kind, target(instance), space, data).await
}

/// Returns a managed instance as the target of an event.
pub(crate) fn target(instance: &ServiceInstance) -> Target<'_> {
    (&instance.guid, "service_instance", &instance.name)
}

/// Records what was done with an instance.
pub(crate) async fn record(
    conn: &mut Connection,
    actor: Target<'_>,
    verb: &str,
    (instance, space): (&ServiceInstance, &Space),
    request: &Value,
) -> ApiResult<Trail> {
    let kind = format!("audit.service_instance.{verb}");
    let data = json!({ "request": request });
    audit::record_of(conn, actor, &kind, target(instance), space, data).await
}

pub(super) async fn space_of(conn: &mut Connection, guid: &str) -> ApiResult<Space> {
    let space = db::by_guid::<Space>(conn, guid).await?;
    space.ok_or_else(|| ApiError::not_found("Space"))
}

/// Returns a version of a plan as brokers get it.
pub(super) fn version_json(info: &osb::MaintenanceInfo) -> OrderedJson {
    let text = |key: &str, value: &str| (key.to_owned(), OrderedJson::Text(value.to_owned()));
    let mut pairs = vec![text("version", &info.version)];
    if let Some(description) = &info.description {
        pairs.push(text("description", description));
    }
    OrderedJson::Object(pairs)
}

/// Keeps what the broker returned about an instance.
pub(super) fn keep(instance: &mut ServiceInstance, made: Made) {
    if let Some(url) = made.dashboard_url {
        instance.dashboard_url = Some(url);
    }
    if let Some(metadata) = made.metadata {
        instance.broker_metadata = Some(Json(metadata));
    }
}
