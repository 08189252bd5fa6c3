//! Plans of services, as the catalogs of brokers have them.

use super::service_instance::ServiceInstance;
use super::service_offering::ServiceOffering;
use super::{Condition, Connection, Json, ListCondition, Select, by_guid, rows};
use cc_rules::metadata::Metadata;
use osb::MaintenanceInfo;
use serde_json::Value;
use std::collections::BTreeSet;

rows! {
    ServicePlan in "service_plans" {
        name: String, description: String, service_offering_guid: String,
        /// The id in the broker's catalog.
        unique_id: String,
        /// Whether the catalog still has the plan.
        active: bool,
        /// Whether everybody may use the plan.
        is_public: bool,
        free: bool,
        /// `None`: the offering decides.
        bindable: Option<bool>, plan_updateable: Option<bool>,
        /// The metadata of the catalog.
        extra: Option<Json<Value>>,
        /// The longest time for which an operation is polled, in seconds. `None`: the platform decides.
        maximum_polling_duration: Option<i64>,
        maintenance_info: Option<Json<MaintenanceInfo>>,
        create_instance_schema: Option<Json<Value>>, update_instance_schema: Option<Json<Value>>, create_binding_schema: Option<Json<Value>>,
        metadata: Json<Metadata>,
    }
}

impl ServicePlan {
    pub(crate) fn is_bindable(&self, offering: &ServiceOffering) -> bool {
        self.bindable.unwrap_or(offering.bindable)
    }

    pub(crate) fn is_updateable(&self, offering: &ServiceOffering) -> bool {
        self.plan_updateable.unwrap_or(offering.plan_updateable)
    }
}

/// The conditions for plans by what belongs to them, or what they belong to.
pub(crate) const OF_BROKERS: ListCondition = ListCondition(
    "service_offering_guid IN (SELECT guid FROM service_offerings WHERE service_broker_guid IN LIST(?))",
);
pub(crate) const OF_BROKER_NAMES: ListCondition = ListCondition(
    "service_offering_guid IN (SELECT o.guid FROM service_offerings o JOIN service_brokers b ON b.guid = o.service_broker_guid WHERE b.name IN LIST(?))",
);
pub(crate) const OF_OFFERING_NAMES: ListCondition = ListCondition(
    "service_offering_guid IN (SELECT guid FROM service_offerings WHERE name IN LIST(?))",
);
pub(crate) const OF_INSTANCES: ListCondition = ListCondition(
    "guid IN (SELECT service_plan_guid FROM service_instances WHERE guid IN LIST(?))",
);

/// Selects the plans that may be used in one of some organizations: public ones, those that an organization may use, and those of
/// brokers of its spaces.
pub(crate) fn usable_in_organizations(organizations: &[String]) -> Condition {
    Condition::new(
        "(is_public = 1 OR guid IN (SELECT service_plan_guid FROM service_plan_visibilities WHERE organization_guid IN LIST(?))
        OR service_offering_guid IN (SELECT o.guid FROM service_offerings o JOIN service_brokers b ON b.guid = o.service_broker_guid
            WHERE b.space_guid IN (SELECT guid FROM spaces WHERE organization_guid IN LIST(?))))",
        [organizations.into(), organizations.into()],
    )
}

/// Selects the plans that may be used in one of some spaces.
pub(crate) fn usable_in_spaces(spaces: &[String]) -> Condition {
    Condition::new(
        "(is_public = 1 OR guid IN (SELECT service_plan_guid FROM service_plan_visibilities
            WHERE organization_guid IN (SELECT organization_guid FROM spaces WHERE guid IN LIST(?)))
        OR service_offering_guid IN (SELECT o.guid FROM service_offerings o JOIN service_brokers b ON b.guid = o.service_broker_guid WHERE b.space_guid IN LIST(?)))",
        [spaces.into(), spaces.into()],
    )
}

/// Returns the offerings of some plans.
pub(crate) async fn offerings(
    conn: &mut Connection,
    plans: &[ServicePlan],
) -> sqlx::Result<Vec<ServiceOffering>> {
    let guids: BTreeSet<&str> = plans
        .iter()
        .map(|plan| plan.service_offering_guid.as_str())
        .collect();
    Select::new().any("guid", guids).all_readable(conn).await
}

pub(crate) async fn of_offering(
    conn: &mut Connection,
    offering: &str,
) -> sqlx::Result<Vec<ServicePlan>> {
    let select = Select::new().is("service_offering_guid", offering);
    select.all(conn).await
}

pub(crate) async fn has_instances(conn: &mut Connection, plan: &str) -> sqlx::Result<bool> {
    Select::new()
        .is("service_plan_guid", plan)
        .exists::<ServiceInstance>(conn)
        .await
}

/// Returns the plans of some instances.
pub(crate) async fn of_instances(
    conn: &mut Connection,
    instances: &[ServiceInstance],
) -> sqlx::Result<Vec<ServicePlan>> {
    let guids: BTreeSet<&str> = instances
        .iter()
        .filter_map(|instance| instance.service_plan_guid.as_deref())
        .collect();
    Select::new().any("guid", guids).all_readable(conn).await
}

/// Returns the offering of a plan.
pub(crate) async fn offering(
    conn: &mut Connection,
    plan: &ServicePlan,
) -> sqlx::Result<Option<ServiceOffering>> {
    by_guid(conn, &plan.service_offering_guid).await
}
