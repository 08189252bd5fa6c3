//! Stores the catalog of a broker: its offerings and plans become those of the catalog.
//!
//! All rules are checked before the first row changes. A plan that the catalog no longer has is removed, or deactivated while it has
//! instances; an offering without plans is removed. Each change leaves an event whose actor is the broker.

use super::calls::{Clients, Fetched};
use super::{record_client, record_offering, record_plan};
use crate::actions::audit;
use crate::change::Change;
use crate::controller::Cc;
use crate::dashboards;
use crate::db::job::Job;
use crate::db::service_broker::{self, ServiceBroker};
use crate::db::service_offering::{self, ServiceOffering};
use crate::db::service_plan::{self, ServicePlan};
use crate::db::{self, Connection, Json};
use crate::error::{ApiError, ApiResult};
use osb::{Catalog, CatalogErrors, ErrorKind, Offering, Plan};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The step of a job after the results of its calls were looked at.
#[derive(Debug)]
pub(super) enum Stored {
    Done,
    /// The clients of dashboards are claimed now: the job goes on with the UAA.
    Again,
    /// The job fails, and no row was changed.
    Failed(ApiError),
}

/// The number of parts after which a job gives up because the catalog has other dashboards each time.
const MOST_PARTS: i64 = 5;

const IGNORED: &str = "Warning: This broker includes configuration for a dashboard client. Auto-creation of OAuth2 clients has been disabled in this Cloud Foundry instance. The broker catalog has been updated but its dashboard client configuration will be ignored.";

/// Stores what was fetched. Warnings are added to the job.
pub(super) async fn store(
    cc: &Cc,
    tx: &mut Change,
    broker: &ServiceBroker,
    job: &mut Job,
    fetched: Fetched,
) -> ApiResult<Stored> {
    let (catalog, clients) = match fetched {
        Fetched::NotNeeded => return Ok(Stored::Done),
        Fetched::Gone => return Ok(Stored::Failed(super::calls::gone())),
        Fetched::Refused(error) => return Ok(Stored::Failed(refused(&error))),
        Fetched::Invalid(errors) => return Ok(Stored::Failed(invalid(&errors))),
        Fetched::DashboardsFailed(text) => return Ok(Stored::Failed(dashboards::failure(&text))),
        Fetched::Catalog { catalog, clients } => (catalog, clients),
    };
    let offerings = service_offering::of_broker(tx, &broker.guid).await?;
    let mut plans = Vec::new();
    for offering in &offerings {
        plans.extend(service_plan::of_offering(tx, &offering.guid).await?);
    }
    let known = Known { offerings, plans };
    if let Some(error) = problem(cc, tx, broker, &catalog, &known).await? {
        return Ok(Stored::Failed(error));
    }
    match clients {
        Clients::None => {}
        Clients::Ignored => job.warnings.0.push(json!({ "detail": IGNORED })),
        Clients::Unclaimed(existing) => {
            return claim(tx, broker, &catalog, &existing, job.parts).await;
        }
        Clients::Done(changes) => {
            for (client, uri) in changes.created {
                let data = json!({ "secret": "[REDACTED]", "redirect_uri": uri });
                audit::also(record_client(tx, broker, "create", &client, data).await?);
            }
            for client in changes.removed {
                service_broker::release_client(tx, &broker.guid, &client).await?;
                audit::also(record_client(tx, broker, "delete", &client, json!({})).await?);
            }
        }
    }
    for offering in &catalog.offerings {
        store_offering(tx, broker, offering, &known).await?;
    }
    if let Some(warning) = remove_absent(tx, broker, &catalog, &known).await? {
        job.warnings.0.push(json!({ "detail": warning }));
    }
    Ok(Stored::Done)
}

/// The rows of a broker before its catalog is stored.
struct Known {
    offerings: Vec<ServiceOffering>,
    plans: Vec<ServicePlan>,
}

impl Known {
    fn offering(&self, id: &str) -> Option<&ServiceOffering> {
        self.offerings
            .iter()
            .find(|offering| offering.unique_id == id)
    }

    fn offering_of(&self, plan: &ServicePlan) -> Option<&ServiceOffering> {
        let guid = &plan.service_offering_guid;
        self.offerings.iter().find(|other| other.guid == *guid)
    }
}

fn refused(error: &osb::Error) -> ApiError {
    let status = error.kind.platform_status();
    match error.kind {
        ErrorKind::Malformed => ApiError::new(
            status,
            270_021,
            "ServiceBrokerRequestMalformed",
            "The service broker returned an invalid response: expected valid JSON object in body. Please check that the URL points to a valid service broker.",
        ),
        ErrorKind::Rejected => {
            let code = error.status.unwrap_or_default();
            let reason = error.reason;
            ApiError::new(
                status,
                270_020,
                "ServiceBrokerRequestRejected",
                format!(
                    "The service broker rejected the request. Status Code: {code} {reason}. Please check that the URL points to a valid service broker."
                ),
            )
        }
        kind => ApiError::new(status, 10_001, kind.title(), &error.message),
    }
}

fn invalid(errors: &CatalogErrors) -> ApiError {
    ApiError::new(
        502,
        270_012,
        "ServiceBrokerCatalogInvalid",
        format!("Service broker catalog is invalid: {}", errors.text()),
    )
}

/// Returns the error of a catalog that contradicts what is stored, or that the foundation cannot serve.
async fn problem(
    cc: &Cc,
    conn: &mut Connection,
    broker: &ServiceBroker,
    catalog: &Catalog,
    known: &Known,
) -> ApiResult<Option<ApiError>> {
    let mut errors = CatalogErrors::default();
    let (count, most) = (catalog.plans().count(), cc.settings.limits.plans_per_broker);
    if count > most as usize {
        errors.add(format!(
            "The catalog has {count} plans; a catalog may have at most {most}"
        ));
    }
    let mut taken = Vec::new();
    for offering in &catalog.offerings {
        let is_twin = |other: &&ServiceOffering| {
            other.name == offering.name && other.unique_id != offering.id
        };
        for twin in known.offerings.iter().filter(is_twin) {
            if service_offering::has_instances(conn, &twin.guid).await? {
                taken.push(format!("\"{}\"", offering.name));
            }
        }
    }
    if !taken.is_empty() {
        errors.add(format!(
            "Service names must be unique within a broker. Services with names [{}] already exist",
            taken.join(", ")
        ));
    }
    for (offering, plan) in catalog.plans() {
        let moved = known.plans.iter().find_map(|other| {
            let owner = known.offering_of(other)?;
            let is_moved = other.unique_id == plan.id && owner.unique_id != offering.id;
            is_moved.then_some((other, owner))
        });
        if let Some((other, owner)) = moved {
            errors.add(format!(
                "Plan ids must be unique. Unable to register plan with id '{}' (plan name '{}', service name '{}') because it uses the same id as an existing plan (plan name '{}', service name '{}', broker name '{}')",
                plan.id, plan.name, offering.name, other.name, owner.name, broker.name
            ));
        }
    }
    if !errors.is_empty() {
        return Ok(Some(invalid(&errors)));
    }
    for offering in &catalog.offerings {
        if offering
            .requires
            .iter()
            .any(|permission| permission == "volume_mount")
        {
            errors.add(format!(
                "Service {} is declared to be a volume mount service but support for volume mount services is disabled.",
                offering.name
            ));
        }
    }
    Ok((!errors.is_empty()).then(|| {
        ApiError::new(
            502,
            270_019,
            "ServiceBrokerCatalogIncompatible",
            format!("Service broker catalog is incompatible: {}", errors.text()),
        )
    }))
}

/// Claims the clients of a catalog's dashboards for its broker. `existing` are those that the UAA has.
async fn claim(
    conn: &mut Connection,
    broker: &ServiceBroker,
    catalog: &Catalog,
    existing: &[String],
    parts: i64,
) -> ApiResult<Stored> {
    let requested: Vec<String> = catalog
        .dashboard_clients()
        .iter()
        .map(|client| client.id.clone())
        .collect();
    let owned = service_broker::owned_clients(conn, &broker.guid, &requested).await?;
    // A client of another broker, or one that somebody else made at the UAA, is not touched.
    let is_foreign = |id: &String| match owned.iter().find(|(other, _)| other == id) {
        Some((_, of_another)) => *of_another,
        None => existing.contains(id),
    };
    let mut errors = CatalogErrors::default();
    for offering in &catalog.offerings {
        let client = offering.dashboard_client.as_ref();
        if client.is_some_and(|client| is_foreign(&client.id)) {
            errors.add_to_offering(&offering.name, "Service dashboard client id must be unique");
        }
    }
    if parts >= MOST_PARTS {
        errors.add("The catalog has other dashboard clients each time it is fetched");
    }
    if !errors.is_empty() {
        return Ok(Stored::Failed(invalid(&errors)));
    }
    for client in &requested {
        service_broker::claim_client(conn, &broker.guid, client).await?;
    }
    Ok(Stored::Again)
}

/// Returns the values of an offering that the catalog decides, as events show them.
fn offering_fields(offering: &ServiceOffering) -> Map<String, Value> {
    fields(json!({
        "label": offering.name,
        "description": offering.description,
        "unique_id": offering.unique_id,
        "active": offering.active,
        "bindable": offering.bindable,
        "tags": offering.tags.0,
        "requires": offering.requires.0,
        "extra": offering.extra.as_ref().map(|extra| &extra.0),
        "plan_updateable": offering.plan_updateable,
        "bindings_retrievable": offering.bindings_retrievable,
        "instances_retrievable": offering.instances_retrievable,
        "allow_context_updates": offering.allow_context_updates,
    }))
}

/// Returns the values of a plan that the catalog decides, as events show them.
fn plan_fields(plan: &ServicePlan) -> Map<String, Value> {
    let schema = |schema: &Option<Json<Value>>| schema.as_ref().map(|schema| schema.0.clone());
    fields(json!({
        "name": plan.name,
        "description": plan.description,
        "unique_id": plan.unique_id,
        "service_guid": plan.service_offering_guid,
        "active": plan.active,
        "free": plan.free,
        "bindable": plan.bindable,
        "plan_updateable": plan.plan_updateable,
        "extra": plan.extra.as_ref().map(|extra| &extra.0),
        "maximum_polling_duration": plan.maximum_polling_duration,
        "maintenance_info": plan.maintenance_info.as_ref().map(|info| &info.0),
        "create_instance_schema": schema(&plan.create_instance_schema),
        "update_instance_schema": schema(&plan.update_instance_schema),
        "create_binding_schema": schema(&plan.create_binding_schema),
    }))
}

fn fields(json: Value) -> Map<String, Value> {
    match json {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Returns the values that differ from those before.
fn changes(before: &Map<String, Value>, after: Map<String, Value>) -> Map<String, Value> {
    let differs = |(key, value): &(String, Value)| before.get(key) != Some(value);
    after.into_iter().filter(differs).collect()
}

async fn store_offering(
    conn: &mut Connection,
    broker: &ServiceBroker,
    wanted: &Offering,
    known: &Known,
) -> ApiResult<()> {
    let before = known.offering(&wanted.id);
    let mut offering = ServiceOffering {
        name: wanted.name.clone(),
        description: wanted.description.clone(),
        service_broker_guid: broker.guid.clone(),
        unique_id: wanted.id.clone(),
        active: true,
        bindable: wanted.bindable,
        tags: Json(wanted.tags.clone()),
        requires: Json(wanted.requires.clone()),
        extra: wanted.metadata.clone().map(Json),
        plan_updateable: wanted.plan_updateable,
        bindings_retrievable: wanted.bindings_retrievable,
        instances_retrievable: wanted.instances_retrievable,
        allow_context_updates: wanted.allow_context_updates,
        ..before.cloned().unwrap_or_else(ServiceOffering::fresh)
    };
    let changed = match before {
        None => {
            db::insert(conn, &offering).await?;
            let data = Value::Object(offering_fields(&offering));
            audit::also(record_offering(conn, broker, "create", &offering, data).await?);
            Map::new()
        }
        Some(before) => changes(&offering_fields(before), offering_fields(&offering)),
    };
    if !changed.is_empty() {
        offering.touch();
        db::update(conn, &offering).await?;
        let data = Value::Object(changed);
        audit::also(record_offering(conn, broker, "update", &offering, data).await?);
    }
    for plan in &wanted.plans {
        store_plan(conn, broker, &offering, plan, known).await?;
    }
    Ok(())
}

async fn store_plan(
    conn: &mut Connection,
    broker: &ServiceBroker,
    offering: &ServiceOffering,
    wanted: &Plan,
    known: &Known,
) -> ApiResult<()> {
    let is_same = |plan: &&ServicePlan| {
        plan.unique_id == wanted.id && plan.service_offering_guid == offering.guid
    };
    let before = known.plans.iter().find(is_same);
    let mut plan = ServicePlan {
        name: wanted.name.clone(),
        description: wanted.description.clone(),
        service_offering_guid: offering.guid.clone(),
        unique_id: wanted.id.clone(),
        active: true,
        free: wanted.free,
        bindable: wanted.bindable,
        plan_updateable: wanted.plan_updateable,
        extra: wanted.metadata.clone().map(Json),
        maximum_polling_duration: wanted.maximum_polling_duration,
        maintenance_info: wanted.maintenance_info.clone().map(Json),
        create_instance_schema: wanted.create_instance.clone().map(Json),
        update_instance_schema: wanted.update_instance.clone().map(Json),
        create_binding_schema: wanted.create_binding.clone().map(Json),
        ..before.cloned().unwrap_or_else(ServicePlan::fresh)
    };
    let Some(before) = before else {
        db::insert(conn, &plan).await?;
        let data = Value::Object(plan_fields(&plan));
        audit::also(record_plan(conn, broker, "create", &plan, data).await?);
        return Ok(());
    };
    let changed = changes(&plan_fields(before), plan_fields(&plan));
    if !changed.is_empty() {
        plan.touch();
        db::update(conn, &plan).await?;
        let data = Value::Object(changed);
        audit::also(record_plan(conn, broker, "update", &plan, data).await?);
    }
    Ok(())
}

/// Removes or deactivates what the catalog no longer has. Returns a warning if plans with instances were deactivated.
async fn remove_absent(
    conn: &mut Connection,
    broker: &ServiceBroker,
    catalog: &Catalog,
    known: &Known,
) -> ApiResult<Option<String>> {
    let mut deactivated: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for plan in &known.plans {
        let Some(offering) = known.offering_of(plan) else {
            continue;
        };
        let is_there = catalog
            .plans()
            .any(|(other, wanted)| wanted.id == plan.unique_id && other.id == offering.unique_id);
        if is_there {
            continue;
        }
        if !service_plan::has_instances(conn, &plan.guid).await? {
            db::delete::<ServicePlan>(conn, &plan.guid).await?;
            audit::also(record_plan(conn, broker, "delete", plan, json!({})).await?);
            continue;
        }
        deactivated
            .entry(&offering.name)
            .or_default()
            .push(&plan.name);
        if plan.active {
            let mut plan = plan.clone();
            plan.active = false;
            plan.touch();
            db::update(conn, &plan).await?;
        }
    }
    for offering in &known.offerings {
        let is_there = |wanted: &Offering| wanted.id == offering.unique_id;
        if catalog.offerings.iter().any(is_there) {
            continue;
        }
        if service_plan::of_offering(conn, &offering.guid)
            .await?
            .is_empty()
        {
            db::delete::<ServiceOffering>(conn, &offering.guid).await?;
            audit::also(record_offering(conn, broker, "delete", offering, json!({})).await?);
        } else if offering.active {
            let mut offering = offering.clone();
            offering.active = false;
            offering.touch();
            db::update(conn, &offering).await?;
        }
    }
    Ok((!deactivated.is_empty()).then(|| warning(&broker.url, &deactivated)))
}

/// Returns the warning about plans that were deactivated, by offering.
fn warning(url: &str, deactivated: &BTreeMap<&str, Vec<&str>>) -> String {
    let mut text = format!(
        "Warning: Service plans are missing from the broker's catalog ({url}/v2/catalog) but can not be removed from Cloud Foundry while instances exist. The plans have been deactivated to prevent users from attempting to provision new instances of these plans. The broker should continue to support bind, unbind, and delete for existing instances; if these operations fail contact your broker provider.\n"
    );
    for (offering, plans) in deactivated {
        let mut plans = plans.clone();
        plans.sort_unstable();
        text.push_str(&format!(
            "\nService Offering: {offering}\nPlans deactivated: {}\n",
            plans.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_recorded() {
        let before = fields(json!({ "a": 1, "b": [1], "c": null }));
        let after = fields(json!({ "a": 1, "b": [2], "c": null, "d": true }));
        let changed = Value::Object(changes(&before, after));
        assert_eq!(changed, json!({ "b": [2], "d": true }));
    }

    #[test]
    fn the_warning_lists_plans_by_offering() {
        let deactivated = BTreeMap::from([("sql", vec!["small", "big"]), ("queue", vec!["one"])]);
        let text = warning("http://broker", &deactivated);
        let end = "\nService Offering: queue\nPlans deactivated: one\n\nService Offering: sql\nPlans deactivated: big, small\n";
        assert!(text.ends_with(end), "{text}");
        assert!(text.contains("(http://broker/v2/catalog)"), "{text}");
    }

    #[test]
    fn errors_of_calls_have_the_codes_of_the_original() {
        let error = |body: &str| Catalog::check(&serde_json::from_str(body).unwrap()).unwrap_err();
        let error = invalid(&error("{}"));
        assert_eq!(
            (error.status.as_u16(), error.errors[0].code),
            (502, 270_012)
        );
        let detail = &error.errors[0].detail;
        assert!(detail.starts_with("Service broker catalog is invalid: \nService broker must"));
    }
}
