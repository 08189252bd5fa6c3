//! The organizations that may use a plan that is not public.

use super::service_plan::ServicePlan;
use super::{Condition, Connection, Select, delete, execute, insert, rows};
use std::collections::BTreeSet;

rows! {
    ServicePlanVisibility in "service_plan_visibilities" { service_plan_guid: String, organization_guid: String }
}

/// Selects the organizations to which a plan is visible.
pub(crate) fn organizations_of(plan: &str) -> Condition {
    Condition::new(
        "guid IN (SELECT organization_guid FROM service_plan_visibilities WHERE service_plan_guid = ?)",
        [plan.into()],
    )
}

/// Lets an organization use a plan. Returns the new row, or `None` if the organization may use it already.
pub(crate) async fn add(
    conn: &mut Connection,
    plan: &str,
    organization: &str,
) -> sqlx::Result<Option<ServicePlanVisibility>> {
    if find(conn, plan, organization).await?.is_some() {
        return Ok(None);
    }
    let visibility = ServicePlanVisibility {
        service_plan_guid: plan.to_owned(),
        organization_guid: organization.to_owned(),
        ..ServicePlanVisibility::fresh()
    };
    insert(conn, &visibility).await?;
    Ok(Some(visibility))
}

pub(crate) async fn find(
    conn: &mut Connection,
    plan: &str,
    organization: &str,
) -> sqlx::Result<Option<ServicePlanVisibility>> {
    Select::new()
        .is("service_plan_guid", plan)
        .is("organization_guid", organization)
        .first(conn)
        .await
}

pub(crate) async fn remove(
    conn: &mut Connection,
    visibility: &ServicePlanVisibility,
) -> sqlx::Result<bool> {
    delete::<ServicePlanVisibility>(conn, &visibility.guid).await
}

/// Returns whether a plan may be used in a space: it is active, and public, or its broker belongs to the space, or the space's
/// organization may use it.
pub(crate) async fn is_usable_in(
    conn: &mut Connection,
    plan: &str,
    space: &str,
    organization: &str,
) -> sqlx::Result<bool> {
    let usable = "active = 1 AND (is_public = 1
        OR guid IN (SELECT service_plan_guid FROM service_plan_visibilities WHERE organization_guid = ?)
        OR service_offering_guid IN (SELECT o.guid FROM service_offerings o JOIN service_brokers b ON b.guid = o.service_broker_guid WHERE b.space_guid = ?))";
    Select::new()
        .is("guid", plan)
        .and(usable, [organization.into(), space.into()])
        .exists::<ServicePlan>(conn)
        .await
}

/// Returns those of some plans that single organizations may use.
pub(crate) async fn restricted(
    conn: &mut Connection,
    plans: &[ServicePlan],
) -> sqlx::Result<BTreeSet<String>> {
    let guids = plans.iter().map(|plan| plan.guid.clone());
    let found: Vec<ServicePlanVisibility> = Select::new()
        .any("service_plan_guid", guids)
        .all_readable(conn)
        .await?;
    Ok(found.into_iter().map(|row| row.service_plan_guid).collect())
}

/// Forgets which organizations may use a plan.
pub(crate) async fn clear(conn: &mut Connection, plan: &str) -> sqlx::Result<()> {
    let sql = "DELETE FROM service_plan_visibilities WHERE service_plan_guid = $1";
    execute(conn, sql, &[plan.into()]).await.map(drop)
}
