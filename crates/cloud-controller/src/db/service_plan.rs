//! Plans of services, as the catalogs of brokers have them.

use super::service_instance::ServiceInstance;
use super::service_offering::ServiceOffering;
use super::{Connection, Json, Select, by_guid, rows};
use cc_rules::metadata::Metadata;
use osb::MaintenanceInfo;
use serde_json::Value;

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

/// Returns the offering of a plan.
pub(crate) async fn offering(
    conn: &mut Connection,
    plan: &ServicePlan,
) -> sqlx::Result<Option<ServiceOffering>> {
    by_guid(conn, &plan.service_offering_guid).await
}
