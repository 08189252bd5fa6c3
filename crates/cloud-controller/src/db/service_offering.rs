//! Offerings of services, as the catalogs of brokers have them.

use super::service_broker::ServiceBroker;
use super::service_instance::ServiceInstance;
use super::{Condition, Connection, Json, ListCondition, Select, rows};
use cc_rules::metadata::Metadata;
use serde_json::Value;
use std::collections::BTreeSet;

rows! {
    ServiceOffering in "service_offerings" {
        name: String, description: String, service_broker_guid: String,
        /// The id in the broker's catalog.
        unique_id: String,
        /// Whether the catalog still has the offering.
        active: bool,
        bindable: bool, tags: Json<Vec<String>>, requires: Json<Vec<String>>,
        /// The metadata of the catalog.
        extra: Option<Json<Value>>,
        plan_updateable: bool, bindings_retrievable: bool, instances_retrievable: bool, allow_context_updates: bool, metadata: Json<Metadata>,
    }
}

impl ServiceOffering {
    /// Returns whether the catalog permits that instances are shared between spaces.
    pub(crate) fn is_shareable(&self) -> bool {
        let extra = self.extra.as_ref().map(|extra| &extra.0);
        extra.and_then(|extra| extra.get("shareable")) == Some(&Value::Bool(true))
    }

    /// Returns whether the offering requires a permission, such as `syslog_drain`.
    pub(crate) fn requires(&self, permission: &str) -> bool {
        self.requires.0.iter().any(|other| other == permission)
    }
}

/// The condition for the offerings of brokers with one of some names.
pub(crate) const OF_BROKER_NAMES: ListCondition = ListCondition(
    "service_broker_guid IN (SELECT guid FROM service_brokers WHERE name IN LIST(?))",
);

/// Selects the offerings with a plan that may be used in one of some organizations: public ones, those that an organization may use,
/// and those of brokers of its spaces.
pub(crate) fn usable_in_organizations(organizations: &[String]) -> Condition {
    Condition::new(
        "(guid IN (SELECT service_offering_guid FROM service_plans WHERE is_public = 1
            OR guid IN (SELECT service_plan_guid FROM service_plan_visibilities WHERE organization_guid IN LIST(?)))
        OR service_broker_guid IN (SELECT guid FROM service_brokers WHERE space_guid IN (SELECT guid FROM spaces WHERE organization_guid IN LIST(?))))",
        [organizations.into(), organizations.into()],
    )
}

/// Selects the offerings with a plan that may be used in one of some spaces.
pub(crate) fn usable_in_spaces(spaces: &[String]) -> Condition {
    Condition::new(
        "(guid IN (SELECT service_offering_guid FROM service_plans WHERE is_public = 1
            OR guid IN (SELECT service_plan_guid FROM service_plan_visibilities WHERE organization_guid IN (SELECT organization_guid FROM spaces WHERE guid IN LIST(?))))
        OR service_broker_guid IN (SELECT guid FROM service_brokers WHERE space_guid IN LIST(?)))",
        [spaces.into(), spaces.into()],
    )
}

pub(crate) async fn of_broker(
    conn: &mut Connection,
    broker: &str,
) -> sqlx::Result<Vec<ServiceOffering>> {
    let select = Select::new().is("service_broker_guid", broker);
    select.all(conn).await
}

/// Returns whether an instance of one of the offering's plans exists.
pub(crate) async fn has_instances(conn: &mut Connection, offering: &str) -> sqlx::Result<bool> {
    let of_offering =
        "service_plan_guid IN (SELECT guid FROM service_plans WHERE service_offering_guid = ?)";
    Select::new()
        .and(of_offering, [offering.into()])
        .exists::<ServiceInstance>(conn)
        .await
}

/// Returns the oldest instance of one of the offering's plans.
pub(crate) async fn first_instance(
    conn: &mut Connection,
    offering: &str,
) -> sqlx::Result<Option<ServiceInstance>> {
    let of_offering =
        "service_plan_guid IN (SELECT guid FROM service_plans WHERE service_offering_guid = ?)";
    Select::new()
        .and(of_offering, [offering.into()])
        .first(conn)
        .await
}

/// Returns the brokers of some offerings.
pub(crate) async fn brokers(
    conn: &mut Connection,
    offerings: &[ServiceOffering],
) -> sqlx::Result<Vec<ServiceBroker>> {
    let guids: BTreeSet<&str> = offerings
        .iter()
        .map(|offering| offering.service_broker_guid.as_str())
        .collect();
    Select::new().any("guid", guids).all_readable(conn).await
}
