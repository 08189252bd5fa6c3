//! Verbs of the shares of managed service instances: let apps of other spaces be bound to an instance, and end that.

use super::audit::{self, Target};
use super::broker_call::Subject;
use super::managed_instance;
use crate::change::Change;
use crate::db::organization::Organization;
use crate::db::service_instance::{self, CREATE, DELETE, FAILED, ServiceInstance};
use crate::db::space::Space;
use crate::db::{self, Connection, Trail, service_instance_share, service_plan_visibility};
use crate::error::{ApiError, ApiResult};
use serde_json::json;

/// Shares an instance with spaces that the caller has found. The checks have the order of the original.
pub(crate) async fn share(
    tx: &mut Change,
    actor: Target<'_>,
    (instance, space): (&ServiceInstance, &Space),
    targets: &[Space],
) -> ApiResult<Trail> {
    check(tx, instance, targets).await?;
    for target in targets {
        service_instance_share::add(tx, &instance.guid, &target.guid).await?;
    }
    let guids: Vec<&str> = targets.iter().map(|target| target.guid.as_str()).collect();
    let kind = "audit.service_instance.share";
    let data = json!({ "target_space_guids": guids });
    let target = managed_instance::target(instance);
    audit::record_of(tx, actor, kind, target, space, data).await
}

async fn check(
    conn: &mut Connection,
    instance: &ServiceInstance,
    targets: &[Space],
) -> ApiResult<()> {
    let url = instance.route_service_url.as_deref().unwrap_or_default();
    if !url.is_empty() {
        return Err(ApiError::unprocessable("Route services cannot be shared."));
    }
    if !instance.is_managed() {
        return Err(ApiError::unprocessable(
            "User-provided services cannot be shared.",
        ));
    }
    let subject = Subject::of(conn, instance.clone()).await?;
    let (plan, offering) = (&subject.plan, &subject.offering);
    if offering.requires("route_forwarding") {
        return Err(ApiError::unprocessable("Route services cannot be shared."));
    }
    if !offering.is_shareable() {
        return Err(ApiError::unprocessable(format!(
            "The {} service does not support service instance sharing.",
            offering.name
        )));
    }
    let name = &instance.name;
    if targets.iter().any(|t| t.guid == instance.space_guid) {
        return Err(ApiError::unprocessable(format!(
            "Unable to share service instance '{name}' with space '{}'. Service instances cannot be shared into the space where they were created.",
            instance.space_guid
        )));
    }
    if !plan.active {
        return Err(ApiError::unprocessable(format!(
            "The service instance could not be shared as the {} plan is inactive.",
            plan.name
        )));
    }
    for target in targets {
        check_target(conn, &subject, target).await?;
    }
    let operation = &instance.last_operation.0;
    if operation.is(CREATE, FAILED) {
        return Err(ApiError::new(
            404,
            60004,
            "ServiceInstanceNotFound",
            format!("The service instance could not be found: {name}"),
        ));
    }
    if operation.does(CREATE) {
        return Err(ApiError::unprocessable(
            "Service instance is currently being created. It can be shared after its creation succeeded.",
        ));
    }
    if operation.does(DELETE) {
        return Err(ApiError::unprocessable(
            "The service instance is getting deleted.",
        ));
    }
    Ok(())
}

/// Refuses a space in which the plan may not be used, or in which the name of the instance is taken.
async fn check_target(conn: &mut Connection, subject: &Subject, target: &Space) -> ApiResult<()> {
    let (plan, organization) = (&subject.plan, &target.organization_guid);
    if !service_plan_visibility::is_usable_in(conn, &plan.guid, &target.guid, organization).await? {
        let found = db::by_guid::<Organization>(conn, organization).await?;
        let organization = found.map(|row| row.name).unwrap_or_default();
        return Err(ApiError::unprocessable(format!(
            "Access to service {} and plan {} is not enabled in {organization}/{}.",
            subject.offering.name, plan.name, target.name
        )));
    }
    let name = &subject.instance.name;
    let own = service_instance::by_name(conn, &target.guid, name).await?;
    if own.is_some() {
        return Err(ApiError::unprocessable(format!(
            "A service instance called {name} already exists in {}.",
            target.name
        )));
    }
    let shared = service_instance::usable_by_name(conn, &target.guid, name).await?;
    if shared.is_some() {
        return Err(ApiError::unprocessable(format!(
            "A service instance called {name} has already been shared with {}.",
            target.name
        )));
    }
    Ok(())
}

/// Ends the share of an instance with a space, in which it has no bindings any more. A share that does not exist is ended as well, and
/// recorded, as in the original.
pub(crate) async fn unshare(
    tx: &mut Change,
    actor: Target<'_>,
    (instance, space): (&ServiceInstance, &Space),
    target_space: &str,
) -> ApiResult<Trail> {
    service_instance_share::remove(tx, &instance.guid, target_space).await?;
    managed_instance::unshared(tx, actor, (instance, space), target_space).await
}
