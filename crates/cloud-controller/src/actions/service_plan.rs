//! Verbs of service plans: remove. The jobs of brokers create and change them.

use super::audit::{self, Place, Target};
use crate::db::service_plan::{self, ServicePlan};
use crate::db::{self, Connection, Trail};
use crate::error::{ApiError, ApiResult};
use serde_json::json;

/// Removes a plan without instances.
pub(crate) async fn delete(
    conn: &mut Connection,
    actor: Target<'_>,
    plan: &ServicePlan,
) -> ApiResult<Trail> {
    if service_plan::has_instances(conn, &plan.guid).await? {
        return Err(ApiError::unprocessable(
            "Please delete the service_instances associations for your service_plans.",
        ));
    }
    db::delete::<ServicePlan>(conn, &plan.guid).await?;
    let target = (plan.guid.as_str(), "service_plan", plan.name.as_str());
    let data = json!({ "request": {} });
    let kind = "audit.service_plan.delete";
    audit::record_of(conn, actor, kind, target, Place::Platform, data).await
}
