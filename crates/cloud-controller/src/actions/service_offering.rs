//! Verbs of service offerings: remove. The jobs of brokers create and change them.

use super::audit::{self, Place, Target};
use super::managed_instance;
use crate::change::Change;
use crate::db::service_offering::{self, ServiceOffering};
use crate::db::service_plan;
use crate::db::space::Space;
use crate::db::{self, Trail};
use crate::error::{ApiError, ApiResult};
use serde_json::json;

/// Removes an offering. Without `purge` it must have no plans. With it, the offering, its plans, their instances and bindings are
/// removed here, and the broker is not called.
pub(crate) async fn delete(
    tx: &mut Change,
    actor: Target<'_>,
    offering: &ServiceOffering,
    purge: bool,
) -> ApiResult<Trail> {
    if purge {
        while let Some(instance) = service_offering::first_instance(tx, &offering.guid).await? {
            let Some(space) = db::by_guid::<Space>(tx, &instance.space_guid).await? else {
                break;
            };
            audit::also(managed_instance::purge(tx, actor, &instance, &space).await?);
        }
    } else if !service_plan::of_offering(tx, &offering.guid)
        .await?
        .is_empty()
    {
        return Err(ApiError::unprocessable(
            "Please delete the service_plans associations for your services.",
        ));
    }
    db::delete::<ServiceOffering>(tx, &offering.guid).await?;
    let target = (offering.guid.as_str(), "service", offering.name.as_str());
    let request = match purge {
        true => json!({ "purge": true }),
        false => json!({}),
    };
    let data = json!({ "request": request });
    audit::record_of(
        tx,
        actor,
        "audit.service.delete",
        target,
        Place::Platform,
        data,
    )
    .await
}
